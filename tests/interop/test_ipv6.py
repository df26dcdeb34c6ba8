"""All that depends on addresses, over an IPv6 underlay: restarts, strays, cookies, NAT, roaming."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import handshakes, settle_pair, wait_for_method
from tests.lab.filters import Filters, Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer
from tests.lab.restarts import EVENTS, end_tree, lose_keys, take_down
from tests.lab.wire import session_completed


def over_ipv6(pair: Pair) -> Pair:
    """The client has the server's IPv6 endpoint only."""
    pair.client.knows(pair.server, endpoint=endpoint(pair.server))
    return pair


def endpoint(peer: Peer) -> str:
    return f"[{peer.host.ipv6}]:{peer.port}"


def test_sessions_outlive_their_process(serving: Pair) -> None:
    pair = over_ipv6(serving)
    pair.start()
    pair.client.reaches(pair.server)
    settle_pair(pair)
    for event in EVENTS.values():
        began = event(pair.server)
        pair.server.reaches(pair.client)
        assert not handshakes(pair, began)
        assert pair.server.status(pair.client).endpoint == endpoint(pair.client)


def test_who_lost_its_keys_greets_and_answers(serving: Pair) -> None:
    pair = over_ipv6(serving)
    server, client, capture = pair.server, pair.client, pair.on_client_cable
    pair.start()
    client.reaches(server)
    take_down(server)
    end_tree(server)
    restarted = time.monotonic()
    server.start()
    capture.wait_for(lambda: session_completed(capture, restarted), 5, "a session")
    wait_for_method(server, client, "announced")
    end_tree(server)
    server.environment["HANDFAST_ANNOUNCE"] = "never"
    server.start()
    client.reaches(server)
    settle_pair(pair)
    lost = lose_keys(server)
    client.reaches(server, timeout=8)
    wait_for_method(server, client, "answered")
    assert {d.source for d in capture.matching(Message.INITIATION, since=lost)} == {server.host.ipv6}


def test_a_cookie_lets_a_client_in(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """Under load from the first initiation on; the client comes back after 5 s, as is its way."""
    pair = make_pair(
        network, handfast.hurried(HANDSHAKE_BACKLOG_LIMIT=-1.0), wireguard_go, handfast_serves=True
    )
    over_ipv6(pair).start()
    pair.client.reaches(pair.server)
    assert pair.on_client_cable.matching(Message.COOKIE_REPLY, source=pair.server.host.ipv6)
    assert any(pair.on_client_cable.matching(Message.INITIATION)[-1].payload[132:148]), "mac2"


def test_a_client_behind_nat(serving: Pair, filters: Filters) -> None:
    pair = over_ipv6(serving)
    server, client = pair.server, pair.client
    filters.masquerade("client")
    pair.start()
    client.reaches(server)
    router = f"fd77:{server.host.number:x}::1"
    assert server.status(client).endpoint == f"[{router}]:{client.port}"
    assert server.ping(client)


@pytest.mark.parametrize("other", ["wireguard-go", "wireguard-go-modern"], indirect=True)
@pytest.mark.parametrize("mover", ["server", "client"])
def test_roaming(serving: Pair, mover: str) -> None:
    """Who moves speaks first; the other follows. Boringtun's sockets are tied to an address that is gone."""
    pair = over_ipv6(serving)
    pair.start()
    pair.client.reaches(pair.server)
    settle_pair(pair)
    moves, follows = (pair.server, pair.client) if mover == "server" else (pair.client, pair.server)
    moves.host.move_to(9)
    began = time.monotonic()
    moves.reaches(follows)
    wait_until(lambda: follows.status(moves).endpoint == endpoint(moves), 5, "the other to follow")
    assert follows.ping(moves)
    assert not handshakes(pair, began)
