"""What a dashboard's JSON asks Prometheus, with its variables filled in as Grafana fills them in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FOLDER: Final = Path(__file__).resolve().parents[1] / "charts/handfast/files/dashboards"
RATE_INTERVAL: Final = "1m"
"""Grafana's for a scrape every 15 s."""
_LABELS: Final = re.compile(r"label_values\((.*), (\w+)\)")


@dataclass(frozen=True)
class Asked:
    """One query, and what asks it."""

    panel: str
    expression: str
    legend: str
    instant: bool


def dashboards() -> dict[str, dict[str, Any]]:
    """All that are checked in, by the name of their file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def of_panels(dashboard: Mapping[str, Any], rate_interval: str = RATE_INTERVAL, **chosen: str) -> list[Asked]:
    """`chosen` are the values of variables; all, where one is left out."""

    def found() -> Iterator[Asked]:
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                expression = filled(dashboard, target["expr"], rate_interval, chosen)
                yield Asked(panel["title"], expression, target["legendFormat"], target["instant"])

    return list(found())


def of_events(dashboard: Mapping[str, Any], **chosen: str) -> list[Asked]:
    return [
        Asked(
            each["name"], filled(dashboard, each["expr"], RATE_INTERVAL, chosen), each["titleFormat"], False
        )
        for each in dashboard["annotations"]["list"]
    ]


def of_variables(dashboard: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The series and the label that each takes its values from."""
    found = {}
    for each in _choices(dashboard):
        match = _LABELS.fullmatch(each["query"]["query"])
        assert match, each
        series, label = match.groups()
        found[each["name"]] = (filled(dashboard, series, RATE_INTERVAL, {}), label)
    return found


def filled(
    dashboard: Mapping[str, Any], expression: str, rate_interval: str, chosen: Mapping[str, str]
) -> str:
    values = {each["name"]: each["allValue"] for each in _choices(dashboard)} | dict(chosen)
    values["__rate_interval"] = rate_interval
    for name, value in values.items():
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression, expression
    return expression


def _choices(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in dashboard["templating"]["list"] if each["type"] == "query"]
