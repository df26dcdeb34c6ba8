"""The picture of `throughput`: a panel a metric, a bar a subject to its median, a point a round."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .pictures import COLOURS, FAINT, GREY, STYLE
from .samples import Metric, Sample, ratios, values
from .throughput import GROUPS, Rows

COLUMNS: Final = 3
MIXED: Final = "#7aaedb"
"""Handfast at one end only."""
_HEIGHT: Final = 1.9
"""Inches of a row of panels."""
_DECADES: Final = 100
"""What differs by more is drawn on a logarithmic axis."""


def draw(samples: Sequence[Sample], path: Path) -> None:
    groups = [rows.of(samples) for rows in GROUPS]
    heights = [-(-len(rows.metrics) // COLUMNS) for rows in groups]
    with style.context(STYLE):
        figure = Figure(figsize=(11, _HEIGHT * sum(heights) + 0.6))
        parts = figure.subfigures(len(groups), 1, height_ratios=heights, squeeze=False)[:, 0]
        for part, rows, height in zip(parts, groups, heights, strict=True):
            panels = list(part.subplots(height, COLUMNS, sharey=True, squeeze=False).flat)
            for panel, metric in zip(panels, rows.metrics, strict=False):
                _panel(panel, rows, metric, samples)
            for panel in panels[len(rows.metrics) :]:
                panel.set_visible(False)
            part.suptitle(rows.title, x=0.01, ha="left", fontsize=12)
            part.subplots_adjust(left=0.19, right=0.97, wspace=0.16, hspace=0.8, top=0.88, bottom=0.12)
        about = "bars: medians; points: rounds; beside them the ratio to wireguard-go (modern)"
        figure.text(0.995, 0.003, about, ha="right", fontsize=8, color=GREY)
        figure.savefig(path)


def _panel(panel: Axes, rows: Rows, metric: Metric, samples: Sequence[Sample]) -> None:
    found = [list(values(samples, subject, metric).values()) for subject in rows.subjects]
    everything = [value for each in found for value in each if value > 0] or [1]
    if max(everything) > min(everything) * _DECADES:
        panel.set_xscale("log")
        panel.set_xlim(min(everything) / 2, max(everything) * 8)
    else:
        panel.set_xlim(0, max(everything) * 1.25)
        panel.locator_params(axis="x", nbins=4)
        panel.xaxis.set_major_formatter("{x:,.10g}")
    for y, (subject, figures) in enumerate(zip(rows.subjects, found, strict=True)):
        _lane(panel, y, figures, COLOURS.get(subject, MIXED))
        panel.annotate(
            _beside(samples, subject, metric, rows.reference, figures),
            (max(figures, default=0), y), (8, 0), textcoords="offset points", va="center", fontsize=8,
            color=COLOURS.get(subject, MIXED),
        )  # fmt: skip
    panel.set_title(metric.name, fontsize=10)
    panel.set_xlabel(
        metric.unit if metric.higher_is_better else f"{metric.unit} (less is better)", fontsize=8
    )
    labels = [subject.replace(", client", "\nclient") for subject in rows.subjects]
    panel.set_yticks(range(len(labels)), labels)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.tick_params(labelsize=8)
    panel.grid(axis="x", color=FAINT, linewidth=0.8)
    panel.set_axisbelow(True)


def _lane(panel: Axes, y: int, figures: Sequence[float], colour: str) -> None:
    if figures:
        panel.barh(y, median(figures), height=0.62, color=colour, alpha=0.35)
        panel.plot(figures, [y] * len(figures), "o", markersize=3.5, color=colour, alpha=0.8)


def _beside(
    samples: Sequence[Sample], subject: str, metric: Metric, reference: str | None, figures: Sequence[float]
) -> str:
    if not figures:
        return "not measured"
    if reference is None:
        return metric.text(median(figures))
    compared = ratios(samples, subject, metric, reference)
    return f"{median(compared):.2f}" if compared else ""
