"""What becomes of a long-lived UDP flow when the pods behind its Service change.

A connection that conntrack remembers goes on to its old pod: kube-proxy has to make it forget. Nobody could
tell by new flows, and every WireGuard client is an old one.
"""

from __future__ import annotations

import pytest

from .api import Api
from .cloud import Balancer, Style
from .cluster import Cluster
from .flows import Flow, answered_flow
from .objects import WHO, container, node_port, pod, service
from .outside import Outside
from .settings import address

pytestmark = pytest.mark.usefixtures("machines")
both_proxies = pytest.mark.parametrize("proxy", ["iptables", "nftables"], indirect=True)
LABELS = {"app": "echo"}
NODE1 = address("node1").ipv4


@both_proxies
def test_a_flow_stays_until_its_pod_stops_serving_and_then_moves(api: Api, outside: Outside) -> None:
    client = outside.add("client")
    api.apply(service("echo", "NodePort"), pod("first", container(linger=6), labels=LABELS, grace=30))
    api.wait_ready("first")
    with Flow(client, NODE1, node_port(api.get("Service", "echo"), WHO)) as flow:
        flow.wait_for("first")
        api.apply(pod("second", labels=LABELS))
        api.wait_ready("second")
        assert [flow.ask() for _ in range(5)] == ["first"] * 5
        api.delete("Pod", "first")
        api.wait("Pod", "first", lambda found: "deletionTimestamp" in found["metadata"])
        # It takes its time to end, and until then it serves.
        assert [flow.ask() for _ in range(5)] == ["first"] * 5
        # conntrack alone would remember it for 120 s more.
        assert flow.wait_for("second", timeout=30) < 20


@both_proxies
def test_a_flow_moves_from_a_pod_that_is_no_longer_selected(api: Api, outside: Outside) -> None:
    """The flip: a Service turns to another pod, while both of them serve."""
    client = outside.add("client")
    api.apply(service("echo", "NodePort", app="first"), pod("first"), pod("second"))
    api.wait_ready("first", "second")
    with Flow(client, NODE1, node_port(api.get("Service", "echo"), WHO)) as flow:
        flow.wait_for("first")
        api.patch("Service", "echo", {"spec": {"selector": {"app": "second"}}})
        flow.wait_for("second")
        assert [flow.ask() for _ in range(5)] == ["second"] * 5


@pytest.mark.parametrize("style", ["passthrough", "node ports"])
@pytest.mark.parametrize("keeps_flows", [True, False], ids=["kept", "rerouted"])
def test_a_balancer_keeps_or_reroutes_flows_of_an_unhealthy_node(
    api: Api, machines: Cluster, outside: Outside, style: Style, keeps_flows: bool
) -> None:
    """Clouds differ in this: a flow that is kept stays dark, until it has been silent for long enough."""
    client = outside.add("client")
    api.apply(
        service("echo", "LoadBalancer", policy="Local"),
        pod("first", node="node1", labels=LABELS),
        pod("second", node="node2", labels=LABELS),
    )
    api.wait_ready("first", "second")
    with Balancer(machines, api, "echo", style, keeps_flows=keeps_flows) as balancer:
        balancer.wait_healthy("node1", "node2")
        with answered_flow(client, balancer.address, WHO) as flow:
            before = flow.ask()
            assert before
            api.delete("Pod", before, grace=0)
            balancer.wait_healthy("node2" if before == "first" else "node1")
            if keeps_flows:
                assert [flow.ask() for _ in range(5)] == [None] * 5
            else:
                flow.wait_for("second" if before == "first" else "first")
