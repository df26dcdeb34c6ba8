"""What a pod's metrics say beside those of its interface: its role, term, generation and handovers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..control.roles import Role

if TYPE_CHECKING:
    from .gateway import Gateway


@dataclass(frozen=True, slots=True)
class PodNumbers:
    active: bool
    term: int
    generation: int
    handovers: dict[str, int]

    @classmethod
    def of(cls, gateway: Gateway) -> PodNumbers:
        standing = gateway.standing
        generation = gateway.configuration.generation
        return cls(standing.role is Role.ACTIVE, standing.term, generation, dict(gateway.handovers))


class PodCollector(Collector):
    def __init__(self, numbers: PodNumbers) -> None:
        self._numbers = numbers

    def collect(self) -> Iterator[Metric]:
        numbers = self._numbers
        yield GaugeMetricFamily("handfast_active", "1 where this pod answers clients.", value=numbers.active)
        yield GaugeMetricFamily("handfast_term", "The term of this pod's role.", value=numbers.term)
        yield GaugeMetricFamily(
            "handfast_config_generation", "The configuration in force.", value=numbers.generation
        )
        handovers = CounterMetricFamily(
            "handfast_handovers", "Handovers this pod took part in, by their end.", labels=["result"]
        )
        for result, count in numbers.handovers.items():
            handovers.add_metric([result], count)
        yield handovers
