"""Clients behind network address translation: reachable while the router remembers their flow, and whatever
becomes of the server's processes."""

from __future__ import annotations

import pytest

from tests.interop.outliving import Conversation
from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.restarts import EVENTS, status_of, take_down


@pytest.mark.parametrize("handfast_serves", [True, False], ids=["handfast-serves", "handfast-calls"])
def test_the_server_reaches_clients_behind_one_address(
    network: Network, handfast: Implementation, other: Implementation, handfast_serves: bool
) -> None:
    serving, calling = (handfast, other) if handfast_serves else (other, handfast)
    server_host, *client_hosts = network.add("server") + network.add("phone", "laptop", nat=True)
    server = Peer(server_host, serving)
    phone, laptop = (Peer(host, calling, port=51830 + host.number) for host in client_hosts)
    for client in (phone, laptop):
        introduce(client, server, keepalive=1)
    for peer in (server, phone, laptop):
        peer.start()

    for client in (phone, laptop):
        server.wait_for_handshake(client)
        assert server.status(client).endpoint == f"{server_host.router_ipv4}:{client.port}"
        assert server.ping(client)

    # The router gives the client's flow another port: the server hears of it by the next keepalive.
    phone.set("listen-port", "51999")
    endpoint = f"{server_host.router_ipv4}:51999"
    wait_until(lambda: server.status(phone).endpoint == endpoint, 10, "the server to follow")
    assert server.ping(phone)
    assert server.ping(laptop)


@pytest.fixture
def translated(network: Network, handfast: Implementation, other: Implementation) -> tuple[Peer, Peer]:
    """A server, and a client behind NAT with a session."""
    [server_host] = network.add("server")
    [client_host] = network.add("client", nat=True)
    server, client = Peer(server_host, handfast), Peer(client_host, other)
    introduce(client, server)
    server.start()
    client.start()
    client.reaches(server)
    return server, client


@pytest.mark.parametrize("event", EVENTS)
def test_restarts_are_not_noticed_behind_it(
    network: Network, translated: tuple[Peer, Peer], event: str
) -> None:
    server, client = translated
    cable = network.capture(server.host)
    with (
        Conversation(client.node, server.node, server.ipv4, 7001) as upwards,
        Conversation(server.node, client.node, client.ipv4, 7002) as downwards,
    ):
        EVENTS[event](server)
        downwards.goes_on()
        upwards.goes_on()
    assert server.status(client).endpoint == f"{server.host.router_ipv4}:{client.port}"
    assert {datagram.type for datagram in cable.matching()} == {Message.TRANSPORT}
    assert status_of(server, client)["method"] == "resumed"


@pytest.mark.parametrize(("announce", "method"), [("always", "announced"), ("never", "answered")])
def test_lost_keys_cost_one_handshake_behind_it(
    translated: tuple[Peer, Peer], announce: str, method: str
) -> None:
    server, client = translated
    server.environment["HANDFAST_ANNOUNCE"] = announce
    EVENTS["sigterm"](server)
    client.reaches(server)
    take_down(server)
    server.bring_up()
    client.reaches(server, timeout=8)
    wait_until(lambda: status_of(server, client)["method"] == method, 5, "it to be back", 0.1)
    assert server.status(client).endpoint == f"{server.host.router_ipv4}:{client.port}"
    assert server.ping(client)
