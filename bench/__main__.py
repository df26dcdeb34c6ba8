"""`make bench`: starts, restarts, throughput, handshakes, 10,000 peers, of Handfast and wireguard-go.

    python -m bench [--quick] [--rounds N] [restart] [start] [throughput] [profile] [state-cost] [handshakes]
                    [peers] [changes] [continuity] [kills]
    python -m bench soak-kills [--kills N]
    python -m bench continuity --only EVENT [--only EVENT]
    python -m bench cluster [--help]
    python -m bench operator
    python -m bench dashboard

Each experiment leaves its figures in bench/results/; docs/benchmarks.md and docs/continuity.md are made
from them.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from . import (
    changes,
    continuity,
    handshakes,
    kills,
    many_peers,
    peers,
    profile,
    report,
    start,
    state_cost,
    throughput,
)
from .events import Event
from .restart import Plan, affordable, or_one_line, run_round, say
from .results import TITLES, Outage, RestartResults

RESTART_SERVERS: Final = ("wireguard-go", "wireguard-go-modern", "handfast", "handfast-forgetful")


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    rounds: int
    clients: int
    limit: float
    seconds: float
    handshakes: int
    peers: int
    events: int
    """Of each kind, to each client."""
    kills: int
    soak_kills: int
    starts: int


FULL: Final = Size(
    rounds=5, clients=5, limit=150, seconds=3, handshakes=5000, peers=10_000, events=20, kills=200,
    soak_kills=2000, starts=20,
)  # fmt: skip
QUICK: Final = Size(
    rounds=1,
    clients=1,
    limit=25,
    seconds=1,
    handshakes=1000,
    peers=1000,
    events=1,
    kills=5,
    soak_kills=20,
    starts=2,
)
RESTART_ROUNDS: Final = 2
"""At most: a round takes almost three minutes."""


CHANGES_A_ROUND: Final = 80
"""Of a peer, in a pod."""
PAIRS_A_ROUND: Final = 4
"""Of tunnels with state memory and without."""


def restart_figures(size: Size) -> dict[str, Any]:
    plan = affordable(Plan(RESTART_SERVERS, size.clients, size.limit))
    outages: list[Outage] = []
    for _ in range(min(size.rounds, RESTART_ROUNDS)):
        outages += run_round(plan)
    titles = tuple(TITLES[name] for name in RESTART_SERVERS)
    return RestartResults(plan.limit, titles, tuple(outages)).to_json()


def start_figures(size: Size) -> dict[str, Any]:
    return start.to_json(start.run(size.starts, say))


def throughput_figures(size: Size) -> dict[str, Any]:
    return throughput.to_json(throughput.run(size.rounds, size.seconds, say))


def profile_figures(_size: Size) -> dict[str, Any]:
    return profile.to_json(profile.run(say))


def state_cost_figures(size: Size) -> dict[str, Any]:
    return state_cost.to_json(state_cost.run(size.rounds * PAIRS_A_ROUND, size.seconds, say))


def handshake_figures(size: Size) -> dict[str, Any]:
    return handshakes.to_json(handshakes.run(size.rounds, size.handshakes, say))


def peer_figures(size: Size) -> dict[str, Any]:
    return peers.to_json(peers.run(size.peers, size.seconds * 3, say))


def change_figures(size: Size) -> dict[str, Any]:
    return changes.to_json(changes.run(size.rounds * CHANGES_A_ROUND, say))


def operator_figures(size: Size) -> dict[str, Any]:
    return {"costs": many_peers.run(sorted({100, 1000, size.peers}), say)}


def continuity_figures(size: Size) -> dict[str, Any]:
    rows, bulk = continuity.run(size.events, size.peers, say)
    return continuity.to_json(rows, size.peers, bulk)


def kill_figures(size: Size) -> dict[str, Any]:
    return kills.to_json(kills.calm(size.kills, say))


def soak_figures(size: Size) -> dict[str, Any]:
    return asdict(kills.soak(size.soak_kills, say))


EXPERIMENTS: Final[dict[str, Callable[[Size], dict[str, Any]]]] = {
    "start": start_figures,
    "throughput": throughput_figures,
    "profile": profile_figures,
    "state-cost": state_cost_figures,
    "handshakes": handshake_figures,
    "peers": peer_figures,
    "changes": change_figures,
    "restart": restart_figures,
    "continuity": continuity_figures,
    "kills": kill_figures,
    "soak-kills": soak_figures,
    "operator": operator_figures,
}
ON_REQUEST: Final = frozenset({"soak-kills", "operator"})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.split("\n", maxsplit=1)[0])
    names = ", ".join(EXPERIMENTS)
    parser.add_argument(
        "experiments", nargs="*", help=f"of {names}; default: all but {' and '.join(sorted(ON_REQUEST))}"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: tries the harness")
    parser.add_argument(
        "--rounds", type=int, help=f"default {FULL.rounds}; restarts: {RESTART_ROUNDS} at most"
    )
    parser.add_argument("--events", type=int, help=f"of each kind, of continuity; default {FULL.events}")
    parser.add_argument(
        "--only",
        action="append",
        choices=[event.value for event in Event],
        help="of continuity, only this event, to be looked at: nothing is written",
    )
    parser.add_argument("--kills", type=int, help=f"of the soak; default {FULL.soak_kills}")
    parser.add_argument("--output", type=Path, help="directory for all results; leaves docs/ as it is")
    chosen = parser.parse_args()
    if unknown := sorted(set(chosen.experiments) - set(EXPERIMENTS)):
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {names}")
    return chosen


def main() -> int:
    if sys.argv[1:2] == ["cluster"]:
        # Options of its own; and only it needs what talks to Kubernetes.
        from .cluster.__main__ import main as cluster

        return cluster(sys.argv[2:])
    if sys.argv[1:] == ["dashboard"]:
        from .dashboard.__main__ import main as dashboard

        return dashboard()
    chosen = arguments()
    size = QUICK if chosen.quick else FULL
    size = replace(size, rounds=chosen.rounds or size.rounds, soak_kills=chosen.kills or size.soak_kills)
    size = replace(size, events=chosen.events or size.events)
    if chosen.only:
        say(f"continuity, load average {os.getloadavg()[0]:.1f}:")
        continuity.run(size.events, size.peers, say, [Event(name) for name in chosen.only])
        return 0
    places = report.Places.of(chosen.output)
    for name in chosen.experiments or [name for name in EXPERIMENTS if name not in ON_REQUEST]:
        say(f"{name}:")
        fewer = f" --events {chosen.events}" if chosen.events and name == "continuity" else ""
        places.save(name, f"python -m bench {name}{fewer}", EXPERIMENTS[name](size))
        say(f"\n{report.draw(places, name)}\n")
    if not chosen.output:
        report.fill_in(places)
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
