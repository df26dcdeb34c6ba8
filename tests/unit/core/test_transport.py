"""Packets of sessions, both ways: RECOVERY, section 8, in the order of its checks."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.batch import destination_and_ecn, trim
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.session import Keypair

from .network import Datagram, Host, Network
from .packets import address, ip_packet

QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)
ELSEWHERE = Endpoint("203.0.113.9", 4444)
ECT_0, CE = 2, 3


@pytest.fixture
def network() -> Network:
    return Network(seed=8)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    """A server and a client with a session that the client initiated."""
    server, client = network.host(QUIET), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    client.send(server, b"hello")
    network.run(2)
    server.inbox.clear()
    server.packets.clear()
    network.wire.clear()
    return server, client


def current(host: Host, other: Host) -> Keypair:
    keypair = host.peer(other).current
    assert keypair is not None
    return keypair


def address_of(host: Host, other: Host) -> tuple[str, int, int]:
    endpoint = host.peer(other).endpoint
    assert endpoint is not None
    return endpoint.address


def sealed(client: Host, server: Host, *plaintexts: bytes, counter: int | None = None) -> list[bytes]:
    """Whatever a peer that holds the keys could send."""
    keypair = current(client, server)
    base = keypair.reserve(len(plaintexts))[0] if counter is None else counter
    return list(keypair.sealer.seal_batch(keypair.remote_index, base, plaintexts, 1420))


def forged(datagram: bytes) -> bytes:
    return datagram[:-1] + bytes([datagram[-1] ^ 1])


# --- before the AEAD -----------------------------------------------------------------------------


def test_age_and_counter_limit_are_checked_before_the_aead(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    keypair = current(server, client)
    packet = ip_packet(client.inner, server.inner)
    past_the_limit = sealed(client, server, packet, counter=REJECT_AFTER_MESSAGES)
    in_time = sealed(client, server, packet)
    keypair._opener = opener = Mock(wraps=keypair.opener)
    server.deliver(past_the_limit, client.endpoint)
    network.run(180)
    server.deliver(in_time, client.endpoint)
    opener.open_batch.assert_called_once_with(past_the_limit)
    assert server.packets == []


@pytest.mark.parametrize("length", [0, 1, 4, 16, 31])
def test_message_too_short_for_header_and_tag_is_malformed(pair: tuple[Host, Host], length: int) -> None:
    server, client = pair
    (datagram,) = sealed(client, server, b"")
    server.deliver([datagram[:length]], client.endpoint)
    assert server.device.statistics.dropped["malformed"] == 1


def test_unknown_index_is_a_stray(pair: tuple[Host, Host]) -> None:
    server, client = pair
    (datagram,) = sealed(client, server, b"")
    server.crash()
    server.deliver([datagram] * 3, ELSEWHERE)
    assert server.device.statistics.strays["unknown_index"] == 3
    assert address_of(server, client) == client.endpoint.address


def test_index_of_an_unfinished_handshake_is_no_session(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    network.lose = lambda _: True
    server.initiate(client)
    index = network.sent(server, TYPE_INITIATION)[0].payload[4:8]
    server.deliver([bytes([4, 0, 0, 0]) + index + bytes(24)], client.endpoint)
    assert server.device.statistics.strays["unknown_index"] == 1


# --- authentication, then window, then endpoint --------------------------------------------------


def test_window_comes_after_authentication(pair: tuple[Host, Host]) -> None:
    """A forgery with a future counter must not make the genuine packet a replay."""
    server, client = pair
    (datagram,) = sealed(client, server, ip_packet(client.inner, server.inner, b"genuine"))
    server.deliver([forged(datagram)], client.endpoint)
    assert server.device.statistics.dropped["authentication"] == 1
    server.deliver([datagram], client.endpoint)
    assert server.inbox == [b"genuine"]


def test_replayed_packet_is_dropped(pair: tuple[Host, Host]) -> None:
    server, client = pair
    (datagram,) = sealed(client, server, ip_packet(client.inner, server.inner, b"once"))
    server.deliver([datagram, datagram], client.endpoint)
    server.deliver([datagram], client.endpoint)
    assert server.inbox == [b"once"]
    assert server.device.statistics.dropped["replay"] == 2


def test_highest_counter_is_stored_before_packets_are_given_out(pair: tuple[Host, Host]) -> None:
    server, client = pair
    packet = ip_packet(client.inner, server.inner)
    datagrams = sealed(client, server, *[packet] * 5)
    server.deliver(datagrams[::-1], client.endpoint)
    keypair = current(server, client)
    assert keypair.numbers.highest_received == current(client, server).counter - 1
    server.deliver(datagrams[:1], client.endpoint)
    assert keypair.numbers.highest_received == current(client, server).counter - 1, "never lowered"


@pytest.mark.parametrize("kind", ["forged", "replayed"])
def test_endpoint_moves_only_after_the_window(pair: tuple[Host, Host], kind: str) -> None:
    server, client = pair
    (datagram,) = sealed(client, server, ip_packet(client.inner, server.inner))
    if kind == "replayed":
        server.deliver([datagram], client.endpoint)
    server.deliver([forged(datagram) if kind == "forged" else datagram], ELSEWHERE)
    assert address_of(server, client) == client.endpoint.address


def test_endpoint_is_that_of_the_last_valid_packet(pair: tuple[Host, Host]) -> None:
    server, client = pair
    one, two, three = sealed(client, server, b"", b"", b"")
    server.deliver([one, two], ELSEWHERE)
    server.deliver([forged(three)], client.endpoint)
    server.deliver([one, two], client.endpoint)
    assert address_of(server, client) == ELSEWHERE.address
    server.deliver([one, three], client.endpoint)
    assert address_of(server, client) == client.endpoint.address


def test_answers_leave_from_the_address_that_was_reached(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    (datagram,) = sealed(client, server, b"")
    reached = client.endpoint._replace(local=address("10.0.0.77"), interface=7)
    server.device.receive([datagram], reached, network.now)
    server.device.send([ip_packet(server.inner, client.inner)], network.now)
    (transmission,) = server.device.take_transmissions()
    assert transmission.endpoint == reached
    server.device.local_address_refused(transmission)
    server.device.send([ip_packet(server.inner, client.inner)], network.now)
    assert server.device.take_transmissions()[0].endpoint == reached.without_local()


def test_retry_chooses_the_local_address_anew(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    network.lose = lambda _: True
    server.send(client, b"unanswered")
    assert server.peer(client).endpoint.local  # type: ignore[union-attr]
    network.run(16)
    assert server.peer(client).endpoint == client.endpoint


# --- keys ----------------------------------------------------------------------------------------


@pytest.fixture
def offered(network: Network, pair: tuple[Host, Host]) -> tuple[Host, Host, bytes]:
    """The server has answered new keys; the client's first packet on them is held back."""
    server, client = pair
    held: list[Datagram] = []

    def hold(datagram: Datagram) -> bool:
        if datagram.sender is client and datagram.type == TYPE_TRANSPORT:
            held.append(datagram)
            return True
        return False

    network.lose = hold
    client.initiate(server)
    network.run(0.1)
    network.lose = lambda _: False
    assert server.peer(client).next is not None
    return server, client, held[0].payload


def test_next_becomes_current_only_on_a_validated_packet(offered: tuple[Host, Host, bytes]) -> None:
    server, client, confirmation = offered
    before, offer = server.peer(client).current, server.peer(client).next
    server.deliver([forged(confirmation)], client.endpoint)
    assert (server.peer(client).current, server.peer(client).next) == (before, offer)
    server.deliver([confirmation], client.endpoint)
    assert server.peer(client).current is offer
    assert server.peer(client).previous is before
    assert server.peer(client).next is None


def test_previous_keys_still_open_what_was_on_its_way(offered: tuple[Host, Host, bytes]) -> None:
    server, client, confirmation = offered
    old = client.peer(server).previous
    assert old is not None
    packet = ip_packet(client.inner, server.inner, b"late")
    late = old.sealer.seal_batch(old.remote_index, old.reserve(1)[0], [packet], 1420)
    server.deliver([confirmation], client.endpoint)
    server.deliver(late, client.endpoint)
    assert server.inbox == [b"late"]


def test_at_most_three_sessions_of_a_peer_are_kept(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    for _ in range(5):
        client.initiate(server)
        network.run(1)
        server.initiate(client)
        network.run(1)
        for host, other in (pair, pair[::-1]):
            live = {k.local_index for k in host.peer(other).keypairs} | set(host.peer(other).slots)
            assert set(host.device._interface.indices) == live
            assert len(host.peer(other).keypairs) <= 3


def test_last_counters_of_a_key_are_used_and_the_rest_waits_for_new_keys(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    network.run(6)
    current(server, client).counter = REJECT_AFTER_MESSAGES - 2
    server.send(client, *[b"%d" % number for number in range(5)])
    assert [d.counter for d in network.sent(server, TYPE_TRANSPORT)] == [
        REJECT_AFTER_MESSAGES - 2,
        REJECT_AFTER_MESSAGES - 1,
    ]
    network.run(1)
    assert client.inbox == [b"%d" % number for number in range(5)]


# --- what is inside ------------------------------------------------------------------------------

ADDRESSES = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


@pytest.mark.parametrize(("source", "target"), ADDRESSES)
@given(payload=st.binary(max_size=60), padding=st.integers(0, 15))
def test_inner_length_is_trimmed(source: str, target: str, payload: bytes, padding: int) -> None:
    packet = ip_packet(source, target, payload)
    assert trim(packet + bytes(padding)) == (packet, address(source))
    assert destination_and_ecn(packet)[0] == address(target)


@pytest.mark.parametrize(("source", "target"), ADDRESSES)
@given(st.data())
def test_packet_longer_than_what_came_is_none(source: str, target: str, data: st.DataObject) -> None:
    packet = ip_packet(source, target, b"x" * 30)
    assert trim(packet[: data.draw(st.integers(1, len(packet) - 1))]) is None


@given(st.binary(min_size=1, max_size=80))
def test_trim_of_anything_is_none_or_an_ip_packet(plaintext: bytes) -> None:
    trimmed = trim(plaintext)
    if trimmed is not None:
        packet, source = trimmed
        assert plaintext.startswith(packet)
        assert len(source) == {4: 4, 6: 16}[packet[0] >> 4]
        assert len(packet) >= {4: 20, 6: 40}[packet[0] >> 4]


@given(st.binary(max_size=60))
def test_destination_of_anything_is_none_or_an_address(packet: bytes) -> None:
    found = destination_and_ecn(packet)[0]
    assert found is None or len(found) in (4, 16)


def test_length_that_leaves_no_header_is_dropped() -> None:
    packet = bytearray(ip_packet("10.0.0.1", "10.0.0.2", b"x" * 20))
    packet[2:4] = (19).to_bytes(2, "big")
    assert trim(bytes(packet)) is None


def test_source_is_checked_in_the_trimmed_packet(pair: tuple[Host, Host]) -> None:
    server, client = pair
    allowed, other = ip_packet(client.inner, server.inner, b"in"), ip_packet("8.8.8.8", server.inner, b"out")
    server.deliver(sealed(client, server, allowed + bytes(5), other, allowed), client.endpoint)
    assert server.packets == [allowed, allowed]
    assert server.device.statistics.dropped["source_not_allowed"] == 1


def test_peer_may_not_use_the_address_of_another(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    other = network.host(STRICT)
    server.meet(other)
    server.deliver(sealed(client, server, ip_packet(other.inner, server.inner)), client.endpoint)
    assert server.packets == []


@pytest.mark.parametrize("plaintext", [b"\x10" * 40, b"\x45", b"\x60" + bytes(20), bytes(64)])
def test_payload_that_is_no_ip_packet_is_dropped_silently(pair: tuple[Host, Host], plaintext: bytes) -> None:
    server, client = pair
    server.deliver(sealed(client, server, plaintext), client.endpoint)
    assert server.packets == []
    assert server.device.statistics.dropped["not_ip"] == 1


def test_routes_decide_which_peer_gets_a_packet_and_keep_its_order(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    other = network.host(STRICT)
    other.meet(server)
    server.meet(other)
    wide = Prefix(address("192.168.0.0"), 16)
    server.configure(InterfaceChange(peers=(PeerChange(other.key.public, allowed_ips=(wide,)),)))
    packets = [
        ip_packet(server.inner, to, b"%d" % number)
        for number, to in enumerate(
            [client.inner, other.inner, client.inner, "192.168.9.9", "8.8.8.8", client.inner]
        )
    ]
    server.device.send([*packets, b"", b"\xff" * 40], network.now)
    server.turn()
    network.run(1)
    assert client.inbox == [b"0", b"2", b"5"]
    assert other.inbox == [b"1", b"3"]
    assert server.device.statistics.dropped["no_route"] == 3


def test_ipv6_goes_through_too(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    for host, other, prefix in ((server, client, "fd00::2"), (client, server, "fd00::1")):
        change = PeerChange(other.key.public, allowed_ips=(Prefix(address(prefix), 128),))
        host.configure(InterfaceChange(peers=(change,)))
    server.device.send([ip_packet("fd00::1", "fd00::2", b"six")], network.now)
    server.turn()
    network.run(0.1)
    assert client.inbox == [b"six"]


def test_batches_of_any_size_arrive_whole(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    payloads = [b"%d" % number for number in range(1300)]
    server.send(client, *payloads)
    network.run(0.1)
    assert client.inbox == payloads
    assert [d.counter for d in network.sent(server, TYPE_TRANSPORT)] == list(
        range(network.wire[0].counter, network.wire[0].counter + 1300)
    )


def test_one_batch_may_hold_messages_of_every_kind(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    network.lose = lambda d: d.sender is client
    client.initiate(server)
    initiation = network.sent(client, TYPE_INITIATION)[0].payload
    packet = ip_packet(client.inner, server.inner, b"x")
    one, two, three = sealed(client, server, packet, packet, packet)
    stray = b"\4\0\0\0" + b"none" + one[8:]
    server.deliver([one, initiation, stray, two, forged(three), b"?", three], client.endpoint)
    assert server.inbox == [b"x"] * 3
    assert server.peer(client).next is not None


# --- counting and ECN ----------------------------------------------------------------------------


def test_only_what_authenticates_is_counted(pair: tuple[Host, Host]) -> None:
    server, client = pair
    peer = server.peer(client)
    before, all_before = peer.received_bytes, server.device.statistics.received_bytes
    one, two = sealed(client, server, ip_packet(client.inner, server.inner, bytes(100)), b"")
    server.deliver([one, forged(two), one], client.endpoint)
    assert peer.received_bytes - before == len(one)
    server.deliver([two, one], client.endpoint)
    assert peer.received_bytes - before == len(one) + len(two)
    assert server.device.statistics.received_bytes - all_before == len(one) + len(two)


def test_both_sides_count_the_same_bytes(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    for number in range(10):
        server.send(client, b"x" * 100 * number)
        client.send(server, b"y" * 10 * number)
        network.run(20)
    assert server.peer(client).received_bytes == client.peer(server).sent_bytes
    assert server.peer(client).sent_bytes == client.peer(server).received_bytes
    for host, other in (pair, pair[::-1]):
        totals = host.device.statistics
        assert totals.received_bytes == host.peer(other).received_bytes
        assert totals.sent_bytes == host.peer(other).sent_bytes


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("ecn", range(4))
def test_ecn_of_the_inner_packet_shows_outside(
    network: Network, pair: tuple[Host, Host], family: int, ecn: int
) -> None:
    server, client = pair
    if family == 6:
        change = PeerChange(client.key.public, allowed_ips=(Prefix(address("fd00::2"), 128),))
        server.configure(InterfaceChange(peers=(change,)))
    addresses = (server.inner, client.inner) if family == 4 else ("fd00::1", "fd00::2")
    server.device.send([ip_packet(*addresses, b"x", traffic_class=0x88 | ecn)], network.now)
    server.turn()
    assert network.wire[-1].traffic_class == ecn, "and nothing else of its traffic class"


def test_congestion_on_the_way_shows_inside(pair: tuple[Host, Host]) -> None:
    server, client = pair
    marked = ip_packet(client.inner, server.inner, b"x", traffic_class=ECT_0)
    deaf = ip_packet(client.inner, server.inner, b"x")
    server.deliver(sealed(client, server, marked, deaf), client.endpoint, CE)
    assert server.packets == [ip_packet(client.inner, server.inner, b"x", traffic_class=CE), deaf]


def test_packets_of_different_ecn_leave_apart(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    classes = [0, ECT_0, ECT_0, 0]
    packets = [
        ip_packet(server.inner, client.inner, b"%d" % n, traffic_class=c) for n, c in enumerate(classes)
    ]
    server.device.send(packets, network.now)
    transmissions = server.device.take_transmissions()
    assert [(t.traffic_class, len(t.datagrams)) for t in transmissions] == [(0, 2), (ECT_0, 2)]


def test_packets_that_waited_keep_their_ecn(network: Network) -> None:
    server, client = network.host(QUIET), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    server.device.send([ip_packet(server.inner, client.inner, b"x", traffic_class=ECT_0)], network.now)
    server.turn()
    network.run(0.1)
    assert network.sent(server, TYPE_TRANSPORT)[0].traffic_class == ECT_0
