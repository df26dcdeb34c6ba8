"""`make demo`: kill a WireGuard server under real clients, and see when each is back.

wireguard-go and Handfast run side by side; Handfast twice: as it is, and with nothing kept over the kill.
The clients are unmodified wireguard-go processes: sending, receiving, with keepalives only, and idle; behind
NAT and not; with an endpoint that the restarted server knows and without; and, at a second set of servers,
with the first handshake initiation lost.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Final

from . import report, tables
from .restart import Plan, affordable, or_one_line, run_round, say
from .results import CASES, TITLES, RestartResults, scenario_median

SERVERS: Final = ("wireguard-go", "handfast", "handfast-forgetful")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.demo", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one client a row, observed for 25 s")
    parser.add_argument("--clients", type=int, default=5, help="clients in each row (default 5)")
    parser.add_argument("--seconds", type=float, default=150, help="how long to watch (default 150)")
    parser.add_argument("--servers", default=",".join(SERVERS), help="implementations, the baseline first")
    parser.add_argument("--output", type=Path, help="directory for demo.json and demo.png")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.servers.split(",") if name not in TITLES]:
        parser.error(f"no server is called {', '.join(unknown)}; there are {', '.join(TITLES)}")
    if chosen.quick:
        chosen.clients, chosen.seconds = 1, 25
    return chosen


def summary(results: RestartResults) -> str:
    """A line for each scenario."""
    lines = []
    for scenario in dict.fromkeys(case.scenario for case in CASES):
        medians = [
            f"{server} {tables.seconds(scenario_median(results, server, scenario), results.limit)}"
            for server in results.servers
        ]
        lines.append(f"Median of all clients, {scenario}: {', '.join(medians)}")
    return "\n".join(lines)


def main() -> int:
    started = time.monotonic()
    chosen = arguments()
    servers = tuple(chosen.servers.split(","))
    plan = affordable(Plan(servers, chosen.clients, chosen.seconds))
    results = RestartResults(plan.limit, tuple(TITLES[name] for name in servers), tuple(run_round(plan)))
    say("\nSeconds from the kill until the client is back:\n")
    say(tables.restart_text(results))
    say("\n" + summary(results))
    places = report.Places.of(chosen.output)
    figures = places.save("demo", "make demo", results.to_json())
    report.draw(places, "demo")
    say(f"\n{figures}\n{places.picture('demo')}\n{time.monotonic() - started:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
