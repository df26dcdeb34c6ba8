"""What the operator measures of itself as it works, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest

PREFIX: Final = "handfast_operator_"
_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Measured:
    """Of one process; its memory, processor time and start are among it."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self.reconcile_seconds = Histogram(
            f"{PREFIX}reconcile_seconds",
            "How long it took to look at a changed Tunnel, and to write what follows.",
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.events = Counter(
            f"{PREFIX}events",
            "Events that it has told about Tunnels.",
            ["namespace", "tunnel", "reason"],
            registry=self._registry,
        )

    def render(self) -> str:
        """In the form that Prometheus reads."""
        return generate_latest(self._registry).decode()
