"""One peer that asks for everything takes nothing from the others; what is dropped is counted, by reason."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters.data_plane import PacketPlane
from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.constants import HANDSHAKE_BACKLOG_LIMIT, STAGED_PACKETS
from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.handshake import Initiate
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.noise import mac1_key
from tests.unit.planes import PLANES, planes

from .network import Host, Network
from .packets import ip_packet

QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)
FLOOD = 2000
READ = 128
"""What the adapters read at a time."""


class Site:
    """A server with a greedy client and a modest one; both have sessions."""

    def __init__(self, plane: PacketPlane) -> None:
        self.network = Network(seed=7, plane=plane)
        self.server = self.network.host(QUIET)
        self.greedy, self.modest, self.newcomer = (self.network.host(STRICT) for _ in range(3))
        for client in (self.greedy, self.modest, self.newcomer):
            self.server.meet(client, endpoint=False)
            client.meet(self.server)
        for client in (self.greedy, self.modest):
            client.send(self.server, b"hello")
            self.network.run(1)
            self.server.send(client, b"hello")
            self.network.run(1)
        self.network.wire.clear()
        for host in self.network.hosts.values():
            host.inbox.clear()
            host.device.statistics.dropped.clear()

    def sealed(self, client: Host, *payloads: bytes) -> list[bytes]:
        """What the client would send now; it stays here."""
        packets = [ip_packet(client.inner, self.server.inner, payload) for payload in payloads]
        client.device.send(packets, self.network.now)
        return [each for sent in client.device.take_transmissions() for each in sent.datagrams]

    @property
    def dropped(self) -> dict[str, int]:
        return dict(self.server.device.statistics.dropped)


@pytest.fixture(params=PLANES, ids=lambda plane: plane.name)
def site(request: pytest.FixtureRequest) -> Site:
    return Site(request.param)


# --- to the network -------------------------------------------------------------------------------


def test_who_has_no_session_keeps_nobody_waiting(site: Site) -> None:
    """A read of the TUN is mostly for a peer that cannot get it."""
    server, modest = site.server, site.modest
    payloads = [str(number).encode() for number in range(FLOOD // 100)]
    flood = ip_packet(server.inner, site.newcomer.inner, b"flood")
    for payload in payloads:
        lone = ip_packet(server.inner, modest.inner, payload)
        server.device.send([flood] * 50 + [lone] + [flood] * 49, site.network.now)
        server.turn()
    site.network.run(0.1)
    assert modest.inbox == payloads
    staged = server.peer(site.newcomer).staged
    assert staged is not None
    assert len(staged) == STAGED_PACKETS
    assert site.dropped == {"staging": 99 * len(payloads) - STAGED_PACKETS}


def test_what_is_for_many_is_sealed_for_all_in_one_turn(site: Site) -> None:
    server = site.server
    to_greedy = ip_packet(server.inner, site.greedy.inner, b"much")
    to_modest = ip_packet(server.inner, site.modest.inner, b"little")
    server.device.send([to_greedy] * (READ - 1) + [to_modest], site.network.now)
    receivers = {each.peer for each in server.device.take_transmissions()}
    assert receivers == {server.peer(site.greedy), server.peer(site.modest)}


# --- from the network -----------------------------------------------------------------------------


def test_a_new_session_begins_between_two_reads_of_a_flood(site: Site) -> None:
    """Of a handshake both messages, its confirmation and the first packet: each within one turn."""
    network, server, newcomer = site.network, site.server, site.newcomer
    flood = site.sealed(site.greedy, *[b"flood"] * FLOOD)
    newcomer.device.send([ip_packet(newcomer.inner, server.inner, b"first")], network.now)
    from_newcomer = [each for sent in newcomer.device.take_transmissions() for each in sent.datagrams]
    turns = 0
    while flood:
        reads, flood = flood[:READ], flood[READ:]
        server.device.receive(reads, site.greedy.endpoint, network.now)
        server.inbox += server.device.receive(from_newcomer, newcomer.endpoint, network.now)
        if server.device.handshake_backlog:
            server.device.process_handshake(network.now)
        answers = [each for each in server.device.take_transmissions() if each.peer is server.peer(newcomer)]
        turns += 1
        if server.inbox:
            break
        newcomer.device.receive(
            [datagram for answer in answers for datagram in answer.datagrams], server.endpoint, network.now
        )
        if newcomer.device.handshake_backlog:
            newcomer.device.process_handshake(network.now)
        from_newcomer = [each for sent in newcomer.device.take_transmissions() for each in sent.datagrams]
    assert turns == 2
    assert server.peer(newcomer).current is not None
    assert not site.dropped


def test_an_authenticated_flood_of_handshakes_is_cut_short(site: Site) -> None:
    """Who holds a key may ask for a session as often as it likes: it costs others a bounded wait."""
    network, server, greedy = site.network, site.server, site.greedy
    indices = len(server.device._interface.indices)
    for _ in range(FLOOD // 10):
        greedy.device._handshakes.initiate(greedy.peer(server), network.now, Initiate.RECOVERY)
    flood = [each for sent in greedy.device.take_transmissions() for each in sent.datagrams]
    assert len(flood) == FLOOD // 10
    server.device.receive(flood, greedy.endpoint, network.now)
    queued = 0
    while server.device.handshake_backlog:
        server.device.process_handshake(network.now)
        queued += 1
    each = server.device._handshakes.seconds_each
    assert queued <= HANDSHAKE_BACKLOG_LIMIT / each + 1, "the rest is asked for cookies"
    assert server.device.statistics.handshakes["responder", "flood"] == queued - 1
    assert len(server.device._interface.indices) <= indices + 1
    server.turn()
    site.newcomer.send(server, b"hello")
    network.run(6)
    assert server.inbox[-1] == b"hello"


def test_a_queue_that_anyone_fills_leaves_data_alone(site: Site) -> None:
    """A flood that costs nobody a key: each with a valid mac1, none from whom it seems to be."""
    server, key = site.server, mac1_key(site.server.key.public)
    data = site.sealed(site.modest, *[str(number).encode() for number in range(20)])
    delivered: list[bytes] = []
    for datagram in data:
        noise = [add_macs(bytes([TYPE_INITIATION, 0, 0, 0]) + os.urandom(112), key, None) for _ in range(100)]
        server.device.receive(noise, site.greedy.endpoint, site.network.now)
        delivered += server.device.receive([datagram], site.modest.endpoint, site.network.now)
    assert len(delivered) == len(data)


# --- what is dropped ------------------------------------------------------------------------------


kinds = st.sampled_from(
    ["delivered", "forged", "repeated", "not_ip", "not_allowed", "malformed", "mac1", "unexpected"]
)
REASONS = {
    "forged": "authentication",
    "repeated": "replay",
    "not_ip": "not_ip",
    "not_allowed": "source_not_allowed",
    "malformed": "malformed",
    "mac1": "mac1",
    "unexpected": "unexpected_response",
}


@planes
@given(arrivals=st.lists(kinds, min_size=1, max_size=60))
def test_every_datagram_is_delivered_or_counted(plane: PacketPlane, arrivals: list[str]) -> None:
    site = Site(plane)
    server, modest = site.server, site.modest
    repeated = site.sealed(modest, b"once")[0]
    server.deliver([repeated], modest.endpoint)
    server.inbox.clear()
    made: dict[str, Callable[[], bytes]] = {
        "forged": lambda: site.sealed(modest, b"x")[0][:-1] + b"\0\0",
        "repeated": lambda: repeated,
        "delivered": lambda: site.sealed(modest, b"x")[0],
        "not_ip": lambda: _sealed_as_it_is(site, b"\x15" * 40),
        "not_allowed": lambda: _sealed_as_it_is(site, ip_packet("192.168.9.9", server.inner, b"x")),
        "malformed": lambda: b"\4\0\0",
        "mac1": lambda: bytes([TYPE_INITIATION, 0, 0, 0]) + bytes(144),
        "unexpected": lambda: add_macs(b"\2\0\0\0" + bytes(56), mac1_key(server.key.public), None),
    }
    server.deliver([made[kind]() for kind in arrivals], modest.endpoint)
    expected = {reason: arrivals.count(kind) for kind, reason in REASONS.items() if kind in arrivals}
    assert site.dropped == expected
    assert len(server.inbox) == arrivals.count("delivered")


def _sealed_as_it_is(site: Site, plaintext: bytes) -> bytes:
    """Whatever who holds the keys may seal."""
    keypair = site.modest.peer(site.server).current
    assert keypair is not None
    (datagram,) = keypair.seal_batch([plaintext], 1420)
    assert datagram[0] == TYPE_TRANSPORT
    return bytes(datagram)
