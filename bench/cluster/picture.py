"""The outages as a picture: a panel a kind of client, a lane an event, every client a point."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.pictures import COLOURS, GREY, STYLE, outage_axes
from bench.results import Kind

from .results import GATEWAYS, Event, Outage, Results

_LANE: Final = 0.4
_TICKS: Final = (0.1, 1, 10)


def draw(results: Results, path: Path) -> None:
    with style.context(STYLE):
        figure = Figure(figsize=(11, 9))
        panels = figure.subplots(2, 2, sharey=True, sharex=True)
        for panel, kind in zip(panels.flat, Kind, strict=True):
            _panel(panel, results, [o for o in results.outages if o.case.kind is kind])
            panel.set_title(kind[0].upper() + kind[1:], pad=22)
        for panel in panels[1]:
            panel.set_xlabel("seconds until the client is back (log scale)")
        figure.legend(handles=_legend(), loc="upper right", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.97))
        figure.savefig(path)


def _panel(panel: Axes, results: Results, outages: list[Outage]) -> None:
    # Clients whose outage began late are watched for longer than the limit.
    never = max([results.limit, *(o.seconds for o in outages if math.isfinite(o.seconds))]) * 1.6
    for index, event in enumerate(Event):
        for order, gateway in enumerate(GATEWAYS):
            points = [o for o in outages if (o.case.event, o.case.gateway) == (event, gateway)]
            if points:
                _lane(panel, points, index + _LANE * (order - 0.5), COLOURS[gateway], never)
    shade = (never / 1.25, never * 1.4)
    outage_axes(panel, list(Event), _TICKS, 0.02, shade, never, results.limit)


def _lane(panel: Axes, points: list[Outage], y: float, colour: str, never: float) -> None:
    for index, outage in enumerate(points):
        spread = _LANE * 0.7 * ((index + 0.5) / len(points) - 0.5)
        panel.plot(
            _place(outage.seconds, never),
            y + spread,
            marker="^" if outage.nat else "o",
            markersize=4,
            markerfacecolor="none" if outage.nat else colour,
            markeredgecolor=colour,
            alpha=0.8,
        )
    middle = _place(median(outage.seconds for outage in points), never)
    panel.plot([middle, middle], [y - _LANE * 0.45, y + _LANE * 0.45], color=colour, linewidth=2)


def _place(seconds: float, never: float) -> float:
    # What was answered at once has a place on the axis, too.
    return max(seconds, 0.03) if math.isfinite(seconds) else never


def _legend() -> list[Line2D]:
    def marker(shape: str, colour: str, label: str, fill: str | None = None) -> Line2D:
        face = colour if fill is None else fill
        return Line2D([], [], linestyle="", marker=shape, color=colour, markerfacecolor=face, label=label)

    places = [marker("o", GREY, "no NAT"), marker("^", GREY, "behind NAT", "none")]
    return [*(marker("s", COLOURS[gateway], gateway) for gateway in GATEWAYS), *places]
