"""`make bench`: restarts, throughput, handshakes and 10,000 peers, of Handfast and wireguard-go in one run.

    python -m bench [--quick] [--rounds N] [restart] [throughput] [handshakes] [peers]

Each experiment leaves its figures in bench/results/; docs/benchmarks.md is made from them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from . import handshakes, peers, report, throughput
from .restart import Plan, affordable, or_one_line, run_round, say
from .results import TITLES, Outage, RestartResults

RESTART_SERVERS: Final = ("wireguard-go", "wireguard-go-modern", "handfast")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    clients: int
    limit: float
    seconds: float
    handshakes: int
    peers: int


FULL: Final = Size(rounds=5, clients=5, limit=150, seconds=3, handshakes=5000, peers=10_000)
QUICK: Final = Size(rounds=1, clients=1, limit=25, seconds=1, handshakes=1000, peers=1000)
RESTART_ROUNDS: Final = 2
"""At most: a round takes almost three minutes."""


def restart_figures(size: Size) -> dict[str, Any]:
    plan = affordable(Plan(RESTART_SERVERS, size.clients, size.limit))
    outages: list[Outage] = []
    for _ in range(min(size.rounds, RESTART_ROUNDS)):
        outages += run_round(plan)
    titles = tuple(TITLES[name] for name in RESTART_SERVERS)
    return RestartResults(plan.limit, titles, tuple(outages)).to_json()


def throughput_figures(size: Size) -> dict[str, Any]:
    return throughput.to_json(throughput.run(size.rounds, size.seconds, say))


def handshake_figures(size: Size) -> dict[str, Any]:
    return handshakes.to_json(handshakes.run(size.rounds, size.handshakes, say))


def peer_figures(size: Size) -> dict[str, Any]:
    return peers.to_json(peers.run(size.peers, size.seconds * 3, say))


EXPERIMENTS: Final[dict[str, Callable[[Size], dict[str, Any]]]] = {
    "throughput": throughput_figures,
    "handshakes": handshake_figures,
    "peers": peer_figures,
    "restart": restart_figures,
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", maxsplit=1)[0])
    names = ", ".join(EXPERIMENTS)
    parser.add_argument("experiments", nargs="*", help=f"of {names}; default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the harness")
    parser.add_argument(
        "--rounds", type=int, help=f"default {FULL.rounds}; restarts: {RESTART_ROUNDS} at most"
    )
    parser.add_argument("--output", type=Path, help="directory for all results; leaves docs/ as it is")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.experiments) - set(EXPERIMENTS)):
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {names}")
    return chosen


def main() -> int:
    chosen = arguments()
    size = QUICK if chosen.quick else FULL
    size = replace(size, rounds=chosen.rounds or size.rounds)
    places = report.Places.of(chosen.output)
    for name in chosen.experiments or EXPERIMENTS:
        say(f"{name}:")
        places.save(name, f"python -m bench {name}", EXPERIMENTS[name](size))
        say(f"\n{report.draw(places, name)}\n")
    if not chosen.output:
        report.fill_in(places)
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
