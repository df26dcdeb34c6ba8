"""Nodes that fail, each in its own way; 5 s after its last word a node counts as lost (by default 50 s)."""

from __future__ import annotations

import pytest

from tests.lab.namespaces import wait_until

from .api import Api, is_ready
from .asking import ask_from_pod
from .cluster import Cluster
from .failures import cut_off, drained, frozen, kubelet_stopped
from .objects import container, deployment, pod, service

pytestmark = pytest.mark.disturbs_nodes
LOST = 40
"""Seconds, on a busy machine."""


@pytest.fixture
def echo(api: Api) -> str:
    """The address of a pod on node2, behind the Service `echo`; a pod that can ask it is on node1."""
    api.apply(pod("asking", node="node1"), pod("echo", node="node2"), service("echo"))
    api.wait_ready("asking", "echo")
    return str(api.get("Pod", "echo")["status"]["podIP"])


def endpoints_ready(api: Api) -> list[bool]:
    slices = api.list("EndpointSlice", "kubernetes.io/service-name=echo")
    return [each["conditions"]["ready"] for part in slices for each in part.get("endpoints") or []]


def wait_lost(api: Api, machines: Cluster) -> None:
    wait_until(lambda: machines.node_status("node2") == "Unknown", LOST, "node2 to count as lost", 0.2)
    wait_until(lambda: endpoints_ready(api) == [False], LOST, "its endpoint not to be ready", 0.2)


def wait_back(api: Api) -> None:
    wait_until(lambda: endpoints_ready(api) == [True], LOST, "the endpoint to be ready", 0.2)


def test_without_its_kubelet_a_nodes_pods_go_on(api: Api, machines: Cluster, echo: str) -> None:
    with kubelet_stopped(machines, "node2"):
        wait_lost(api, machines)
        assert ask_from_pod(api, "asking", echo)
    wait_back(api)
    assert api.get("Pod", "echo")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_frozen_node_is_silent_and_comes_back(api: Api, machines: Cluster, echo: str) -> None:
    with frozen(machines, "node2"):
        wait_lost(api, machines)
        assert ask_from_pod(api, "asking", echo, attempts=2) is None
    wait_back(api)
    assert ask_from_pod(api, "asking", echo)


def test_a_node_that_is_cut_off_comes_back(api: Api, machines: Cluster, echo: str) -> None:
    with cut_off(machines, "node2"):
        wait_lost(api, machines)
        assert ask_from_pod(api, "asking", echo, attempts=2) is None
    wait_back(api)
    assert ask_from_pod(api, "asking", echo)


def test_a_drained_node_hands_its_pods_to_the_other(api: Api, machines: Cluster) -> None:
    api.apply(deployment(api.namespace, container()))
    selector = f"app={api.namespace}"
    wait_until(lambda: [*map(is_ready, api.list("Pod", selector))] == [True], 60, "the pod")
    (before,) = api.list("Pod", selector)
    node = before["spec"]["nodeName"]
    with drained(machines, node, selector):
        wait_until(lambda: [*map(is_ready, api.list("Pod", selector))] == [True], 60, "another pod")
        (after,) = api.list("Pod", selector)
    assert {node, after["spec"]["nodeName"]} == {"node1", "node2"}
