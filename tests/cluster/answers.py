"""What a client may never hear, whatever happens to the pods behind an address: checked on its own cable.

Keys never cross pods, so each session is one pod's.
"""

from __future__ import annotations

from collections.abc import Iterable

from tests.lab.filters import Message
from tests.lab.wire import Datagram

OVERLAP = 0.25
"""Seconds in which packets of the session before may still be under way."""


def complaints(datagrams: Iterable[Datagram], client: str) -> list[str]:
    """Of datagrams in order: nonces that come twice, initiations that two answer, sessions that come back."""
    found: list[str] = []
    counters: dict[int, set[int]] = {}
    responses: dict[int, set[int]] = {}
    current: tuple[int, float] | None = None
    for each in datagrams:
        if each.destination != client:
            continue
        if each.type is Message.RESPONSE:
            senders = responses.setdefault(each.receiver, set())
            senders.add(each.sender)
            if len(senders) > 1:
                found.append(f"{each.describe()}: another one answered the same initiation")
        elif each.type is Message.TRANSPORT:
            used = counters.setdefault(each.receiver, set())
            if each.counter in used:
                found.append(f"{each.describe()}: for the second time")
            if not used:
                current = each.receiver, each.time
            elif current is not None and each.receiver != current[0] and each.time > current[1] + OVERLAP:
                late = each.time - current[1]
                found.append(f"{each.describe()}: {late:.2f} s after a later session began")
            used.add(each.counter)
    return found
