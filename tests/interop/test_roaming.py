"""Roaming: either end may move, and the other follows its authenticated packets."""

from __future__ import annotations

from tests.interop.conftest import Pair
from tests.lab.filters import Filters
from tests.lab.namespaces import wait_until
from tests.lab.peer import Peer


def seen_at(observer: Peer, other: Peer, endpoint: str) -> None:
    wait_until(lambda: observer.status(other).endpoint == endpoint, 5, f"{observer.host.name} to follow")


def test_the_server_follows_a_client_that_moves(pair: Pair, filters: Filters) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    filters.readdress("client", pair.client.host.ipv4, "10.77.2.99")
    assert pair.client.ping(pair.server)
    seen_at(pair.server, pair.client, f"10.77.2.99:{pair.client.port}")
    assert pair.server.ping(pair.client)


def test_the_client_follows_a_server_that_moves(pair: Pair, filters: Filters) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    filters.readdress("server", pair.server.host.ipv4, "10.77.1.99")
    assert pair.server.ping(pair.client)
    seen_at(pair.client, pair.server, f"10.77.1.99:{pair.server.port}")
    assert pair.client.ping(pair.server)


def test_we_lose_our_address_and_send_from_another(pair: Pair) -> None:
    """The stored local address is gone; the kernel refuses it (RECOVERY, 5)."""
    pair.start()
    pair.client.reaches(pair.server)
    pair.ours.host.move_to(9)
    assert pair.ours.ping(pair.theirs)
    seen_at(pair.theirs, pair.ours, f"{pair.ours.host.ipv4}:{pair.ours.port}")
    assert pair.theirs.ping(pair.ours)


def test_the_server_follows_a_client_that_takes_another_port(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    pair.client.set("listen-port", "51999")
    pair.client.reaches(pair.server)
    seen_at(pair.server, pair.client, f"{pair.client.host.ipv4}:51999")
    assert pair.server.ping(pair.client)


def test_the_server_follows_us_from_ipv4_to_ipv6(calling: Pair) -> None:
    calling.start()
    calling.client.reaches(calling.server)
    calling.client.set(
        "peer", calling.server.keys.public, "endpoint", f"[{calling.server.host.ipv6}]:{calling.server.port}"
    )
    calling.client.reaches(calling.server)
    seen_at(calling.server, calling.client, f"[{calling.client.host.ipv6}]:{calling.client.port}")
    assert calling.server.ping(calling.client)
