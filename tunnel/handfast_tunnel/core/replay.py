"""The replay window: every counter is accepted once (paper, section 5.4.6; RFC 6479's idea).

The window is one integer whose bit i says that counter `highest - i` was seen: a run of packets in
order moves it with a single shift.
"""

from __future__ import annotations

from typing import Final

from .constants import REPLAY_WINDOW

_MASK: Final = (1 << (REPLAY_WINDOW + 1)) - 1


class ReplayWindow:
    """Counters seen under one receiving key."""

    __slots__ = ("_seen", "highest")

    def __init__(self, highest: int = -1) -> None:
        """`highest` and everything below it count as seen: -1 for a new key (RECOVERY, section 2)."""
        self.highest = highest
        self._seen = _MASK if highest >= 0 else 0

    def accept(self, counter: int) -> bool:
        """Marks an authenticated counter; False if it was seen or is too old to tell."""
        ahead = counter - self.highest
        if ahead > 0:
            self._seen = (self._seen << ahead | 1) & _MASK if ahead <= REPLAY_WINDOW else 1
            self.highest = counter
            return True
        if -ahead > REPLAY_WINDOW or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True

    def accept_batch(self, counters: list[int]) -> list[bool] | None:
        """Marks many; None means that all were accepted, the usual case."""
        count = len(counters)
        first = counters[0]
        if first > self.highest and counters == list(range(first, first + count)):
            ahead = first + count - 1 - self.highest
            if ahead <= REPLAY_WINDOW:
                self._seen = (self._seen << ahead | (1 << count) - 1) & _MASK
                self.highest = first + count - 1
                return None
        verdicts = [self.accept(counter) for counter in counters]
        return None if all(verdicts) else verdicts
