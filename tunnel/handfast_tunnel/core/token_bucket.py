"""Token buckets: so many a second, so many at once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_WHOLE: Final = 0.999
"""So much of a token is one: what rounding of a large `now` leaves out must not be waited for."""


class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up; full at first."""

    __slots__ = ("_burst", "_rate", "_tokens", "_updated")

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._updated = float("-inf")

    def _refill(self, now: float) -> None:
        if now > self._updated:
            self._tokens = min(self._burst, self._tokens + (now - self._updated) * self._rate)
            self._updated = now

    def take(self, now: float) -> bool:
        self._refill(now)
        if self._tokens < _WHOLE:
            return False
        self._tokens -= 1
        return True

    def next_token(self, now: float) -> float:
        """When `take` will succeed again."""
        self._refill(now)
        return now + max(0.0, 1 - self._tokens) / self._rate

    def is_full(self, now: float) -> bool:
        self._refill(now)
        return self._tokens >= self._burst


Key = TypeVar("Key", bound=Hashable)


class TokenBuckets(Generic[Key]):
    """One bucket a key, at most `limit` of them; a full bucket needs no memory."""

    def __init__(self, rate: float, burst: float, limit: int) -> None:
        self._rate, self._burst, self._limit = rate, burst, limit
        self._buckets: dict[Key, TokenBucket] = {}
        self._next_sweep = float("-inf")

    def take(self, key: Key, now: float) -> bool:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._limit and now >= self._next_sweep:
                self._sweep(now)
            if len(self._buckets) >= self._limit:
                return False
            bucket = self._buckets[key] = TokenBucket(self._rate, self._burst)
        return bucket.take(now)

    def _sweep(self, now: float) -> None:
        """Looks at all buckets, so no more often than they can fill up."""
        self._buckets = {k: b for k, b in self._buckets.items() if not b.is_full(now)}
        self._next_sweep = now + self._burst / self._rate
