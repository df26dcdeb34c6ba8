"""A dashboard as a picture: its panels where Grafana has them, drawn from what their queries answered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from bench.pictures import FAINT, GREY, STYLE

from .results import Line, Seen

Json = dict[str, Any]

_WIDTH: Final = 14.0
"""Inches."""
_UNIT: Final = 0.25
"""Inches of a panel that Grafana calls 1 high."""
_COLUMNS: Final = 24
_TITLE: Final = 0.55
"""Inches above all panels."""
_LINES: Final = (
    "#1f6fb4", "#c2571a", "#2e9e5b", "#7c5cc4", "#d4a017", "#c0392b", "#17a2b8", "#8d6e63",
)  # fmt: skip
_EVENTS: Final = {"orange": "#e67e22", "blue": "#3d7fd9", "purple": "#7c5cc4"}
_MOST: Final = 6
"""Lines that a legend names."""


def draw(seen: Seen, dashboard: Json, path: Path) -> None:
    panels = dashboard["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    height = rows * _UNIT + _TITLE
    with style.context(STYLE | {"font.size": 7, "axes.titlesize": 8, "figure.dpi": 110}):
        figure = Figure(figsize=(_WIDTH, height))
        figure.text(0.008, 1 - 0.25 / height, dashboard["title"], fontsize=12, weight="bold", va="center")
        faults = ", ".join(f"{mark.name} ({mark.at / 60:.1f})" for mark in seen.faults)
        figure.text(0.2, 1 - 0.25 / height, f"minutes: {faults}", fontsize=8, color=GREY, va="center")
        for panel in panels:
            axes = figure.add_axes(_place(panel["gridPos"], height))
            axes.set_title(panel["title"], pad=4)
            _DRAW[panel["type"]](axes, panel, seen.panels[panel["title"]], seen)
            if panel["type"] != "stat":
                _events(axes, dashboard, seen)
        figure.savefig(path)


def _place(at: Json, height: float) -> tuple[float, float, float, float]:
    """Left, bottom, width and height, as shares of the picture; with room for title and ticks."""
    column = 1 / _COLUMNS
    bottom = 1 - (_TITLE + (at["y"] + at["h"]) * _UNIT) / height
    return (
        at["x"] * column + 0.032,
        bottom + 0.3 / height,
        at["w"] * column - 0.04,
        (at["h"] * _UNIT - 0.62) / height,
    )


def _minutes(seen: Seen) -> list[float]:
    return [step * seen.step / 60 for step in range(seen.seconds // seen.step + 1)]


def _over_time(axes: Axes, seen: Seen) -> None:
    axes.set_xlim(0, seen.seconds / 60)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)


def _events(axes: Axes, dashboard: Json, seen: Seen) -> None:
    for event in dashboard["annotations"]["list"]:
        for mark in seen.events[event["name"]]:
            colour = _EVENTS[event["iconColor"]]
            axes.axvline(mark.at / 60, color=colour, linewidth=0.8, linestyle="--", alpha=0.8)


def _lines(axes: Axes, panel: Json, lines: Sequence[Line], seen: Seen) -> None:
    minutes = _minutes(seen)
    stacked = panel["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
    colours = [_LINES[index % len(_LINES)] for index in range(len(lines))]
    if stacked and lines:
        values = [[value or 0.0 for value in line.values] for line in lines]
        labels = [line.legend for line in lines]
        axes.stackplot(minutes, values, labels=labels, colors=colours, alpha=0.5)
    else:
        for line, colour in zip(lines, colours, strict=True):
            gaps = [float("nan") if value is None else value for value in line.values]
            axes.plot(minutes, gaps, label=line.legend, color=colour, linewidth=1.2)
    _over_time(axes, seen)
    axes.set_ylim(bottom=0)
    for value, colour in _thresholds(panel):
        if value is not None and value <= axes.get_ylim()[1]:
            axes.axhline(value, color=colour, linewidth=0.8, linestyle=":")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, unit))
    if any(line.legend for line in lines):
        handles, names = axes.get_legend_handles_labels()
        axes.legend(handles[:_MOST], names[:_MOST], loc="upper right", fontsize=6, framealpha=0.7)


def _number(axes: Axes, panel: Json, lines: Sequence[Line], _: Seen) -> None:
    axes.axis("off")
    unit = panel["fieldConfig"]["defaults"]["unit"]
    value = lines[0].values[-1] if lines else None
    text = "no data" if value is None else formatted(value, unit)
    axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=17, color=_colour(panel, value or 0.0))


def _heatmap(axes: Axes, _: Json, lines: Sequence[Line], seen: Seen) -> None:
    """Buckets are cumulative: each less the one below it is what lies between both bounds."""
    ordered = sorted(lines, key=lambda line: float(line.legend))
    below = [0.0] * len(_minutes(seen))
    cells = []
    for line in ordered:
        counts = [value or 0.0 for value in line.values]
        cells.append([max(0.0, count - low) for count, low in zip(counts, below, strict=True)])
        below = counts
    shown = [[value if value > 0 else float("nan") for value in row] for row in cells]
    if cells:
        norm = PowerNorm(0.5, vmin=-0.5)
        axes.pcolormesh(_minutes(seen), range(len(cells)), shown, cmap=colormaps["Oranges"], norm=norm)
    _over_time(axes, seen)
    ticks = range(1, len(ordered) - 1, 3)
    axes.set_yticks([tick + 0.5 for tick in ticks], [formatted(float(ordered[t].legend), "s") for t in ticks])


def _states(axes: Axes, panel: Json, lines: Sequence[Line], seen: Seen) -> None:
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    for row, line in enumerate(lines):
        for step, value in enumerate(line.values):
            if value is not None:
                colour = _COLOURS[mapping["options"][f"{value:.0f}"]["color"]]
                span = [(step * seen.step / 60, seen.step / 60)]
                axes.broken_barh(span, (row + 0.1, 0.8), color=colour, linewidth=0)
    _over_time(axes, seen)
    axes.set_yticks([])
    axes.set_ylim(0, max(len(lines), 1))
    for row, line in enumerate(lines):
        axes.text(0.05, row + 0.5, line.legend, va="center", fontsize=6, color="#111827")


_DRAW: Final[dict[str, Callable[[Axes, Json, Sequence[Line], Seen], None]]] = {
    "timeseries": _lines,
    "stat": _number,
    "heatmap": _heatmap,
    "state-timeline": _states,
}
_COLOURS: Final = {
    "green": "#2e9e5b",
    "light-blue": "#a9cdee",
    "orange": "#e67e22",
    "red": "#c0392b",
    "yellow": "#d4a017",
}


def _thresholds(panel: Json) -> Iterable[tuple[float | None, str]]:
    steps = panel["fieldConfig"]["defaults"].get("thresholds", {"steps": []})["steps"]
    return [(step["value"], _COLOURS[step["color"]]) for step in steps]


def _colour(panel: Json, value: float) -> str:
    reached = [colour for bound, colour in _thresholds(panel) if bound is None or value >= bound]
    return reached[-1] if reached else "#111827"


def formatted(value: float, unit: str) -> str:
    """As Grafana would write it, in a few characters."""
    match unit:
        case "s":
            return f"{value * 1000:.0f} ms" if 0 < value < 1 else f"{value:g} s"
        case "percentunit":
            return f"{value * 100:.3g} %" if abs(value) < 10 else f"{value * 100:,.0f} %"
        case "bytes" | "Bps":
            scale, letter = next((s for s in ((1e6, "M"), (1e3, "k")) if value >= s[0]), (1.0, ""))
            return f"{value / scale:.3g} {letter}B{'/s' if unit == 'Bps' else ''}"
        case _:
            return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
