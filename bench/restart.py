"""The restart experiment: every server implementation at once, each with clients of every kind.

Used by the demo (one round) and by the benchmark (several).
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tests.lab.namespaces import LabError
from tests.lab.tools import ToolMissingError

from . import inotify
from .clients import Server
from .commands import compile_tunnel
from .probes import Prober
from .results import Kind, Outage
from .site import Site

BEFORE_KILL: Final = 1.5
"""Probes run for so long before; restarts that overlap would compete for the processor."""
LOOK_INTERVAL: Final = 0.5
PROGRESS_INTERVAL: Final = 15.0
"""Where the output is no terminal."""


@dataclass(frozen=True)
class Plan:
    servers: tuple[str, ...]
    """Implementation names, the baseline first."""
    per_case: int
    limit: float
    """Seconds that a client is given to come back."""

    @property
    def clients(self) -> int:
        return len(Kind) * 2 * 2 * self.per_case


def affordable(plan: Plan) -> Plan:
    """The plan with as many clients as this user may have wireguard-go processes."""
    servers = 2 * len(plan.servers)
    spare = inotify.free_instances(plan.clients + servers) - servers
    per_case = spare * plan.per_case // plan.clients
    if per_case >= plan.per_case:
        return plan
    if per_case < 1:
        raise LabError(f"no room for clients: {inotify.EXPLANATION}")
    say(f"{per_case} clients a row instead of {plan.per_case}: {inotify.EXPLANATION}")
    return replace(plan, per_case=per_case)


def run_round(plan: Plan) -> list[Outage]:
    """One kill and restart of every server; about `limit` + 20 s."""
    compile_tunnel()
    with Prober() as prober, Site(plan.servers, plan.per_case, prober) as site:
        say(f"starting {len(site.servers)} servers and {plan.clients} wireguard-go clients")
        site.connect()
        site.fall_silent()
        say(f"{len(site.tunnels)} tunnels have a session")
        for server in _order(site.servers, plan):
            site.probe(server)
            _look_until(time.monotonic() + BEFORE_KILL, site)
            site.restart(server)
            say(f"kill -9 and restart: {server}")
        _observe(site, plan.limit)
        return site.outages(plan.limit)


def _order(servers: list[Server], plan: Plan) -> list[Server]:
    """The baseline last: what starts slower has less of the other servers' traffic beside it."""
    return sorted(servers, key=lambda s: plan.servers.index(s.implementation.name), reverse=True)


def _look_until(end: float, site: Site) -> None:
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_INTERVAL))
        site.look()


def _observe(site: Site, limit: float) -> None:
    start = min(server.killed for server in site.servers)
    end = max(server.killed for server in site.servers) + limit
    live = sys.stdout.isatty()
    reported = -math.inf
    while (now := time.monotonic()) < end:
        complete = all(tunnel.back for tunnel in site.tunnels)
        if live or complete or now - reported >= PROGRESS_INTERVAL:
            reported = now
            say(f"{now - start:5.0f} s   {_count_back(site)}", end="\r" if live else "\n")
        if complete:
            break
        _look_until(min(now + 1, end), site)
    if live:
        say("")


def _count_back(site: Site) -> str:
    """How many clients of each implementation are back."""
    counts: dict[str, list[bool]] = {}
    for tunnel in site.tunnels:
        counts.setdefault(tunnel.server.title, []).append(tunnel.back)
    return "   ".join(f"{title}: {sum(back)} of {len(back)} back" for title, back in counts.items())


def say(message: str, end: str = "\n") -> None:
    print(message, end=end, flush=True)


def or_one_line(main: Callable[[], int]) -> int:
    """Run a command; what its user can mend is one line, without a traceback."""
    try:
        return main()
    except (LabError, ToolMissingError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("\ninterrupted")
        return 130
