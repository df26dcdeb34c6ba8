"""`make demo CLUSTER=1`: a rollout restart on a real Kubernetes, with real clients outside, as they see it.

A Handfast gateway and wireguard-go in a plain Deployment are restarted at the same moment. Each has clients
of every kind, behind NAT and not, which reach it at a node's port.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Sequence
from typing import Final

from bench.restart import or_one_line, say
from bench.results import Kind

from . import tables
from .clients import Way
from .results import GATEWAYS, Event, Exposure, Results
from .run import WATCH, once
from .site import Site

_ALIVE: Final = 0.5
_REDRAW: Final = 0.5
_REDRAWN: Final = "{}\x1b[K"
"""Clears the rest of the line."""
_UP: Final = f"\x1b[{len(Kind) - 1}A\r"
_PROGRESS: Final = 5.0
"""Where the output is no terminal."""


class Live(threading.Thread):
    """A line for each kind of client, drawn over and over; a thread, as the event takes the other one."""

    def __init__(self, ways: Sequence[Way]) -> None:
        super().__init__(name="live", daemon=True)
        self._ways = ways
        self._began = math.inf
        self._ended = threading.Event()

    def run(self) -> None:
        self._began = time.monotonic()
        terminal = sys.stdout.isatty()
        while not self._ended.wait(_REDRAW if terminal else _PROGRESS):
            lines = self.lines(time.monotonic())
            if terminal:
                say("\n".join(map(_REDRAWN.format, lines)) + _UP, end="")
            else:
                say("\n".join(lines))
        if terminal:
            say("\n" * len(Kind))

    def lines(self, now: float) -> list[str]:
        return [f"{now - self._began:5.0f} s  {kind:15}  {self._both(kind, now)}" for kind in Kind]

    def _both(self, kind: Kind, now: float) -> str:
        return "   ".join(f"{gateway}: {self._state(kind, gateway, now):32}" for gateway in GATEWAYS)

    def _state(self, kind: Kind, gateway: str, now: float) -> str:
        ways = [w for w in self._ways if (w.client.kind, w.entrance.gateway) == (kind, gateway)]
        if not kind.probed:
            shaken = sum(way.shaken(self._began) <= now for way in ways)
            return f"{shaken} of {len(ways)} with a new session"
        silent = [now - way.log.arrived[-1] for way in ways if way.log]
        dark = [seconds for seconds in silent if seconds > _ALIVE]
        return f"{len(dark)} of {len(ways)} dark for {max(dark):.1f} s" if dark else "traffic passes"

    def end(self) -> None:
        self._ended.set()
        self.join()


def main() -> int:
    started = time.monotonic()
    say("making a Kubernetes of two nodes, both gateways, and clients outside; about a minute")
    with Site(None, [Exposure.NODE_PORT]) as site:
        say(f"kubectl rollout restart, under {len(site.ways) // 2} clients of both gateways:\n")
        live = Live(site.ways)
        try:
            outages = once(site, Event.ROLLOUT, WATCH, live.start)
        finally:
            live.end()
    say("\nUntil a client is back, all that there are of its kind:\n")
    say(tables.by_kind(Results(WATCH, tuple(outages))))
    say(f"\n{time.monotonic() - started:.0f} s in all; nothing is left of it")
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
