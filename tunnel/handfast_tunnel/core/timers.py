"""The whitepaper's section 6: when a peer must be sent a keepalive, a handshake, or be forgotten.

`Timers` holds one peer's deadlines; its methods are the events that move them, named as the paper and
every implementation name them. `Schedule` finds whose deadline comes next without looking at all peers.
What is done at a deadline is the device's.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator
from math import inf
from random import Random
from typing import Final

from .constants import (
    KEEPALIVE_TIMEOUT,
    REKEY_TIMEOUT,
    REKEY_TIMEOUT_JITTER,
    ZERO_AFTER_TIME,
)


class Expiry(enum.Enum):
    """The deadlines a peer can have, in the order in which they are served."""

    ZERO_KEYS = "zero_keys"
    STALE_SLOTS = "stale_slots"
    RETRANSMIT = "retransmit"
    NEW_HANDSHAKE = "new_handshake"
    CONFIRM = "confirm"
    KEEPALIVE = "keepalive"
    PERSISTENT_KEEPALIVE = "persistent_keepalive"


_ATTRIBUTES: Final = tuple((expiry, expiry.value) for expiry in Expiry)


class Timers:
    """Deadlines of one peer; `inf` where none is armed."""

    __slots__ = (
        "_random",
        "_schedule",
        "confirm",
        "keepalive",
        "keepalive_again",
        "new_handshake",
        "owner",
        "persistent_interval",
        "persistent_keepalive",
        "retransmit",
        "scheduled",
        "stale_slots",
        "zero_keys",
    )

    def __init__(self, owner: object, schedule: Schedule, random: Random) -> None:
        self.owner = owner
        self._schedule = schedule
        self._random = random
        self.persistent_interval = 0
        self.scheduled = inf
        self.stop()

    def stop(self) -> None:
        """Disarms everything: the device is down."""
        self.zero_keys = self.stale_slots = self.retransmit = self.new_handshake = inf
        self.confirm = self.keepalive = self.persistent_keepalive = inf
        self.keepalive_again = False

    def retire(self) -> None:
        """The peer is gone; nothing of it is kept alive by what is still scheduled."""
        self.stop()
        self.persistent_interval = 0
        self.owner = None

    def _arm(self, deadline: float) -> float:
        if deadline < self.scheduled:
            self._schedule.add(deadline, self)
        return deadline

    def _jitter(self) -> float:
        return self._random.random() * REKEY_TIMEOUT_JITTER

    def data_sent(self, now: float) -> bool:
        """Whether it is the first since something was received."""
        if self.new_handshake == inf:
            self.new_handshake = self._arm(now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self._jitter())
            return True
        return False

    def data_received(self, now: float) -> bool:
        """Whether it is the first since something was sent."""
        if self.keepalive == inf:
            self.keepalive = self._arm(now + KEEPALIVE_TIMEOUT)
            return True
        self.keepalive_again = True
        return False

    def any_authenticated_packet_sent(self, now: float) -> None:
        self.keepalive = inf
        if self.persistent_interval:
            self.persistent_keepalive = self._arm(now + self.persistent_interval)

    def any_authenticated_packet_received(self, now: float) -> None:
        self.new_handshake = inf
        if self.persistent_interval:
            self.persistent_keepalive = self._arm(now + self.persistent_interval)

    def handshake_initiated(self, now: float) -> None:
        self.retransmit = self._arm(now + REKEY_TIMEOUT + self._jitter())

    def slot_opened(self, expires_at: float) -> None:
        self.stale_slots = min(self.stale_slots, self._arm(expires_at))

    def handshake_complete(self) -> None:
        self.retransmit = inf

    def session_derived(self, now: float) -> None:
        self.zero_keys = self._arm(now + ZERO_AFTER_TIME)

    def gave_up(self, now: float) -> None:
        """Nobody answers: what is left of the sessions dies in its time."""
        self.retransmit = self.keepalive = inf
        if self.zero_keys == inf:
            self.zero_keys = self._arm(now + ZERO_AFTER_TIME)

    def keepalive_expired(self, now: float) -> None:
        if self.keepalive_again:
            self.keepalive_again = False
            self.keepalive = self._arm(now + KEEPALIVE_TIMEOUT)

    def set_persistent_interval(self, seconds: int, now: float) -> None:
        self.persistent_interval = seconds
        self.persistent_keepalive = self._arm(now + seconds) if seconds else inf

    def resume(self, *, last_sent: float, last_received: float, data_sent: float, now: float) -> None:
        """Goes on where a former process stopped."""
        silence = KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + self._jitter()
        # While nobody listened, silence meant nothing: it is the next packet's turn to find out.
        if data_sent > last_received and now - data_sent < silence + REKEY_TIMEOUT:
            self.new_handshake = self._arm(max(now, data_sent + silence))
        if self.persistent_interval:
            due = max(last_sent, last_received) + self.persistent_interval
            self.persistent_keepalive = self._arm(max(now, due))

    def persistent_keepalive_now(self, now: float) -> None:
        """It was just switched on: the peer's NAT is to know at once."""
        self.persistent_keepalive = self._arm(now)

    def confirm_at(self, deadline: float) -> None:
        self.confirm = self._arm(deadline)

    def expired(self, now: float) -> list[Expiry]:
        """The deadlines that have passed; each is disarmed."""
        passed = [expiry for expiry, name in _ATTRIBUTES if getattr(self, name) <= now]
        for expiry in passed:
            setattr(self, expiry.value, inf)
        return passed

    def rearm(self) -> None:
        """Finds the earliest deadline anew, after the scheduled one was served."""
        self._arm(min(getattr(self, name) for _, name in _ATTRIBUTES))


class Schedule:
    """Which peer's deadline comes next. A cancelled deadline costs one early look, nothing more."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timers]] = []
        self._sequence = 0

    def add(self, deadline: float, timers: Timers) -> None:
        timers.scheduled = deadline
        self._sequence += 1
        heapq.heappush(self._heap, (deadline, self._sequence, timers))

    def due(self, now: float) -> Iterator[Timers]:
        """Those whose scheduled deadline has passed; the caller serves and rearms each."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            deadline, _, timers = heapq.heappop(heap)
            if timers.scheduled == deadline:
                timers.scheduled = inf
                yield timers

    def next_deadline(self) -> float:
        return self._heap[0][0] if self._heap else inf
