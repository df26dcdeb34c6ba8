"""`make fuzz`: looks for bytes that break a parser, guided by what they make run.

    python -m tests.fuzz [--seconds N] [TARGET...]

Each target runs in a process of its own. What breaks it is printed, and belongs among its seeds.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_RUNS = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


def look(name: str, seconds: float, scratch: Path) -> None:
    """One target, in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["handfast_tunnel", "handfast_operator"]):
        from tests.fuzz.targets import TARGETS

    target, seeds = TARGETS[name]
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={seconds:g}", "-max_len=4096", f"-artifact_prefix={scratch}/"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


def look_apart(name: str, seconds: float) -> bool:
    """Whether nothing was found."""
    with tempfile.TemporaryDirectory(prefix="handfast-fuzz-") as scratch:
        again = [sys.executable, "-m", "tests.fuzz", f"--seconds={seconds:g}", f"--scratch={scratch}", name]
        done = subprocess.run(again, capture_output=True, text=True)
        found = [path.read_bytes() for path in Path(scratch).glob("*-*")]
    runs, coverage = _RUNS.search(done.stderr), _COVERAGE.findall(done.stderr)
    if not done.returncode and runs and not found:
        print(f"{name}: {int(runs[1]):,} runs, {coverage[-1]} places reached", flush=True)
        return True
    print(f"{done.stderr}\n{done.stdout}\n{name}: FAILED for {found}", flush=True)
    return False


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default 60)")
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    if chosen.scratch:
        look(chosen.targets[0], chosen.seconds, chosen.scratch)
        return 0
    from tests.fuzz.targets import TARGETS

    found = [name for name in chosen.targets or TARGETS if not look_apart(name, chosen.seconds)]
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
