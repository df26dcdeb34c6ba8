"""Cryptokey routing: which peer a packet goes to, and from whom it may come (paper, 2; RECOVERY, 8)."""

from __future__ import annotations

from tests.interop.conftest import STRANGER, Pair, stranger_beside
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer


def test_a_source_that_is_not_allowed_is_dropped(pair: Pair) -> None:
    ours, theirs = pair.ours, pair.theirs
    pair.start()
    pair.client.reaches(pair.server)
    with stranger_beside(ours, theirs) as (sink, friend, stranger):
        stranger.sendto(b"stranger", sink.getsockname())
        friend.sendto(b"friend", sink.getsockname())
        assert sink.recv(100) == b"friend", "the one before it was dropped"
        ours.set("peer", theirs.keys.public, "allowed-ips", f"{theirs.ipv4}/32,{STRANGER}/32")
        stranger.sendto(b"stranger", sink.getsockname())
        assert sink.recv(100) == b"stranger"


def test_the_longest_prefix_wins(network: Network, handfast: Implementation, other: Implementation) -> None:
    server_host, *client_hosts = network.add("server", "wide", "narrow")
    server = Peer(server_host, handfast)
    wide, narrow = (Peer(host, other) for host in client_hosts)
    # Both answer to the same addresses; only one of them is asked.
    server.knows(wide, allowed_ips=("10.99.0.0/16", "fd99::/16", f"{wide.ipv4}/32"))
    server.knows(narrow, allowed_ips=("10.99.7.0/24", "fd99:7::/32", f"{narrow.ipv4}/32"))
    for client in (wide, narrow):
        client.knows(server)
        client.start()
        client.node.run("ip", "address", "add", "10.99.7.1/32", "dev", "wg0")
        client.node.run("ip", "address", "add", "fd99:7::1/128", "dev", "wg0", "nodad")
    server.start()
    server.node.run("ip", "route", "add", "10.99.0.0/16", "dev", "wg0")
    server.node.run("ip", "route", "add", "fd99::/16", "dev", "wg0")
    for client in (wide, narrow):
        client.reaches(server)
    before = {client: server.status(client).sent for client in (wide, narrow)}
    for address in ("10.99.7.1", "fd99:7::1"):
        server.node.run("ping", "-c3", "-i0.1", "-W2", address)
    assert server.status(narrow).sent > before[narrow]
    assert server.status(wide).sent == before[wide]
    server.set("peer", narrow.keys.public, "remove")
    server.node.run("ping", "-c1", "-W2", "10.99.7.1")
    assert server.status(wide).sent > before[wide]
