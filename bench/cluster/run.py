"""The experiment: settle, let something happen, watch, ask; an event after the other."""

from __future__ import annotations

import json
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.cluster.api import ExecError
from tests.lab.namespaces import LabError
from tests.lab.probes import Log

from bench.results import Kind

from .clients import KEEPALIVE, Way, address
from .events import happening, wait_ready
from .results import HANDFAST, Case, Event, Exposure, Outage, Results
from .site import Site

WATCH: Final = KEEPALIVE + 7.0
"""How long clients are left alone after an event; longer than it takes a keepalive to be sent."""
_NOTHING: Final = 0.5
"""A silence of probes that is shorter may be a busy machine's."""
_NOTICED: Final = 0.15
"""Three probes without an answer: a handover at its best."""
_REACHED: Final = 4.0
_NEXT: Final = 12.0
"""How long somebody is asked for an answer: from inside, and by itself."""
_CALM: Final = 2.0
_REPEATS: Final = 6.0
"""Until a client says nothing more of its own. wireguard-go repeats an initiation after 5 s, also one whose
answer was faster than its timer."""

Say = Callable[[str], None]


def run(site: Site, events: Sequence[Event], say: Say, watch: float = WATCH) -> list[Outage]:
    found: list[Outage] = []
    for event in events:
        outages = once(site, event, watch)
        for gateway in event.gateways:
            say(f"  {event}, {gateway}: {_in_short([o for o in outages if o.case.gateway == gateway])}")
        found += outages
    return found


def once(site: Site, event: Event, watch: float, begin: Callable[[], None] = lambda: None) -> list[Outage]:
    """One event, and what each client noticed of it; `begin` is called just before it happens."""
    wait_ready(site)
    site.stock.wait_ready()
    context = happening(event, site)
    settle(site)
    begin()
    began = time.monotonic()
    with context:
        time.sleep(watch)
        until = time.monotonic()
        methods = _methods(site)
        ways = [way for way in site.ways if way.entrance.gateway in event.gateways]
        with ThreadPoolExecutor(len(ways)) as pool:
            view = View(event, ways, began, until, methods)
            return list(pool.map(view.outage, ways))


def settle(site: Site) -> None:
    """Every client has a session, the quiet ones have nothing to say, probes pass."""
    quiet_or_stuck = [
        way for way in site.ways if way.log is None or not way.log.settled(time.monotonic() - _CALM)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(Way.join_again, quiet_or_stuck))
    joined = time.monotonic()
    deadline = time.monotonic() + 60
    since = time.monotonic()
    while stuck := [way for way in site.ways if way.log and not way.log.settled(since)]:
        if time.monotonic() > deadline:
            raise LabError(
                f"nothing passes to {[(way.client.number, way.entrance.gateway) for way in stuck]}"
            )
        time.sleep(0.1)
    time.sleep(max(_CALM, joined + _REPEATS - time.monotonic()))


def _methods(site: Site) -> dict[str, str]:
    """By a client's key, how the gateway says that it came back."""
    with suppress(ExecError):
        status: dict[str, Any] = json.loads(
            site.api.exec(site.gateway.active, "handfast-tunnel", "status", "--json")
        )
        return {peer["public_key"]: peer["method"] for peer in status.get("peers") or () if peer["method"]}
    return {}


@dataclass(frozen=True)
class View:
    """What there is to see of one event, after it."""

    event: Event
    ways: Sequence[Way]
    began: float
    until: float
    methods: dict[str, str]

    def outage(self, way: Way) -> Outage:
        entrance, kind = way.entrance, way.client.kind
        case = Case(self.event, entrance.gateway, way.exposure, kind)
        waited = None
        if way.log is not None:
            seconds = self._silence(way.log)[1]
        else:
            seconds = self._unreached(way)
            if math.isinf(seconds) and math.isfinite(asked := way.asks(address(entrance.gateway, 1), _NEXT)):
                waited = asked
        method = "" if math.isinf(seconds) else self._method(way)
        return Outage(case, way.client.host.nat, seconds, method, waited)

    def _silence(self, log: Log) -> tuple[float, float]:
        """When the longest silence began, and how long it was; infinite if it did not end."""
        arrived = log.arrived[bisect_left(log.arrived, self.began) - 1 : bisect_left(log.arrived, self.until)]
        if self.until - arrived[-1] > _NOTHING * 2:
            return arrived[-1], math.inf
        length, start = max((later - earlier, earlier) for earlier, later in pairwise(arrived))
        return start, length

    def _unreached(self, way: Way) -> float:
        """How long a quiet client could not be reached.

        Until its first handshake after those who send beside it fell silent; if there was none, and it is
        reached all the same, its session went on, and the figure is what a packet to it waits for an answer.
        """
        dark = self._dark(way)
        if (shaken := way.shaken(dark)) < self.until:
            return shaken - dark
        assert way.source
        return way.source.asks(way.address, _REACHED)

    def _dark(self, way: Way) -> float:
        """Since when its gateway did not answer those who ask it in the same way: an event may take a minute
        until it comes to that, and until then whatever a client says is answered."""
        silences = [
            self._silence(other.log)
            for other in self.ways
            if other.log is not None
            and other.client.kind is Kind.SENDING
            and (other.exposure, other.entrance.gateway) == (way.exposure, way.entrance.gateway)
        ]
        start, length = max(silences, key=lambda silence: silence[1], default=(self.began, 0.0))
        return start if length >= _NOTICED else self.began

    def _method(self, way: Way) -> str:
        """What the gateway says, as far as it is about this event: a former one's may still stand there."""
        known = self.methods.get(way.client.keys.public) if way.entrance.gateway == HANDFAST else None
        if way.shaken(self._dark(way)) < self.until:
            return known or "handshake"
        return "resumed" if known == "resumed" else "session went on"


def _in_short(outages: Sequence[Outage]) -> str:
    def longest(kind: Kind) -> str:
        seconds = max(outage.seconds for outage in outages if outage.case.kind is kind)
        return f"{kind} " + ("not back" if math.isinf(seconds) else f"{seconds:.2f} s")

    return "at most " + ", ".join(longest(kind) for kind in Kind)


def measure(
    name: str | None, events: Sequence[Event], exposures: Sequence[Exposure], rounds: int, say: Say
) -> Results:
    """All of it, on a cluster that stays, or one of its own."""
    with Site(name, exposures) as site:
        say(f"{len(site.ways) // 2} clients, each of both gateways, have their sessions")
        outages = [outage for _ in range(rounds) for outage in run(site, events, say)]
    return Results(WATCH, tuple(outages))
