"""What an interface counts of itself; the metrics adapter reads it (KUBERNETES, section 8)."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

LATENCY_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 300.0,
)  # fmt: skip


class Histogram:
    """Counts of observed seconds: `counts[i]` are those <= `buckets[i]`, the last those above all."""

    __slots__ = ("buckets", "counts", "sum")

    def __init__(self, buckets: tuple[float, ...] = LATENCY_BUCKETS) -> None:
        self.buckets = buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.buckets, value)] += 1
        self.sum += value


class Statistics:
    """Counters of one interface since its process began."""

    def __init__(self) -> None:
        self.handshakes: Counter[tuple[str, str]] = Counter()
        """By (role, result)."""
        self.dropped: Counter[str] = Counter()
        """Packets and datagrams by reason."""
        self.strays: Counter[str] = Counter()
        """Transport messages for unknown receiver indices, by what was done."""
        self.received_bytes = 0
        self.sent_bytes = 0
        self.reconnect_latency: dict[str, Histogram] = {}
        """By method."""
        self.outage: dict[str, Histogram] = {}
        """By method; only of peers that had sent within 2 s before the interruption."""
        self.outage_across: dict[str, Histogram] = {}
        """The same of interruptions that began at another pod, by its clock."""

    def observe_reconnect(self, method: str, seconds: float) -> None:
        self.reconnect_latency.setdefault(method, Histogram()).observe(seconds)

    def observe_outage(self, method: str, seconds: float, *, across: bool = False) -> None:
        outage = self.outage_across if across else self.outage
        outage.setdefault(method, Histogram()).observe(seconds)
