"""What a real Prometheus answers to the queries of the dashboard *Recovery*."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dashboards.queries import Asked, dashboards, of_events, of_panels
from tests.cluster.prometheus import Prometheus, Series

from .results import Line, Mark, Seen

_DIGITS: Final = 4


def gather(prometheus: Prometheus, began: float, step: int, faults: list[Mark], **chosen: str) -> Seen:
    """Since `began`; `step`: the seconds between two scrapes; `chosen`: the dashboard's variables."""
    dashboard, seconds = dashboards()["recovery"], int(time.time() - began) // step * step
    span = _Span(prometheus, began, seconds, step)
    panels: dict[str, list[Line]] = {}
    for asked in of_panels(dashboard, f"{4 * step}s", **chosen):
        panels.setdefault(asked.panel, []).extend(span.lines(asked))
    events = {asked.panel: list(span.marks(asked)) for asked in of_events(dashboard, **chosen)}
    return Seen(step, seconds, panels, events, faults)


@dataclass(frozen=True)
class _Span:
    prometheus: Prometheus
    began: float
    seconds: int
    step: int

    def _asked(self, expression: str) -> list[Series]:
        return self.prometheus.ask_range(expression, self.began, self.began + self.seconds, self.step)

    def lines(self, asked: Asked) -> Iterable[Line]:
        if asked.instant:
            for each in self.prometheus.ask(asked.expression):
                yield Line(_filled(asked.legend, each.labels), (_rounded(each.value),))
            return
        for each in self._asked(asked.expression):
            by_step = {round((at - self.began) / self.step): _rounded(value) for at, value in each.points}
            steps = range(self.seconds // self.step + 1)
            yield Line(_filled(asked.legend, each.labels), tuple(by_step.get(step) for step in steps))

    def marks(self, asked: Asked) -> Iterable[Mark]:
        """Each once, where it begins."""
        for each in self._asked(asked.expression):
            former = 0.0
            for at, _ in each.points:
                if at - former > self.step * 1.5:
                    yield Mark(round(at - self.began, 1), _filled(asked.legend, each.labels))
                former = at


def _filled(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend


def _rounded(value: float) -> float | None:
    return None if value != value else float(f"{value:.{_DIGITS}g}")  # noqa: PLR0124  NaN differs from itself
