"""A real Prometheus scrapes the real thing: what dashboards and alerts make of a drill, and of faults."""

from __future__ import annotations

import copy
import socket
import time
from collections.abc import Iterator
from random import Random

import pytest
import yaml
from dashboards.queries import Asked, dashboards, of_events, of_panels, of_variables

from . import alert_faults, faults
from .alert_faults import AlertFault
from .api import Api, Object
from .cluster import Cluster
from .gateways import CHART, SYSTEM, Gateway, install
from .outside import Outside
from .prometheus import Prometheus
from .scene import Scene

pytestmark = pytest.mark.disturbs_nodes

RULES: Object = yaml.safe_load((CHART / "files/rules.yaml").read_text())
CLIENTS = ("alice", "bob", "carol")
HURRIED = {"hurried": "true"}
PATIENCE = 90.0
DRILL = ("worker killed", "container killed", "rollout")
UNSEEN = {"Drains"}
"""A pod that has drained is gone before it is scraped, unless its handover failed: promtool asks for that."""


@pytest.fixture
def scene(api: Api, machines: Cluster, outside: Outside) -> Iterator[Scene]:
    install(machines)
    made = Scene(Gateway(api), machines)
    made.gateway.start()
    try:
        made.up(outside, *CLIENTS)
        yield made
    finally:
        made.close()


@pytest.fixture
def prometheus(scene: Scene) -> Iterator[Prometheus]:
    namespaces = (scene.gateway.api.namespace, SYSTEM)
    with Prometheus(scene.cluster, namespaces, [RULES, hurried(RULES)]) as prometheus:
        prometheus.wait_scraped(pods(scene))
        yield prometheus


def pods(scene: Scene) -> set[str]:
    """Of the gateway and of the operator."""
    system = Api(scene.cluster.settings.kubeconfig, SYSTEM)
    found = [*scene.gateway.pods(), *system.list("Pod")]
    system.close()
    return {pod["metadata"]["name"] for pod in found}


def hurried(rules: Object) -> Object:
    """The same alerts under another label, which fire after two seconds; and every certificate is old."""
    groups = copy.deepcopy(rules["groups"])
    found = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    for rule in found:
        rule["for"] = "2s"
        rule["labels"] |= HURRIED
        rule["expr"] = rule["expr"].replace("7 * 24 * 3600", "31 * 24 * 3600")
    return {"groups": [{"name": "hurried", "rules": found}]}


def drill(scene: Scene) -> None:
    for fault in faults.FAULTS:
        if fault.name in DRILL:
            fault.strike(scene, Random(1))
            scene.wait_calm()
    address, _, port = scene.gateway.status["endpoint"].rpartition(":")
    with scene.clients["alice"].host.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
        junk.sendto(b"junk", (address, int(port)))


def wait_for_data(prometheus: Prometheus, asked: list[Asked], since: float) -> None:
    """What is counted is scraped, and recorded, and then there to be asked for."""
    deadline = time.monotonic() + PATIENCE
    while missing := without_data(prometheus, asked, since):
        assert time.monotonic() < deadline, missing
        time.sleep(0.5)


def without_data(prometheus: Prometheus, asked: list[Asked], since: float) -> list[str]:
    now = time.time()
    return [
        f"{each.panel}: {each.expression}"
        for each in asked
        if not any(found.numbers for found in prometheus.ask_range(each.expression, since, now, 1))
    ]


@pytest.mark.timeout(400)
def test_a_drill_on_the_dashboards(scene: Scene, prometheus: Prometheus) -> None:
    since, namespace = time.time(), scene.gateway.api.namespace
    drill(scene)
    prometheus.wait_scraped(pods(scene))
    # What the last process brought is recorded a moment after its scrape.
    prometheus.wait_for(f'handfast:outages:increase5m{{namespace="{namespace}"}} >= {2 * len(CLIENTS)}')
    prometheus.wait_for(f'handfast:outages_too_long:ratio_30d{{namespace="{namespace}"}}')
    chosen = {"namespace": namespace, "tunnel": "office"}
    for dashboard in dashboards().values():
        asked = of_panels(dashboard, "15s", **chosen)
        assert len(asked) >= len(dashboard["panels"])
        wait_for_data(prometheus, asked, since)
        events = [each for each in of_events(dashboard, **chosen) if each.panel not in UNSEEN]
        assert len(events) == 2
        wait_for_data(prometheus, events, since)
        for series, label in of_variables(dashboard).values():
            assert chosen[label] in prometheus.label_values(series, label)
    for rule in prometheus.rules():
        assert rule["health"] == "ok", rule
        if rule["type"] == "recording":
            assert prometheus.ask_range(rule["name"], since, time.time(), 1), rule["name"]
    # Handovers and crashes are nothing to wake anybody for.
    fired = prometheus.ask_range('ALERTS{alertstate="firing",hurried=""}', since, time.time(), 1)
    assert not [each.labels["alertname"] for each in fired]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_each_alert_fires_when_its_fault_is_made_and_not_otherwise(
    scene: Scene, prometheus: Prometheus
) -> None:
    every = {rule["alert"] for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}
    made = frozenset[str]().union(*(fault.alerts | fault.after for fault in alert_faults.FAULTS))
    assert made | alert_faults.UNMADE == every
    over = alert_faults.UNMADE
    for fault in alert_faults.FAULTS:
        fires_only_meanwhile(prometheus, scene, fault, over)
        over |= fault.after
    certificates = prometheus.ask('ALERTS{alertname="HandfastCertificateExpires",hurried="true"}')
    assert {each.labels["of"] for each in certificates} == {"operator", "pods"}
    injectors = 'alertname="HandfastInjectorCertificateExpires",alertstate="firing",hurried="true"'
    prometheus.wait_for(f"ALERTS{{{injectors}}}")


def fires_only_meanwhile(
    prometheus: Prometheus, scene: Scene, fault: AlertFault, over: frozenset[str]
) -> None:
    """What comes of it for a moment besides is not this fault's; what it leaves behind may begin with it."""

    def wait(wanted: frozenset[str], left_out: frozenset[str] = over) -> None:
        began = time.monotonic()
        while (firing := prometheus.firing(**HURRIED) - left_out) != wanted:
            late = time.monotonic() - began > PATIENCE
            assert not late, f"{sorted(firing)} fire, not {sorted(wanted)}"
            time.sleep(0.2)

    wait(frozenset())
    with fault.make(scene):
        wait(fault.alerts, over | fault.after)
    wait(fault.after)
