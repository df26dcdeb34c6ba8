"""Clients behind network address translation: reachable while the router remembers their flow."""

from __future__ import annotations

import pytest

from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce


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
