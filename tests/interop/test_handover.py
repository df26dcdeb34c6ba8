"""Two pods of a tunnel behind one address, and an unmodified client that must not notice much.

The router's address is the Service: a DNAT that leads to the active pod, flipped in one step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from handfast_tunnel.control import Configuration, Role
from tests.lab.certificates import Authority
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import KeyPair, Peer
from tests.lab.pods import Operator, Pod, Service, peer_spec, tunnel_spec
from tests.lab.probes import Log, Probes

INSIDE = "10.88.0.200"
TERM = 7


@dataclass
class Fleet:
    """An active and a standby pod, a client that is connected through the service."""

    network: Network
    operator: Operator
    service: Service
    old: Pod
    new: Pod
    client: Peer
    log: Log


@pytest.fixture
def fleet(network: Network, wireguard_go: Implementation, probes: Probes) -> Fleet:
    keys = KeyPair.generate()
    authority = Authority()
    old_host, new_host, client_host = network.add("old", "new", "client")
    client = Peer(client_host, wireguard_go)
    configuration = Configuration.of(1, tunnel_spec(keys), [peer_spec(client)])
    old, new = (Pod(host, configuration, authority=authority) for host in (old_host, new_host))
    operator, service = Operator(network, authority), Service(network)
    for pod in (old, new):
        pod.start()
        operator.wait_for_api(pod)
        probes.answer(pod.node)
    operator.call(old, lambda s: s.activate(term=TERM, generation=1))
    service.point(old)
    client.start()
    endpoint = f"{client_host.router_ipv4}:51820"
    client.set("peer", keys.public, "allowed-ips", "10.88.0.0/24", "endpoint", endpoint)
    log = probes.ask(client.node, INSIDE)
    wait_until(lambda: log.settled(0), 20, "the client's first answers")
    return Fleet(network, operator, service, old, new, client, log)


def test_a_handover_costs_a_round_trip(fleet: Fleet) -> None:
    began = time.monotonic()
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    wait_until(lambda: fleet.log.settled(began), 10, "answers of the new pod")
    silence = fleet.log.longest_silence(began)
    print(f"silence {silence:.3f} s")
    status = fleet.operator.status(fleet.new)
    assert status.role is Role.ACTIVE
    assert status.term == TERM + 1
    assert status.peers is not None
    assert [peer.method for peer in status.peers] == ["answered"]
    assert fleet.operator.status(fleet.old).role is Role.COMMITTED
    assert silence < 1
