"""What a restart is for each client, from what pods say before and after it: pure, time is an argument."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .pods import Client, Pod
from .screen import NOTHING, Column, Screen, duration, table

RECENTLY: Final = 2.0
"""Who was heard within so many seconds before the restart, and at both looks, was sending."""
SHOWN: Final = 10
"""Clients that are dark, at a time."""
_COLUMNS: Final = (
    Column("PEER", least=12),
    Column("BEFORE"),
    Column("OUTAGE", right=True),
    Column("BACK BY", colours={"resumed": "green", "not back": "red"}),
    Column("SEEN BACK AFTER", right=True),
)


@dataclass(slots=True)
class Watched:
    """One client."""

    name: str
    before: str
    """`sending`, `connected` or `silent`."""
    client: Client | None = None
    """As the pod had it that first heard it again."""
    seen_back: float | None = None
    """Seconds from the restart until that was seen."""

    @property
    def sending(self) -> bool:
        return self.before == "sending"


@dataclass(slots=True)
class Watch:
    """Between two looks before the restart and as many as it takes after it."""

    watched: dict[str, Watched]
    """By public key."""
    owner: tuple[str, int]
    """Which process owned the sessions before."""
    serving: str = ""
    """The pod that is active, as far as anybody says so."""
    successor: str = ""
    """The pod that owns the sessions since."""

    @classmethod
    def begin(cls, first: Pod, second: Pod, names: Mapping[str, str]) -> Watch:
        """Two looks at the active pod, a moment apart, and the names of its clients by public key."""
        earlier = first.clients
        watched = {
            key: Watched(names.get(key, key), _before(earlier.get(key), client))
            for key, client in second.clients.items()
        }
        return cls(watched, second.incarnation)

    def look(self, pod: Pod | None, after: float) -> list[Watched]:
        """What the active pod says `after` so many seconds: who is back since the last look."""
        self.serving = pod.name if pod is not None else ""
        if pod is None or pod.said is None or pod.incarnation == self.owner:
            return []
        self.successor = pod.name
        back = []
        for key, client in pod.clients.items():
            watched = self.watched.get(key)
            if watched is None or watched.seen_back is not None or client.method is None:
                continue
            watched.client, watched.seen_back = client, after
            back.append(watched)
        return back

    @property
    def missing(self) -> list[Watched]:
        """Who is not back."""
        return [each for each in self.watched.values() if each.seen_back is None]

    @property
    def awaited(self) -> list[Watched]:
        """Those of them that were sending."""
        return [each for each in self.missing if each.sending]

    def count(self, before: str) -> int:
        return sum(each.before == before for each in self.watched.values())


def _before(first: Client | None, second: Client) -> str:
    recent = first is not None and first.received_age is not None and first.received_age <= RECENTLY
    if recent and first is not None and second.received_bytes > first.received_bytes:
        return "sending"
    return "connected" if second.connected else "silent"


def lines(watch: Watch, after: float) -> list[str]:
    """How it stands, while it lasts."""
    if not watch.serving:
        return [f"{after:5.1f} s  no pod is active"]
    if not watch.successor:
        return [f"{after:5.1f} s  pod {watch.serving} serves on, until another one takes over"]
    if not watch.count("sending"):
        return [f"{after:5.1f} s  pod {watch.serving} is active; nobody was sending"]
    dark = watch.awaited
    first = f"{after:5.1f} s  {len(dark)} of {watch.count('sending')} sending clients are dark"
    return [first, *(f"{'':9}{each.name}" for each in dark[:SHOWN])]


def told(each: Watched) -> str:
    """Of a client that is back."""
    client = each.client
    if client is None or client.outage is None:
        return f"{each.name} is back"
    return f"{each.name} is back: dark for {duration(client.outage)}, {client.method}"


def rows(watched: Iterable[Watched]) -> list[list[str]]:
    """The longest outage first; who was not sending comes last."""
    return [_row(each) for each in sorted(watched, key=_order)]


def _order(each: Watched) -> tuple[bool, bool, float, str]:
    outage = each.client.outage if each.client and each.client.outage is not None else 0.0
    return not each.sending, each.seen_back is not None, -outage, each.name


def _row(each: Watched) -> list[str]:
    client = each.client
    missing = "not back" if each.sending else "not heard yet"
    return [
        each.name,
        each.before,
        duration(client.outage if client else None),
        (client.method or NOTHING) if client else missing,
        f"{each.seen_back:.1f} s" if each.seen_back is not None else NOTHING,
    ]


def show(watch: Watch, screen: Screen) -> list[str]:
    return [*table(_COLUMNS, rows(watch.watched.values()), screen), "", *screen.wrap(verdict(watch))]


def verdict(watch: Watch) -> str:
    sending = watch.count("sending")
    if not sending:
        return "Nobody was sending, so nobody noticed: connected clients are found by their next packet."
    outages = [each.client.outage for each in watch.watched.values() if each.sending and each.client]
    longest = max((outage for outage in outages if outage is not None), default=None)
    measured = f"; the longest outage was {duration(longest)}" if longest is not None else ""
    return f"{sending - len(watch.awaited)} of {sending} sending clients are back{measured}."


def as_json(watch: Watch) -> dict[str, Any]:
    return {
        "successor": watch.successor,
        "lost": len(watch.awaited),
        "clients": [
            {
                "name": each.name,
                "before": each.before,
                "back": each.seen_back is not None,
                "outageSeconds": each.client.outage if each.client else None,
                "latencySeconds": each.client.latency if each.client else None,
                "method": each.client.method if each.client else None,
                "seenBackSeconds": each.seen_back,
            }
            for each in sorted(watch.watched.values(), key=_order)
        ],
    }
