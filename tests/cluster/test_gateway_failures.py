"""Ends of a gateway's pods that nobody has planned, and an operator that is not there."""

from __future__ import annotations

import signal
import time
from contextlib import closing

import pytest

from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

from .api import Api, is_ready
from .cloud import Balancer
from .cluster import Cluster
from .control_plane import start_api_server
from .gateways import GATEWAY, Gateway, install, peer, without_operator
from .insiders import Insiders
from .network import set_cable
from .outside import Outside
from .scene import OWN_TIMERS

pytestmark = [pytest.mark.disturbs_nodes, pytest.mark.timeout(400)]


@pytest.fixture
def gateway(api: Api, machines: Cluster) -> Gateway:
    install(machines)
    return Gateway(api)


def node_of(gateway: Gateway, pod: str) -> str:
    return str(gateway.api.get("Pod", pod)["spec"]["nodeName"])


def kill_tunnels(cluster: Cluster, node: str) -> None:
    """SIGKILL for keeper and worker of every tunnel there."""
    cluster.machines[node].run("pkill", "-KILL", "-f", "handfast-tunnel run")


def test_a_crash_in_place_keeps_the_sessions(gateway: Gateway, machines: Cluster, outside: Outside) -> None:
    gateway.up(peer("alice"))
    client, echo = gateway.client(outside.add("alice"), "alice"), gateway.put_behind()
    active, handshakes = gateway.status["active"], client.handshakes()
    before = gateway.restarts()
    with Probes() as probes:
        log = probes.ask(client.host.node, echo)
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        kill_tunnels(machines, node_of(gateway, active["pod"]))
        wait_until(lambda: log.longest_silence(began) > 0.2, 5, "the crash to be noticed")
        wait_until(lambda: log.settled(time.monotonic() - 1), 30, "the client to be back")
        print(f"crash in place: {log.longest_silence(began):.2f} s without an answer")
    assert client.handshakes() == handshakes, "the session went on"
    wait_until(lambda: sum(gateway.restarts().values()) > sum(before.values()), 20, "the restart to be seen")
    assert gateway.restarts().keys() == before.keys()
    assert gateway.status["active"] == active


def test_a_lost_node(gateway: Gateway, machines: Cluster, outside: Outside) -> None:
    """The other pod takes over at a higher term; when the node is back, one pod is active."""
    host = outside.add("alice")
    gateway.api.apply(peer("alice"))
    gateway.start(gateway={"exposure": "LoadBalancer"})
    gateway.api.wait("Service", "office", bool)
    # Its own: while a command runs in a pod, the client of that call can do nothing else.
    with (
        closing(Api(machines.settings.kubeconfig, gateway.api.namespace)) as cloud,
        Balancer(machines, cloud, "office", keeps_flows=False) as balancer,
    ):
        balancer.wait_healthy("node1", "node2")
        gateway.wait_ready()
        gateway.wait_peer("alice")
        client = gateway.client(host, "alice")
        old = gateway.status["active"]
        node = node_of(gateway, old["pod"])
        insiders = Insiders(machines, gateway)
        insiders.wait_told(old["pod"])
        set_cable(machines.router, node, connected=False)
        try:
            new = gateway.wait_active(old["pod"], 120)
            began = time.monotonic()
            client.wait_connected(GATEWAY, 60)
            back = time.monotonic() - began
        finally:
            set_cable(machines.router, node, connected=True)
        joined = time.monotonic()
        wait_until(lambda: insiders.active() == [new], 10, f"{new} alone to be active")
        print(f"one active pod {time.monotonic() - joined:.2f} s after the partition")
        print(f"lost node: back {back:.2f} s after the other pod was active")
        assert back < OWN_TIMERS - 5, "it was answered, and did not wait for its own timer"
        assert gateway.status["active"]["term"] > old["term"]
        gateway.api.wait("Node", node, is_ready, 60)
        assert insiders.active() == [new]
        assert client.pings(GATEWAY)


def test_without_an_operator(gateway: Gateway, machines: Cluster, outside: Outside) -> None:
    """Clients go on, a crash in place heals by itself, and a failover waits for it."""
    gateway.up(peer("alice"))
    client = gateway.client(outside.add("alice"), "alice")
    old = gateway.active
    with without_operator(machines):
        assert client.pings(GATEWAY)
        kill_tunnels(machines, node_of(gateway, old))
        client.wait_connected(GATEWAY, 30)
        gateway.api.delete("Pod", old)
        gateway.api.wait_gone("Pod", old, 60)
        assert not client.pings(GATEWAY)
    assert gateway.wait_active(old) != old
    client.wait_connected(GATEWAY, 60)


def test_a_restarted_api_server(gateway: Gateway, machines: Cluster, outside: Outside) -> None:
    """Clients notice nothing, and the operator hears of what changes afterwards."""
    gateway.up(peer("alice"))
    client, echo = gateway.client(outside.add("alice"), "alice"), gateway.put_behind()
    active = gateway.status["active"]
    with Probes() as probes:
        log = probes.ask(client.host.node, echo)
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        machines.control.stop("kube-apiserver", signal.SIGKILL)
        time.sleep(1)
        start_api_server(machines.control)
        # A reading call finds out by itself that its connection is gone, a writing one is not repeated.
        gateway.wait_ready()
        gateway.api.apply(peer("bob"))
        gateway.wait_peer("bob")
        end = time.monotonic()
        wait_until(lambda: log.settled(end), 5, "the last answers")
        lost = log.unanswered(began, end)
    assert not lost, f"of {len(log.sent)} probes, those after so many seconds: {lost}"
    assert gateway.status["active"] == active
    gateway.api.delete("Pod", active["pod"])
    gateway.wait_active(active["pod"])
    client.wait_connected(GATEWAY, 30)


def test_a_namespace_ends_without_an_operator(gateway: Gateway, machines: Cluster) -> None:
    gateway.up(peer("alice"))
    with without_operator(machines):
        gateway.api.delete("Namespace", gateway.api.namespace)
        gateway.api.wait_gone("Namespace", gateway.api.namespace, 60)


def test_a_drained_node(gateway: Gateway, machines: Cluster, outside: Outside) -> None:
    """With the gateway's active pod and an operator on it."""
    gateway.up(peer("alice"))
    client, old = gateway.client(outside.add("alice"), "alice"), gateway.active
    node = node_of(gateway, old)
    try:
        machines.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", timeout=120
        )
        assert gateway.wait_active(old) != old
        client.wait_connected(GATEWAY, 30)
    finally:
        machines.kubectl("uncordon", node)
    gateway.wait_ready(120)
