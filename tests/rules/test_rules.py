"""The chart's rules for Prometheus: its own promtool reads and tests them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.prometheus import debian_program
from tests.cluster.renders import template

ROOT = Path(__file__).parents[2]
RULES = ROOT / "charts/handfast/files/rules.yaml"
CASES = Path(__file__).with_name("rules.test.yaml")
RUNBOOKS = ROOT / "docs/alerts.md"


def promtool(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        [debian_program("promtool"), *arguments], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def alerts() -> set[str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_prometheus_accepts_them() -> None:
    promtool("check", "rules", str(RULES), folder=ROOT)


def test_each_alert_fires_when_its_fault_is_there_and_not_otherwise(tmp_path: Path) -> None:
    shutil.copy(RULES, tmp_path)
    shutil.copy(CASES, tmp_path)
    promtool("test", "rules", CASES.name, folder=tmp_path)


def test_no_alert_goes_untested() -> None:
    fired: dict[str, list[bool]] = {}
    for case in yaml.safe_load(CASES.read_text())["tests"]:
        for check in case.get("alert_rule_test", []):
            fired.setdefault(check["alertname"], []).append("exp_alerts" in check)
    assert {name for name, checks in fired.items() if any(checks)} == alerts()


def test_each_alert_has_its_page() -> None:
    assert set(re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), re.MULTILINE)) == alerts()
    groups = yaml.safe_load(RULES.read_text())["groups"]
    for rule in (rule for group in groups for rule in group["rules"] if "alert" in rule):
        assert rule["annotations"]["runbook_url"] == f"docs/alerts.md#{rule['alert'].lower()}"


def test_the_chart_brings_them_whole() -> None:
    rendered: list[Any] = list(yaml.safe_load_all(template("--set", "metrics.rules.enabled=true")))
    (rule,) = [each for each in rendered if each and each["kind"] == "PrometheusRule"]
    # A page of the sources is no link.
    named = RULES.read_text().replace("runbook_url:", "runbook:")
    assert rule["spec"] == yaml.safe_load(named)


def test_without_injectors_nobody_is_woken_for_them() -> None:
    text = template("--set", "metrics.rules.enabled=true,injector.enabled=false")
    assert "HandfastNoOperator" in text
    assert "HandfastNoInjector" not in text


def test_runbooks_are_where_people_keep_them() -> None:
    home = "https://wiki.example.com/alerts"
    text = template("--set", "metrics.rules.enabled=true", "--set", f"metrics.rules.runbooks={home}")
    urls = re.findall(r"runbook_url: (\S+)#", text)
    assert urls == [home] * len(alerts())
