"""Pictures of the results. Every measured point is drawn; what never came back is drawn too."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from .results import CASES, Kind, Outage, RestartResults
from .tables import seconds

COLOURS: Final = ("#c2571a", "#1f6fb4", "#6b7280", "#2f855a")
STYLE: Final[dict[str, Any]] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "figure.dpi": 150,
}
TICKS: Final = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


def outages(results: RestartResults, path: Path) -> None:
    """Per scenario and kind of client, one lane a server: each client a point, the median a bar."""
    scenarios = list(dict.fromkeys(case.scenario for case in CASES))
    with plt.style.context(STYLE):
        figure, panels = plt.subplots(
            len(scenarios), 1, figsize=(9, 2.7 * len(scenarios) + 0.8), sharex=True, squeeze=False
        )
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
        plt.close(figure)


def _panel(panel: Axes, results: RestartResults, chosen: list[Outage]) -> None:
    never = results.limit * 1.55
    lane = 0.8 / len(results.servers)
    for index, kind in enumerate(Kind):
        for order, server in enumerate(results.servers):
            y = index - 0.4 + lane * (order + 0.5)
            points = [o for o in chosen if o.server == server and o.case.kind is kind]
            _lane(panel, points, y, lane, COLOURS[order], never, results.limit)
    panel.set_xscale("log")
    panel.set_xlim(0.04, never * 1.35)
    ticks = [tick for tick in TICKS if tick < results.limit]
    panel.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    panel.minorticks_off()
    panel.set_yticks(range(len(Kind)), list(Kind))
    panel.set_ylim(len(Kind) - 0.5, -0.5)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", color="#e5e7eb", linewidth=0.8)
    panel.set_axisbelow(True)
    for boundary in range(1, len(Kind)):
        panel.axhline(boundary - 0.5, color="#e5e7eb", linewidth=0.8)
    panel.axvspan(results.limit * 1.15, never * 1.35, color="#f3f4f6", zorder=0)
    panel.text(
        never,
        -0.56,
        f"not back\nin {results.limit:.0f} s",
        ha="center",
        va="bottom",
        fontsize=8,
        color="#6b7280",
    )


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
            (x, y),
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

    servers = [
        marker("s", colour, True, server) for server, colour in zip(results.servers, COLOURS, strict=False)
    ]
    grey = "#374151"
    return [*servers, marker("o", grey, True, "no NAT"), marker("^", grey, False, "behind NAT")]
