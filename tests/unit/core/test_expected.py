"""What goes the short way ends as it would have ended on the long one."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.expected import EXPECTED, ExpectedDatagrams, ExpectedPackets
from handfast_tunnel.core.messages import TYPE_TRANSPORT

from .network import Host, Network
from .packets import ip_packet
from .test_transport import current, sealed

ECT_0, CE = 2, 3


class Ends:
    """A server that expects, or does not, and its client, with a session."""

    def __init__(self, *, expects: bool = True) -> None:
        self.network = Network(seed=3)
        self.server, self.client = self.network.connected_pair(Settings(announce=False))
        self.server.expects = expects

    def ping(self, traffic_class: int = 0) -> None:
        """From the server, and the answer."""
        self.send(self.server, self.client, traffic_class=traffic_class)
        self.network.run(0.0)
        self.send(self.client, self.server, traffic_class=traffic_class)

    def send(self, sender: Host, receiver: Host, count: int = 1, traffic_class: int = 0) -> None:
        packet = ip_packet(sender.inner, receiver.inner, b"echo", traffic_class)
        sender.send_packets([packet] * count)

    def rest(self) -> None:
        self.network.run(0.1)


def ping_twice() -> Ends:
    """What comes next is expected."""
    ends = Ends()
    for _ in range(2):
        ends.ping()
        ends.rest()
    return ends


@pytest.fixture
def ends() -> Ends:
    return ping_twice()


def expected_packets(ends: Ends) -> ExpectedPackets:
    assert ends.server.device.expected_packets is not None
    return ends.server.device.expected_packets


def expected_datagrams(ends: Ends) -> ExpectedDatagrams:
    assert ends.server.device.expected_datagrams is not None
    return ends.server.device.expected_datagrams


# --- both ways end alike --------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[Ends, int], None]] = {
    "ping": lambda ends, _: ends.ping(),
    "send": lambda ends, n: ends.send(ends.server, ends.client, n),
    "answer": lambda ends, n: ends.send(ends.client, ends.server, n),
    "marked": lambda ends, n: ends.ping((0, 1, ECT_0, CE)[n % 4]),
    "roam": lambda ends, n: ends.client.roam("10.9.9.9", 1000 + n),
    "repeat": lambda ends, n: ends.network.inject(ends.network.wire[-1 - n % len(ends.network.wire)]),
    "rest": lambda ends, n: ends.network.run(
        (0.0, 0.0005, 0.002, 0.02, 9.0, 11.0, 16.0, 121.0, 185.0)[n % 9]
    ),
}


def forge(ends: Ends, position: int) -> None:
    datagram = ends.network.wire[-1]
    payload = bytearray(datagram.payload)
    payload[position % len(payload)] ^= 1
    ends.network.inject(datagram, payload=bytes(payload))


OPERATIONS["forge"] = forge


def drain(ends: Ends, number: int) -> None:
    """And go on; with an even number a packet comes meanwhile."""
    server = ends.server
    server.device.settle()
    server.device.freeze(ends.network.now)
    server.turn()
    if number % 2 == 0:
        ends.send(ends.client, server)
    ends.rest()
    server.device.thaw()
    server.turn()


def bounce(ends: Ends, _: int) -> None:
    device, now = ends.server.device, ends.network.now
    device.settle()
    device.down(now)
    device.up(now)
    ends.server.turn()


def allow(ends: Ends, number: int) -> None:
    """The client's address, or with an even number another instead."""
    inner = IPv4Address(ends.client.inner if number % 2 else "192.168.0.9")
    change = PeerChange(
        ends.client.key.public, allowed_ips=(Prefix(inner.packed, 32),), replace_allowed_ips=True
    )
    ends.server.device.settle()
    ends.server.configure(InterfaceChange(peers=(change,)))


OPERATIONS |= {"drain": drain, "bounce": bounce, "allow": allow}


def what_came_of_it(ends: Ends) -> dict[str, Any]:
    server, device = ends.server, ends.server.device
    device.settle()
    peer = server.peer(ends.client)
    marks, timers = peer.marks, peer.timers
    return {
        "packets": server.packets,
        "wire": [(d.sent_at, d.type, len(d.payload), d.traffic_class) for d in ends.network.sent(server)],
        "counters": [d.counter for d in ends.network.sent(server, TYPE_TRANSPORT)],
        "heard by the client": ends.client.inbox,
        "bytes": (peer.sent_bytes, peer.received_bytes, device.statistics.sent_bytes),
        "dropped": dict(device.statistics.dropped),
        "endpoint": (peer.endpoint, marks.endpoint),
        "marks": (marks.last_sent, marks.last_received, marks.data_sent, marks.data_received),
        "timers": (timers.keepalive, timers.new_handshake, timers.retransmit, timers.keepalive_again),
        "highest": [keypair.numbers.highest_received for keypair in peer.keypairs],
    }


@given(
    st.lists(st.tuples(st.sampled_from(sorted(OPERATIONS)), st.sampled_from([1, 1, 2, 3, 20])), max_size=30)
)
def test_the_short_way_ends_as_the_long_one(history: list[tuple[str, int]]) -> None:
    both = Ends(expects=True), Ends(expects=False)
    for name, number in (("ping", 1), ("rest", 3), *history, ("rest", 2)):
        for ends in both:
            OPERATIONS[name](ends, number)
    short, long = map(what_came_of_it, both)
    assert short == long


# --- what is expected -----------------------------------------------------------------------------


def test_what_comes_alone_makes_the_next_expected(ends: Ends) -> None:
    packet = ip_packet(ends.server.inner, ends.client.inner, b"next")
    datagram = expected_packets(ends).seal(packet, ends.network.now)
    assert datagram is not None
    ends.client.deliver([datagram], ends.server.endpoint)
    assert ends.client.inbox[-1] == b"next"
    (answer,) = sealed(ends.client, ends.server, ip_packet(ends.client.inner, ends.server.inner, b"answer"))
    assert expected_datagrams(ends).open(answer, ends.network.now) == ip_packet(
        ends.client.inner, ends.server.inner, b"answer"
    )


def test_counters_are_stored_before_they_are_used(ends: Ends) -> None:
    expected, numbers = expected_packets(ends), current(ends.server, ends.client).numbers
    for _ in range(EXPECTED):
        packet = ip_packet(ends.server.inner, ends.client.inner)
        datagram = expected.seal(packet, ends.network.now)
        assert datagram is not None
        assert int.from_bytes(datagram[8:16], "little") < numbers.ceiling
    assert expected.seal(packet, ends.network.now) is None


def test_what_was_seen_is_stored_before_anybody_has_it(ends: Ends) -> None:
    packet = ip_packet(ends.client.inner, ends.server.inner)
    (datagram,) = sealed(ends.client, ends.server, packet)
    assert expected_datagrams(ends).open(datagram, ends.network.now) == packet
    keypair = current(ends.server, ends.client)
    assert keypair.numbers.highest_received == int.from_bytes(datagram[8:16], "little")
    assert expected_datagrams(ends).open(datagram, ends.network.now) is None, "once only"
    ends.server.device.settle()
    assert not ends.server.device.receive([datagram], ends.client.endpoint, ends.network.now), "ever"


def test_an_old_session_is_not_expected_to_go_on(ends: Ends) -> None:
    packet = ip_packet(ends.client.inner, ends.server.inner)
    (datagram,) = sealed(ends.client, ends.server, packet)
    late = current(ends.server, ends.client).born + REJECT_AFTER_TIME
    assert expected_datagrams(ends).open(datagram, late) is None
    assert expected_packets(ends).seal(ip_packet(ends.server.inner, ends.client.inner), late) is None


@pytest.mark.parametrize("packet", [b"", b"\x45", b"\0" * 60, ip_packet("192.168.0.1", "192.168.0.9", b"x")])
def test_another_destination_is_not_expected(ends: Ends, packet: bytes) -> None:
    assert expected_packets(ends).seal(packet, ends.network.now) is None


def test_another_traffic_class_is_not_expected(ends: Ends) -> None:
    packet = ip_packet(ends.server.inner, ends.client.inner, b"", ECT_0)
    assert expected_packets(ends).seal(packet, ends.network.now) is None


@pytest.mark.parametrize("inner", ["192.168.0.9", "fd00::1"])
def test_another_source_is_not_expected(ends: Ends, inner: str) -> None:
    (datagram,) = sealed(ends.client, ends.server, ip_packet(inner, inner))
    assert expected_datagrams(ends).open(datagram, ends.network.now) is None


def test_keepalives_are_not_expected(ends: Ends) -> None:
    (datagram,) = sealed(ends.client, ends.server, b"")
    assert expected_datagrams(ends).open(datagram, ends.network.now) is None


def test_the_last_counters_of_a_key_are_not_passed(ends: Ends) -> None:
    ends.server.device.settle()
    current(ends.server, ends.client).counter = REJECT_AFTER_MESSAGES - 1
    ends.server.device.expect(ends.network.now)
    packet = ip_packet(ends.server.inner, ends.client.inner)
    assert expected_packets(ends).seal(packet, ends.network.now) is not None
    assert expected_packets(ends).seal(packet, ends.network.now) is None


def test_nothing_is_expected_of_a_peer_that_moved(ends: Ends) -> None:
    ends.server.device.settle()
    ends.server.peer(ends.client).endpoint = Endpoint("10.9.9.9", 9)
    ends.server.device.expect(ends.network.now)
    assert ends.server.device.expected_datagrams is None
    assert expected_packets(ends).endpoint == Endpoint("10.9.9.9", 9)


@pytest.mark.parametrize("stop", ["freeze", "down"])
def test_nothing_is_expected_where_nothing_is_answered(ends: Ends, stop: str) -> None:
    device = ends.server.device
    device.settle()
    getattr(device, stop)(ends.network.now)
    device.expect(ends.network.now)
    assert device.expected_packets is None
    assert device.expected_datagrams is None


def test_nothing_is_expected_of_a_peer_that_was_removed(ends: Ends) -> None:
    ends.server.device.settle()
    change = PeerChange(ends.client.key.public, remove=True)
    ends.server.device.configure(InterfaceChange(peers=(change,)), ends.network.now)
    ends.server.device.expect(ends.network.now)
    assert ends.server.device.expected_packets is None
    assert ends.server.device.expected_datagrams is None


def test_nothing_is_expected_of_an_address_that_is_another_ones_now(ends: Ends) -> None:
    allow(ends, 2)
    assert current(ends.server, ends.client).heard, "the session goes on"
    assert ends.server.device.expected_packets is None
    assert ends.server.device.expected_datagrams is None


def test_what_ends_an_interruption_is_not_expected(ends: Ends) -> None:
    """How long it was is told by the first packet after it."""
    drain(ends, 1)
    assert ends.server.peer(ends.client).interrupted_at is not None
    assert ends.server.device.expected_datagrams is None


def test_ipv6_goes_the_short_way_too() -> None:
    network = Network(seed=4)
    server, client = network.connected_pair(Settings(announce=False))
    for host, other, inner in ((server, client, "fd00::2"), (client, server, "fd00::1")):
        other.inner = inner
        prefix = Prefix(IPv6Address(inner).packed, 128)
        host.configure(InterfaceChange(peers=(PeerChange(other.key.public, allowed_ips=(prefix,)),)))
    server.expects = True
    for _ in range(3):
        server.send(client, b"ping")
        network.run(0.02)
        client.send(server, b"pong")
        network.run(0.02)
    device = server.device
    assert device.expected_packets is not None
    assert device.expected_datagrams is not None
    assert device.expected_packets.seal(ip_packet(server.inner, client.inner), network.now) is not None
    (datagram,) = sealed(client, server, ip_packet(client.inner, server.inner))
    assert device.expected_datagrams.open(datagram, network.now) is not None
