"""How much of a turn of the event loop handshakes get beside the data (RECOVERY, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Protocol

SLICE: Final = 0.0005
SHARE: Final = 0.25
"""While data waits: so many seconds and so much of a turn, but at least one handshake."""
IDLE_SLICE: Final = 0.005
"""A turn without data: what comes next waits no longer than this."""
_COST_WEIGHT: Final = 1 / 16


class Handshaker(Protocol):
    """What of a device this needs."""

    @property
    def handshake_backlog(self) -> bool: ...

    def process_handshake(self, now: float) -> None: ...

    def set_handshake_cost(self, seconds: float) -> None: ...


class HandshakeShare:
    """Works off a device's queued handshake messages, within what a turn has left for them."""

    def __init__(self, device: Handshaker, clock: Callable[[], float], transmit: Callable[[], None]) -> None:
        self._device = device
        self._clock = clock
        self._transmit = transmit
        self._busy_since = inf
        self._cost = 0.0004
        """Of one message, as measured."""

    def data_came(self, began: float) -> None:
        """This turn moved data, from `began` on; the wait before it is nobody's share."""
        self._busy_since = min(self._busy_since, began)

    def end_turn(self) -> None:
        self._busy_since = inf

    def work_off(self, now: float) -> float:
        """One message and as many more as fit; returns when it was done."""
        began, budget = now, self._budget(now)
        while self._device.handshake_backlog:
            self._device.process_handshake(now)
            self._transmit()
            finished = self._clock()
            self._cost += (finished - now - self._cost) * _COST_WEIGHT
            now = finished
            if now - began + self._cost > budget:
                break
        self._device.set_handshake_cost(self._cost)
        return now

    def _budget(self, now: float) -> float:
        if self._busy_since == inf:
            return IDLE_SLICE
        return min(SLICE, (now - self._busy_since) * SHARE / (1 - SHARE))
