"""The dashboards as files, and what Grafana would make of them; tests/cluster asks a Prometheus."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboards.__main__ import written
from dashboards.queries import dashboards, of_events, of_panels, of_variables
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.cluster.renders import template

from .test_rules import promtool

DASHBOARDS = dashboards()
_OF_ITS_DATA_SOURCE = {"step", "titleFormat"}
"""The schema leaves to a data source what its annotations are."""


def lost(given: Any, kept: Any, path: str = "") -> Iterator[str]:
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            where = f"{path}.{name}"
            if name in kept:
                yield from lost(value, kept[name], where)
            elif not (path.startswith(".annotations") and name in _OF_ITS_DATA_SOURCE):
                yield where
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, pair in enumerate(zip(given, kept, strict=True)):
            yield from lost(*pair, f"{path}[{index}]")
    elif given != kept:
        yield f"{path}: {given!r} became {kept!r}"


def test_they_are_what_their_descriptions_say() -> None:
    found = {path: path.read_text() for path in written()}
    assert found == written(), "run `make generate`"
    assert DASHBOARDS.keys() == {"operator", "recovery"}


@pytest.mark.parametrize("name", DASHBOARDS)
def test_grafanas_own_schema_knows_every_field(name: str) -> None:
    register_default_plugins()
    read = Dashboard.from_json(DASHBOARDS[name])
    assert not list(lost(DASHBOARDS[name], json.loads(JSONEncoder().encode(read))))


def test_a_field_that_the_schema_does_not_know_is_noticed() -> None:
    register_default_plugins()
    wrong = json.loads(json.dumps(DASHBOARDS["recovery"]))
    wrong["panels"][0]["targets"][0]["legend"] = "x"
    read = Dashboard.from_json(wrong)
    assert list(lost(wrong, json.loads(JSONEncoder().encode(read)))) == [".panels[0].targets[0].legend"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_grid_and_do_not_overlap(name: str) -> None:
    cells = [
        {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        for at in (panel["gridPos"] for panel in DASHBOARDS[name]["panels"])
    ]
    assert not any(one & other for one, other in combinations(cells, 2))
    everything = set[tuple[int, int]]().union(*cells)
    assert {x for x, _ in everything} == set(range(24))
    assert len(everything) == 24 * (1 + max(y for _, y in everything))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_each_panel_says_what_it_shows(name: str) -> None:
    panels = DASHBOARDS[name]["panels"]
    assert len({panel["title"] for panel in panels}) == len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"].endswith(".") for panel in panels)


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_reach_every_query_about_tunnels(name: str) -> None:
    dashboard = DASHBOARDS[name]
    chosen = of_panels(dashboard, namespace="vpn", tunnel="office") + of_events(
        dashboard, namespace="vpn", tunnel="office"
    )
    about_tunnels = [
        each for each in chosen if "handfast:" in each.expression or "handfast_active" in each.expression
    ]
    assert about_tunnels
    assert all('namespace=~"vpn", tunnel=~"office"' in each.expression for each in about_tunnels)
    assert of_variables(dashboard) == {
        "namespace": ("handfast_active", "namespace"),
        "tunnel": ('handfast_active{namespace=~".*"}', "tunnel"),
    }


def test_events_are_drawn_where_they_happen(tmp_path: Path) -> None:
    of = '{namespace="vpn",tunnel="office",pod="a",'
    appears, rises = "_x20 1x40", "3x20 4x40"
    series = {
        "Restarts": [f"handfast_incarnation{of[:-1]}}}", rises],
        "Handovers and failovers": [f'handfast_operator_events_total{of}reason="HandedOver"}}', appears],
        "Drains": [f'handfast_handovers_total{of}result="thawed"}}', appears],
    }
    asked = {each.panel: each.expression for each in of_events(DASHBOARDS["recovery"])}
    assert asked.keys() == series.keys()
    checks = [
        {
            "expr": f"count({asked[name]}) or vector(0)",
            "eval_time": at,
            "exp_samples": [{"labels": "{}", "value": seen}],
        }
        for name in series
        for at, seen in (("4m", 0), ("5m30s", 1), ("9m", 0))
    ]
    inputs = [{"series": name, "values": values} for name, values in series.values()]
    case = {"interval": "15s", "input_series": inputs, "promql_expr_test": checks}
    (tmp_path / "events.yaml").write_text(json.dumps({"tests": [case]}))
    promtool("test", "rules", "events.yaml", folder=tmp_path)


def test_the_chart_brings_them_where_grafana_looks() -> None:
    options = "metrics.dashboards.enabled=true,metrics.dashboards.namespace=monitoring"
    text = template("--no-hooks", "--set", options)
    maps = [each for each in yaml.safe_load_all(text) if each and each["kind"] == "ConfigMap"]
    found = {name: json.loads(content) for each in maps for name, content in each["data"].items()}
    assert found == {f"handfast-{name}.json": dashboard for name, dashboard in DASHBOARDS.items()}
    assert {each["metadata"]["namespace"] for each in maps} == {"monitoring"}
    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    assert "grafana_dashboard" not in template()


def test_values_kept_from_a_chart_without_dashboards_will_do() -> None:
    options = "metrics.rules.enabled=true,metrics.rules.runbooks=null"
    text = template("--no-hooks", "--set", f"{options},metrics.dashboards=null")
    assert "docs/alerts.md#handfastnooperator" in text
    assert "grafana_dashboard" not in text
