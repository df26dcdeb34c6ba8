"""`make fuzz`: looks for bytes that break a parser, guided by what they make run.

    python -m tests.fuzz [--seconds N] [--keep] [TARGET...]
    python -m tests.fuzz --hour [--jobs N] [--keep]

Each target runs in a process of its own: in Python by atheris, and what there is of it in Rust by libFuzzer,
where cargo is. It begins with its seeds and with what was kept of former runs (tests/fuzz/corpus), where
`--keep` adds what leads further. What breaks it is printed, and belongs among its seeds.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.fuzz import hour, search
from tests.fuzz.search import Search


def look(each: Search, seconds: float, *, keep: bool) -> bool:
    """Whether nothing was found; says what it came to."""
    with tempfile.TemporaryDirectory(prefix="handfast-fuzz-") as folder:
        scratch = Path(folder)
        outcome = each.run(scratch, seconds)
        if outcome.broken:
            print(f"{outcome.report}\n{each}: FAILED for {outcome.findings}", flush=True)
            return False
        kept = f", {each.keep(scratch)} inputs more are kept" if keep else ""
        print(f"{each}: {outcome.runs:,} runs, {outcome.places:,} places reached{kept}", flush=True)
        return True


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    parser.add_argument("--seconds", type=float, default=60, help="for each target (default 60)")
    parser.add_argument("--keep", action="store_true", help="what leads further, in tests/fuzz/corpus")
    parser.add_argument(
        "--hour",
        action="store_true",
        help="of processor time for all together; the result is in docs/soak.md",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="of the hour; default: as many as processors"
    )
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    if chosen.scratch:
        search.look_in_this_process(chosen.targets[0], chosen.seconds, chosen.scratch)
        return 0
    searches = search.all_of(chosen.targets)
    if chosen.hour:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        return hour.run(searches, chosen.jobs, keep=chosen.keep)
    unbroken = [look(each, chosen.seconds, keep=chosen.keep) for each in searches]
    return int(not all(unbroken))


if __name__ == "__main__":
    sys.exit(main())
