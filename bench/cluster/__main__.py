"""`python -m bench cluster`: outages of clients outside of a real cluster, beside stock wireguard-go.

    python -m bench cluster [--events NAME...] [--exposures NAME...] [--rounds N] [--cluster NAME]
                            [--output DIRECTORY]

All of it fills bench/results/cluster.json and docs/outages.md; a part of it is shown only.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from bench import report
from bench.restart import or_one_line, say

from . import tables
from .results import Event, Exposure
from .run import measure

Chosen = TypeVar("Chosen", bound=StrEnum)


def _named(kind: type[Chosen]) -> dict[str, Chosen]:
    """By what one types: ROLLOUT is rollout, NODE_PODS is node-pods."""
    return {each.name.lower().replace("_", "-"): each for each in kind}


def arguments(given: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench cluster", description=__doc__.split("\n")[0])
    parser.add_argument("--events", nargs="+", choices=_named(Event), default=[*_named(Event)])
    parser.add_argument("--exposures", nargs="+", choices=_named(Exposure), default=[*_named(Exposure)])
    parser.add_argument("--rounds", type=int, default=1, help="of all events (default 1)")
    parser.add_argument("--cluster", help="NAME of one of two nodes that runs; default: its own")
    parser.add_argument("--output", type=Path, help="directory for all results; leaves docs/ as it is")
    return parser.parse_args(given)


def main(given: Sequence[str] = sys.argv[1:]) -> int:
    started = time.monotonic()
    chosen = arguments(given)
    events = [_named(Event)[name] for name in chosen.events]
    exposures = [_named(Exposure)[name] for name in chosen.exposures]
    results = measure(chosen.cluster, events, exposures, chosen.rounds, say)
    say(f"\nMedians, until a client is back:\n\n{tables.text(results)}\n")
    if (len(events), len(exposures)) == (len(Event), len(Exposure)):
        places = report.Places.of(chosen.output)
        rounds = f" --rounds {chosen.rounds}" if chosen.rounds > 1 else ""
        say(str(places.save("cluster", f"python -m bench cluster{rounds}", results.to_json())))
        report.draw(places, "cluster")
        if not chosen.output:
            report.fill_in(places)
    say(f"{time.monotonic() - started:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
