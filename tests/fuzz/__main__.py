"""`make fuzz`: looks for bytes that break a parser, guided by what they make run.

    python -m tests.fuzz [--seconds N] [TARGET...]

Each target runs in a process of its own: in Python by atheris, and what there is of it in Rust by libFuzzer,
where cargo is. What breaks it is printed, and belongs among its seeds.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

_RUNS = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_COVERAGE = re.compile(r"cov: (\d+)")


def look(name: str, seconds: float, scratch: Path) -> None:
    """One target, in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=["handfast_tunnel", "handfast_operator"]):
        from tests.fuzz.targets import TARGETS

    target, seeds = TARGETS[name]
    atheris.Setup([sys.argv[0], *libfuzzer_options(seeds, seconds, scratch)], target)
    atheris.Fuzz()


def libfuzzer_options(seeds: Sequence[bytes], seconds: float, scratch: Path) -> list[str]:
    """How long, and from what on; what breaks a target is left in `scratch`."""
    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    return [f"-max_total_time={seconds:g}", "-max_len=4096", f"-artifact_prefix={scratch}/", str(corpus)]


def look_in_python(name: str, seconds: float) -> bool:
    with tempfile.TemporaryDirectory(prefix="handfast-fuzz-") as scratch:
        again = [sys.executable, "-m", "tests.fuzz", f"--seconds={seconds:g}", f"--scratch={scratch}", name]
        return nothing_found(name, again, Path(scratch))


def look_in_rust(name: str, seconds: float, program: Path) -> bool:
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory(prefix="handfast-fuzz-") as scratch:
        options = libfuzzer_options(TARGETS[name][1], seconds, Path(scratch))
        return nothing_found(f"{name}, in Rust", [str(program), *options], Path(scratch))


def compiled_targets() -> dict[str, Path]:
    """Programs by target; none where cargo or the compiler for libFuzzer is missing."""
    if not (shutil.which("cargo") and shutil.which("c++")):
        return {}
    built = subprocess.run(["scripts/fuzz-native"], stdout=subprocess.PIPE, text=True, check=True)
    folder = Path(built.stdout.strip())
    sources = Path("tunnel/native/fuzz/src/bin").glob("*.rs")
    return {source.stem: folder / source.stem for source in sources}


def nothing_found(name: str, command: Sequence[str], scratch: Path) -> bool:
    """Runs it, and says what it came to."""
    # The compiled targets link Python's library, though none of them starts an interpreter.
    environment = {**os.environ, "LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    found = [path.read_bytes() for path in scratch.glob("*-*")]
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

    names = chosen.targets or list(TARGETS)
    unbroken = [look_in_python(name, chosen.seconds) for name in names]
    for name, program in compiled_targets().items():
        if name in names:
            unbroken.append(look_in_rust(name, chosen.seconds, program))
    return int(not all(unbroken))


if __name__ == "__main__":
    sys.exit(main())
