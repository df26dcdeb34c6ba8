"""What a dashboard consists of, and its JSON as Grafana imports it (its dashboard schema, version 39)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from string import ascii_uppercase
from typing import Any, Final

Json = dict[str, Any]

_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH: Final = 24
"""Columns of Grafana's grid."""
_TAG: Final = "handfast"


class Kind(StrEnum):
    """By the name of Grafana's panel."""

    LINES = "timeseries"
    NUMBER = "stat"
    HEATMAP = "heatmap"
    STATES = "state-timeline"


class Unit(StrEnum):
    NONE = "short"
    SECONDS = "s"
    RATIO = "percentunit"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    PER_SECOND = "ops"


@dataclass(frozen=True)
class Query:
    expression: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    title: str
    about: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    unit: Unit = Unit.NONE
    width: int = 8
    height: int = 8
    stacked: bool = False
    thresholds: tuple[tuple[float | None, str], ...] = ()
    """From each value on, this colour; the first value is None. Lines show them as lines."""
    states: Mapping[str, tuple[str, str]] | None = None
    """Text and colour of a value."""

    def json(self, number: int, x: int, y: int) -> Json:
        targets = [self._target(*each) for each in zip(ascii_uppercase, self.queries, strict=False)]
        return {
            "id": number,
            "type": str(self.kind),
            "title": self.title,
            "description": self.about,
            "datasource": _SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": x, "y": y},
            "targets": targets,
            "fieldConfig": {"defaults": self._defaults(), "overrides": []},
            "options": _OPTIONS[self.kind],
        }

    def _target(self, letter: str, query: Query) -> Json:
        heatmap = self.kind is Kind.HEATMAP
        return {
            "refId": letter,
            "datasource": _SOURCE,
            "editorMode": "code",
            "expr": query.expression,
            "format": "heatmap" if heatmap else "time_series",
            "instant": self.kind is Kind.NUMBER,
            "range": self.kind is not Kind.NUMBER,
            "legendFormat": "{{le}}" if heatmap else query.legend,
        }

    def _defaults(self) -> Json:
        found: Json = {"unit": str(self.unit), "custom": self._custom()}
        if self.kind is Kind.LINES:
            found["min"] = 0
        if self.thresholds:
            steps = [{"value": value, "color": colour} for value, colour in self.thresholds]
            found["thresholds"] = {"mode": "absolute", "steps": steps}
        if self.states:
            options = {
                value: {"text": text, "color": colour, "index": index}
                for index, (value, (text, colour)) in enumerate(self.states.items())
            }
            found["mappings"] = [{"type": "value", "options": options}]
        return found

    def _custom(self) -> Json:
        match self.kind:
            case Kind.LINES:
                return {
                    "drawStyle": "line",
                    "lineWidth": 1,
                    "fillOpacity": 30 if self.stacked else 5,
                    "showPoints": "never",
                    "stacking": {"mode": "normal" if self.stacked else "none"},
                    "thresholdsStyle": {"mode": "dashed" if self.thresholds else "off"},
                }
            case Kind.STATES:
                return {"fillOpacity": 70, "lineWidth": 0}
            case _:
                return {}


_LEGEND: Final = {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []}
_OPTIONS: Final[Mapping[Kind, Json]] = {
    Kind.LINES: {"legend": _LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}},
    Kind.NUMBER: {
        "reduceOptions": {"calcs": ["lastNotNull"], "values": False},
        "colorMode": "value",
        "graphMode": "none",
        "textMode": "auto",
        "justifyMode": "auto",
        "orientation": "auto",
    },
    Kind.HEATMAP: {
        "calculate": False,
        "color": {
            "mode": "scheme",
            "scheme": "Oranges",
            "fill": "dark-orange",
            "steps": 64,
            "exponent": 0.5,
            "reverse": False,
        },
        "cellGap": 1,
        "cellValues": {"unit": "short"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"show": True, "yHistogram": False},
        "yAxis": {"axisPlacement": "left", "unit": "s", "reverse": False},
    },
    Kind.STATES: {
        "legend": _LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
        "alignValue": "left",
        "mergeValues": True,
        "rowHeight": 0.9,
        "showValue": "never",
    },
}


@dataclass(frozen=True)
class Event:
    """Drawn across all panels where its query has a value."""

    name: str
    expression: str
    title: str
    colour: str

    def json(self) -> Json:
        return {
            "name": self.name,
            "datasource": _SOURCE,
            "enable": True,
            "hide": False,
            "iconColor": self.colour,
            "expr": self.expression,
            "titleFormat": self.title,
            "step": "15s",
        }


@dataclass(frozen=True)
class Variable:
    """A choice over the values of a label; all of them at first."""

    name: str
    series: str

    def json(self) -> Json:
        asked = f"label_values({self.series}, {self.name})"
        return {
            "name": self.name,
            "label": self.name.capitalize(),
            "type": "query",
            "datasource": _SOURCE,
            "query": {"query": asked, "refId": "StandardVariableQuery"},
            "refresh": 2,
            "sort": 1,
            "multi": True,
            "includeAll": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "hide": 0,
        }


@dataclass(frozen=True)
class Dashboard:
    uid: str
    title: str
    about: str
    variables: tuple[Variable, ...]
    events: tuple[Event, ...]
    panels: tuple[Panel, ...]
    """From left to right, and from top to bottom: those of a row are of one height."""

    def json(self) -> Json:
        source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
        link = {"type": "dashboards", "title": "Handfast", "tags": [_TAG], "asDropdown": False}
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.about,
            "tags": [_TAG],
            "schemaVersion": 39,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"},
            "links": [
                link
                | {"icon": "", "tooltip": "", "targetBlank": False, "includeVars": True, "keepTime": True}
            ],
            "templating": {"list": [source | {"hide": 0}, *(each.json() for each in self.variables)]},
            "annotations": {"list": [each.json() for each in self.events]},
            "panels": list(_laid_out(self.panels)),
        }


def _laid_out(panels: Iterable[Panel]) -> Iterable[Json]:
    x = y = height = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.width > _WIDTH:
            x, y = 0, y + height
        height = panel.height
        yield panel.json(number, x, y)
        x += panel.width
