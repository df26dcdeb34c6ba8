"""The restart experiment: every server implementation at once, each with clients of every kind.

Used by the demo (one round) and by the benchmark (several).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import time
from dataclasses import dataclass
from typing import Final

from .probes import Prober
from .results import Kind, Outage
from .site import Site

BETWEEN_KILLS: Final = 1.5
"""Restarts that overlap would compete for the processor; the first comes after the probes are under way."""
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


class TooFewInotifyInstances(Exception):
    """Each wireguard-go process needs one, and the kernel counts them by user."""


def affordable(plan: Plan) -> Plan:
    """The plan with as many clients as this user may have wireguard-go processes."""
    spare = _free_inotify_instances(plan.clients + 20) - 2 * len(plan.servers)
    per_case = min(plan.per_case, spare // (len(Kind) * 2 * 2))
    if per_case < 1:
        raise TooFewInotifyInstances(
            f"only {spare} more wireguard-go processes can run: each needs an inotify instance;"
            " raise fs.inotify.max_user_instances by sysctl"
        )
    return Plan(plan.servers, per_case, plan.limit)


def _free_inotify_instances(wanted: int) -> int:
    """How many this user may still open, up to `wanted`: found by opening them."""
    inotify_init = ctypes.CDLL(None).inotify_init
    opened: list[int] = []
    while len(opened) < wanted and (descriptor := inotify_init()) >= 0:
        opened.append(descriptor)
    for descriptor in opened:
        os.close(descriptor)
    return len(opened)


def run_round(plan: Plan) -> list[Outage]:
    """One kill and restart of every server; about `limit` + 20 s."""
    with Prober() as prober, Site(plan.servers, plan.per_case, prober) as site:
        say(f"starting {len(site.servers)} servers and {plan.clients} wireguard-go clients")
        site.connect()
        site.settle()
        say(f"{len(site.tunnels)} tunnels work")
        for server in site.servers:
            _look_until(time.monotonic() + BETWEEN_KILLS, site)
            site.restart(server)
            say(f"kill -9 and restart: {server}")
        _observe(site, plan.limit)
        return site.outages(plan.limit)


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
