"""UDP through Services, from inside and outside, as WireGuard's clients will come."""

from __future__ import annotations

import pytest

from .api import Api
from .asking import ask_from_host, ask_from_pod, wait_for_answer
from .cloud import Balancer, Style
from .cluster import Cluster
from .objects import WHO, node_port, pod, service
from .outside import Outside
from .settings import address

pytestmark = pytest.mark.usefixtures("machines")
both_proxies = pytest.mark.parametrize("proxy", ["iptables", "nftables"], indirect=True)
NODE1, NODE2 = address("node1").ipv4, address("node2").ipv4


@both_proxies
def test_cluster_ip(api: Api) -> None:
    api.apply(pod("asking", node="node1"), pod("echo", node="node2"), service("echo"))
    api.wait_ready("asking", "echo")
    answer = ask_from_pod(api, "asking", api.get("Service", "echo")["spec"]["clusterIP"])
    assert answer == ("echo", api.get("Pod", "asking")["status"]["podIP"])


@both_proxies
def test_node_port_cluster(api: Api, outside: Outside) -> None:
    """Each node leads to the pod, which sees a node instead of the client."""
    client = outside.add("client")
    api.apply(pod("echo", node="node1"), service("echo", "NodePort", policy="Cluster"))
    api.wait_ready("echo")
    port = node_port(api.get("Service", "echo"), WHO)
    for node in (NODE1, NODE2):
        answer = wait_for_answer(client, node, port)
        assert answer.pod == "echo"
        # Where the pod is, its own end of the cable has the address of the gateway.
        assert answer.client != client.ipv4


@both_proxies
@pytest.mark.parametrize("nat", [False, True], ids=["open", "behind NAT"])
def test_node_port_local(api: Api, outside: Outside, nat: bool) -> None:
    """Only the pod's own node leads to it, and the pod sees who asks."""
    client = outside.add("client", nat=nat)
    api.apply(pod("echo", node="node2"), service("echo", "NodePort", policy="Local"))
    api.wait_ready("echo")
    port = node_port(api.get("Service", "echo"), WHO)
    seen = address("router").ipv4 if nat else client.ipv4
    assert wait_for_answer(client, NODE2, port) == ("echo", seen)
    assert ask_from_host(client, NODE1, port, attempts=2) is None


@both_proxies
@pytest.mark.parametrize("style", ["passthrough", "node ports"])
@pytest.mark.parametrize("policy", ["Cluster", "Local"])
def test_load_balancer(api: Api, machines: Cluster, outside: Outside, style: Style, policy: str) -> None:
    """With Local only the pod's own node passes the health check, and the pod sees who asks."""
    client = outside.add("client")
    api.apply(pod("echo", node="node1"), service("echo", "LoadBalancer", policy=policy))
    api.wait_ready("echo")
    with Balancer(machines, api, "echo", style) as balancer:
        balancer.wait_healthy("node1", *(["node2"] if policy == "Cluster" else []))
        answers = [wait_for_answer(client, balancer.address, WHO) for _ in range(8)]
    assert {answer.pod for answer in answers} == {"echo"}
    if policy == "Local":
        assert {answer.client for answer in answers} == {client.ipv4}
    else:
        assert client.ipv4 not in {answer.client for answer in answers}


def test_a_balancer_leaves_an_unhealthy_node(api: Api, machines: Cluster, outside: Outside) -> None:
    client = outside.add("client")
    api.apply(
        pod("first", node="node1", labels={"app": "echo"}),
        pod("second", node="node2", labels={"app": "echo"}),
        service("echo", "LoadBalancer", policy="Local"),
    )
    api.wait_ready("first", "second")
    with Balancer(machines, api, "echo") as balancer:
        balancer.wait_healthy("node1", "node2")
        both = {wait_for_answer(client, balancer.address, WHO).pod for _ in range(32)}
        assert both == {"first", "second"}
        api.delete("Pod", "first", grace=0)
        balancer.wait_healthy("node2")
        assert {wait_for_answer(client, balancer.address, WHO).pod for _ in range(16)} == {"second"}
