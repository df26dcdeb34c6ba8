"""A gateway and its clients, from two YAML files to every end that its pods can have."""

from __future__ import annotations

import base64
import time

import pytest

from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

from .api import Api, condition
from .cluster import Cluster
from .gateways import GATEWAY, Gateway, install, peer
from .outside import Outside

STOCK_OUTAGE = 15.0
"""Seconds that clients of any other WireGuard need at least, when they are sending."""

OTHERS = 100
"""Peers beside those that a test changes."""


@pytest.fixture
def gateway(api: Api, machines: Cluster) -> Gateway:
    install(machines)
    return Gateway(api)


def test_from_yaml_to_the_first_byte(gateway: Gateway, outside: Outside) -> None:
    """A client outside reaches the gateway, and what is behind it."""
    gateway.up(peer("alice"))
    client = gateway.client(outside.add("alice"), "alice")
    assert client.pings(gateway.put_behind())
    gateway.api.wait("Peer", "alice", lambda found: found["status"]["connected"], 30, "alice to be connected")


def test_adding_changing_and_removing_peers_touches_nobody_else(gateway: Gateway, outside: Outside) -> None:
    gateway.api.apply(*(peer(f"other{number}") for number in range(OTHERS)))
    gateway.up(peer("alice"), peer("bob"))
    before, generation = gateway.restarts(), gateway.status["configGeneration"]
    alice, bob = (gateway.client(outside.add(name), name) for name in ("alice", "bob"))
    handshakes, echo = alice.handshakes(), gateway.put_behind()
    with Probes() as probes:
        log = probes.ask(alice.host.node, echo)
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        gateway.api.apply(peer("carol"))
        gateway.wait_peer_served("carol")
        print(f"one of {OTHERS + 3} Peers was programmed after {time.monotonic() - began:.2f} s")
        gateway.wait_peer("carol")
        carol = gateway.client(outside.add("carol"), "carol")
        gateway.api.apply(peer("bob", disabled=True))
        wait_until(lambda: not bob.pings(GATEWAY), 20, "bob to be served no more")
        gateway.api.apply(peer("bob", disabled=False))
        bob.wait_connected(GATEWAY, 30)
        gateway.api.delete("Peer", "carol")
        wait_until(lambda: not carol.pings(GATEWAY), 20, "carol to be served no more")
        end = time.monotonic()
        wait_until(lambda: log.settled(end), 5, "the last answers")
        lost = log.unanswered(began, end)
    assert not lost, f"of {len(log.sent)} probes, those after so many seconds: {lost}"
    assert alice.handshakes() == handshakes
    assert gateway.restarts() == before
    assert gateway.status["configGeneration"] >= generation + 4
    gateway.api.wait_gone("Secret", "carol-handfast", 30)


@pytest.mark.parametrize("event", ["rollout", "deletion", "eviction"])
def test_a_planned_end_of_the_active_pod(gateway: Gateway, outside: Outside, event: str) -> None:
    """Whichever way it ends, a sending client is back before it even asks for a handshake by itself."""
    gateway.up(peer("alice"))
    client = gateway.client(outside.add("alice", nat=event == "deletion"), "alice")
    old, shaken, echo = gateway.active, client.shaken_hands_at(), gateway.put_behind()
    with Probes() as probes:
        log = probes.ask(client.host.node, echo)
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        if event == "rollout":
            stamp = {"spec": {"template": {"metadata": {"annotations": {"restarted": "now"}}}}}
            gateway.api.patch("Deployment", "office", stamp)
        elif event == "deletion":
            gateway.api.delete("Pod", old)
        else:
            gateway.evict(old)
        gateway.wait_active(old)
        wait_until(lambda: client.shaken_hands_at() > shaken, 20, "a handshake with the successor")
        back = time.monotonic()
        wait_until(lambda: log.settled(back), 20, "the client to be back")
        silence = log.longest_silence(began)
    print(f"{event}: {silence:.2f} s without an answer")
    assert silence < STOCK_OUTAGE / 3
    gateway.wait_ready()
    gateway.api.wait_gone("Pod", old, 60)


def test_more_replicas_and_fewer(gateway: Gateway, outside: Outside) -> None:
    """From one to two and back: the active pod stays, and its clients notice nothing."""
    gateway.up(peer("alice"), gateway={"exposure": "NodePort", "replicas": 1})
    client, active = gateway.client(outside.add("alice"), "alice"), gateway.status["active"]
    handshakes, echo = client.handshakes(), gateway.put_behind()
    with Probes() as probes:
        log = probes.ask(client.host.node, echo)
        # The echo may have been ready before it echoed.
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        for replicas in (2, 1):
            gateway.start(gateway={"exposure": "NodePort", "replicas": replicas})
            gateway.wait_ready()
            gateway.wait_pods(replicas)
        end = time.monotonic()
        wait_until(lambda: log.settled(end), 5, "the last answers")
        lost = log.unanswered(began, end)
    assert gateway.status["active"] == active
    assert client.handshakes() == handshakes
    assert not lost, f"of {len(log.sent)} probes, those after so many seconds: {lost}"


def test_a_lost_key_changes_nothing_for_clients(gateway: Gateway, outside: Outside) -> None:
    gateway.up(peer("alice"))
    client = gateway.client(outside.add("alice"), "alice")
    key, public = gateway.api.get("Secret", "office-handfast-key"), gateway.status["publicKey"]
    gateway.api.delete("Secret", "office-handfast-key")
    # What makes the operator look: any change of the Tunnel.
    gateway.api.apply({**peer("bob")})
    gateway.api.wait("Tunnel", "office", lambda found: condition(found, "KeyAvailable") == "False", 30)
    assert client.pings(GATEWAY)
    assert gateway.status["publicKey"] == public
    assert gateway.api.find("Secret", "office-handfast-key") is None
    gateway.wait_peer_served("bob")
    restored = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "office-handfast-key"}}
    gateway.api.apply({**restored, "data": key["data"]})
    gateway.api.wait("Tunnel", "office", lambda found: condition(found, "KeyAvailable") == "True", 30)
    assert gateway.status["publicKey"] == public


def test_conflicts_are_told_to_the_younger(gateway: Gateway) -> None:
    key = base64.b64encode(bytes(31) + b"\x04").decode()
    gateway.up(peer("first", addresses=["10.8.0.9"], publicKey=key))
    time.sleep(1.1)  # The API server counts ages in seconds.
    gateway.api.apply(
        peer("address", addresses=["10.8.0.9"]), peer("key", publicKey=key), peer("nowhere", tunnel="none")
    )
    for name, reason in (
        ("address", "AddressConflict"),
        ("key", "DuplicateKey"),
        ("nowhere", "TunnelNotFound"),
    ):
        found = gateway.api.wait("Peer", name, lambda found: condition(found, "Accepted") == "False", 20)
        (accepted,) = [each for each in found["status"]["conditions"] if each["type"] == "Accepted"]
        assert accepted["reason"] == reason
        wait_told(gateway.api, "Peer", name, reason)
        assert condition(found, "Ready") == "False"
    gateway.wait_peer("first")
    gateway.api.delete("Peer", "first")
    gateway.wait_peer("key")


def told(api: Api) -> set[tuple[str, str, str]]:
    """Of what events tell: kind, name and reason."""
    return {
        (each["involvedObject"]["kind"], each["involvedObject"]["name"], each["reason"])
        for each in api.list("Event")
    }


def wait_told(api: Api, *what: str) -> None:
    wait_until(lambda: what in told(api), 10, f"an event: {what}", interval=0.2)


def test_two_tunnels_do_not_know_each_other(gateway: Gateway, outside: Outside) -> None:
    other = Gateway(gateway.api, "branch")
    gateway.up(peer("alice"))
    other.up(peer("bob", "branch"))
    assert gateway.status["publicKey"] != other.status["publicKey"]
    for each, name in ((gateway, "alice"), (other, "bob")):
        each.client(outside.add(name), name)
    pods = {pod["metadata"]["name"] for each in (gateway, other) for pod in each.pods()}
    assert len(pods) == 4


def test_a_namespace_with_tunnels_goes_away(gateway: Gateway) -> None:
    """No finalizer holds it up, and nothing that the operator does brings anything back."""
    gateway.up(peer("alice"))
    gateway.api.delete("Namespace", gateway.api.namespace)
    gateway.api.wait_gone("Namespace", gateway.api.namespace, 60)
