"""`make soak`: very many histories of the continuity model, and a dated result in docs/soak.md."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from multiprocessing import get_context

from tests.soak import document
from tests.unit.continuity.histories import Violation, first_violation

CHUNK = 250

TEXT = """\
{count:,} histories of the model in `tests/unit/continuity`, seeds {first} to {last}: a server and two clients
on a network in memory. The server's process is killed at a random store, packet or datagram, hangs, is
restarted by the same or another keeper, rebooted, drained, handed over, reconfigured, with its clock an hour
off; datagrams are lost, repeated, altered, and replayed from elsewhere.

| | |
|---|---|
| Date | {date} |
| Commit | {commit} |
| Python | {python} |
| Histories | {count:,} |
| Violations | {violations} |
| Processor time | {minutes:.0f} min in {jobs} processes |

What was checked after every operation of each: no nonce was used twice under one key, no packet was delivered
twice or to the wrong peer, no address moved but by authenticated traffic, no session of another configuration
was resumed, stamps rose, nothing was sent once another had taken over; and at last everybody heard everybody
within 40 s, or 190 s where a process had run beside one that hung and kept the state.
`tests/unit/continuity/bugs` holds bugs that these checks find.
"""


def _live(first: int) -> tuple[Violation | None, float]:
    began = time.process_time()
    found = first_violation(range(first, first + CHUNK))
    return found, time.process_time() - began


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("soak", description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("--first", type=int, default=1_000_000, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    return parser.parse_args()


def main() -> int:
    options = _options()
    starts = range(options.first, options.first + options.histories, CHUNK)
    violations, seconds = [], 0.0
    commit = document.commit()
    with get_context("fork").Pool(options.jobs) as pool:
        for done, (found, spent) in enumerate(pool.imap_unordered(_live, starts), 1):
            seconds += spent
            if found is not None:
                violations.append(found)
                print(found, file=sys.stderr)
            if done % 20 == 0:
                print(f"{done * CHUNK:,} histories, {len(violations)} violations", flush=True)
    count = len(starts) * CHUNK
    document.write(
        "Histories",
        TEXT.format(
            count=count,
            first=options.first,
            last=options.first + count - 1,
            date=datetime.now(UTC).date(),
            commit=commit,
            python=platform.python_version(),
            violations=len(violations),
            minutes=seconds / 60,
            jobs=options.jobs,
        ),
    )
    print(f"{document.RESULT.name}: {len(violations)} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
