"""Figures that are measured once a round for each subject, so that a round's ratios mean something.

What could not be measured says why, and stands in the table; what nobody tried to measure is an error.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from tests.lab.namespaces import LabError

FAILURES: Final = (LabError, subprocess.SubprocessError, OSError, ValueError, KeyError)
"""Of the lab, of a program in it, and of what it said."""


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    digits: int = 0
    higher_is_better: bool = True

    def text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class Sample:
    round: int
    subject: str
    metric: str
    value: float | None
    why: str = ""
    """Where there is no value."""


def measured(
    number: int, subject: str, metrics: Sequence[Metric], measure: Callable[[], Sequence[float]]
) -> list[Sample]:
    """One sample for each metric, whatever happens in the lab."""
    try:
        values = measure()
    except FAILURES as error:
        return unmeasured(number, subject, metrics, error)
    return [
        Sample(number, subject, metric.name, round(value, 4))
        for metric, value in zip(metrics, values, strict=True)
    ]


def unmeasured(number: int, subject: str, metrics: Iterable[Metric], error: Exception) -> list[Sample]:
    why = " ".join(f"{type(error).__name__}: {error}".split())[:120].replace("|", "/")
    return [Sample(number, subject, metric.name, None, why) for metric in metrics]


def values(samples: Iterable[Sample], subject: str, metric: Metric) -> dict[int, float]:
    """By round, of those that were measured. KeyError where nobody tried."""
    found = _of(samples, subject, metric)
    if not found:
        raise KeyError(f"no measurement of {metric.name} for {subject}")
    return {each.round: each.value for each in found if each.value is not None}


def ratios(samples: Sequence[Sample], subject: str, metric: Metric, reference: str) -> list[float]:
    """To the reference, round by round."""
    references = values(samples, reference, metric)
    own = values(samples, subject, metric)
    return [value / references[number] for number, value in own.items() if references.get(number)]


def cell(samples: Sequence[Sample], subject: str, metric: Metric, reference: str | None) -> str:
    """The median, and the ratio to the reference."""
    found = values(samples, subject, metric)
    failed = [each for each in _of(samples, subject, metric) if each.value is None]
    if not found:
        return f"not measured: {failed[-1].why}"
    notes = []
    if reference:
        compared = ratios(samples, subject, metric, reference)
        notes.append(f"{median(compared):.2f}" if compared else "no ratio")
    if failed:
        notes.append(f"{len(failed)} of {len(failed) + len(found)} not measured: {failed[-1].why}")
    text = metric.text(median(found.values()))
    return f"{text} ({'; '.join(notes)})" if notes else text


def _of(samples: Iterable[Sample], subject: str, metric: Metric) -> list[Sample]:
    return [each for each in samples if (each.subject, each.metric) == (subject, metric.name)]


def table(
    samples: Sequence[Sample],
    corner: str,
    subjects: Sequence[str],
    metrics: Sequence[Metric],
    reference: str | None = None,
) -> tuple[list[str], list[list[str]]]:
    """A line a metric, a column a subject."""
    lines = [
        [f"{metric.name} ({metric.unit})", *(cell(samples, each, metric, reference) for each in subjects)]
        for metric in metrics
    ]
    return [corner, *subjects], lines


def summary(samples: Iterable[Sample], metrics: Iterable[Metric]) -> str:
    """One round of one subject, for people who wait."""
    by_name = {metric.name: metric for metric in metrics}
    return ", ".join(
        f"{each.metric}: not measured: {each.why}"
        if each.value is None
        else f"{by_name[each.metric].text(each.value)} {by_name[each.metric].unit}"
        for each in samples
    )


def to_json(samples: Iterable[Sample]) -> list[dict[str, Any]]:
    return [{name: value for name, value in asdict(each).items() if value != ""} for each in samples]


def from_json(data: Iterable[dict[str, Any]]) -> list[Sample]:
    return [Sample(**each) for each in data]
