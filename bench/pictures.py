"""Pictures of the results. Every measured point is drawn; what never came back is drawn too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .results import CASES, TITLES, Kind, Outage, RestartResults
from .tables import seconds

COLOURS: Final = {
    TITLES["wireguard-go"]: "#c2571a",
    TITLES["wireguard-go-modern"]: "#8d6e63",
    TITLES["handfast"]: "#1f6fb4",
    TITLES["handfast-native"]: "#0d8a72",
    TITLES["handfast-forgetful"]: "#7c5cc4",
}
GREY: Final = "#6b7280"
FAINT: Final = "#e5e7eb"
STYLE: Final[dict[str, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": 150,
}
TICKS: Final = (0.001, 0.01, 0.1, 1, 10, 100)


def outages(results: RestartResults, path: Path) -> None:
    """Per scenario and kind of client, one lane a server: each client a point, the median a bar."""
    scenarios = list(dict.fromkeys(case.scenario for case in CASES))
    with style.context(STYLE):
        figure = Figure(figsize=(9, 2.7 * len(scenarios) + 0.8))
        panels = figure.subplots(len(scenarios), 1, sharex=True, squeeze=False)
        for panel, scenario in zip(panels[:, 0], scenarios, strict=True):
            chosen = [outage for outage in results.outages if outage.case.scenario == scenario]
            _panel(panel, results, chosen)
            panel.set_title(scenario[0].upper() + scenario[1:])
        panels[-1, 0].set_xlabel("seconds from the kill of the server until the client is back (log scale)")
        figure.legend(
            handles=_legend(results), loc="upper right", ncols=len(results.servers) + 2, frameon=False
        )
        figure.tight_layout(rect=(0, 0, 1, 0.96))
        figure.savefig(path)


def _panel(panel: Axes, results: RestartResults, chosen: list[Outage]) -> None:
    never = results.limit * 1.55
    lane = 0.8 / len(results.servers)
    for index, kind in enumerate(Kind):
        for order, server in enumerate(results.servers):
            y = index - 0.4 + lane * (order + 0.5)
            points = [o for o in chosen if o.server == server and o.case.kind is kind]
            _lane(panel, points, y, lane, COLOURS[server], never, results.limit)
    ticks = [tick for tick in TICKS if tick < results.limit]
    shade = (results.limit * 1.15, never * 1.35)
    outage_axes(panel, list(Kind), ticks, 0.0005, shade, never, results.limit)


def outage_axes(
    panel: Axes,
    rows: Sequence[str],
    ticks: Sequence[float],
    least: float,
    shade: tuple[float, float],
    never: float,
    limit: float,
) -> None:
    """Seconds from `least` on, logarithmic, and a row for each name.

    Who was not back within `limit` is drawn at `never`, in the shade.
    """
    panel.set_xscale("log")
    panel.set_xlim(least, shade[1])
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color=FAINT, linewidth=0.8)
    panel.set_axisbelow(True)
    for boundary in range(1, len(rows)):
        panel.axhline(boundary - 0.5, color=FAINT, linewidth=0.8)
    panel.axvspan(*shade, color="#f3f4f6", zorder=0)
    about = f"not back\nin {limit:.0f} s"
    panel.text(never, -0.56, about, ha="center", va="bottom", fontsize=8, color=GREY)


def _lane(
    panel: Axes, points: list[Outage], y: float, height: float, colour: str, never: float, limit: float
) -> None:
    """The points of one server and kind, spread over the height of the lane."""
    for index, outage in enumerate(points):
        spread = height * 0.6 * ((index + 0.5) / len(points) - 0.5)
        panel.plot(
            outage.seconds if math.isfinite(outage.seconds) else never,
            y + spread,
            marker="^" if outage.case.nat else "o",
            markersize=4.5,
            markerfacecolor="none" if outage.case.nat else colour,
            markeredgecolor=colour,
            alpha=0.8,
        )
    middle = median(outage.seconds for outage in points)
    x = middle if math.isfinite(middle) else never
    panel.plot([x, x], [y - height * 0.42, y + height * 0.42], color=colour, linewidth=2)
    if math.isfinite(middle):
        panel.annotate(
            seconds(middle, limit),
            (max(outage.seconds for outage in points if math.isfinite(outage.seconds)), y),
            (9, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=9,
        )


def _legend(results: RestartResults) -> list[Line2D]:
    def marker(shape: str, colour: str, filled: bool, label: str) -> Line2D:
        fill = colour if filled else "none"
        return Line2D([], [], linestyle="", marker=shape, color=colour, markerfacecolor=fill, label=label)

    servers = [marker("s", COLOURS[server], True, server) for server in results.servers]
    grey = "#374151"
    return [*servers, marker("o", grey, True, "no NAT"), marker("^", grey, False, "behind NAT")]
