from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from handfast_tunnel.adapters.checksum import complement, swapped, word_sum
from handfast_tunnel.adapters.offload import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    MAX_SEGMENTS,
    NEEDS_CSUM,
    PLAIN_VNET_HEADER,
    VNET_HEADER,
    MalformedPacketError,
    coalesce,
    joined,
    split,
)

from . import packets
from .packets import ACK, TCP, UDP, is_valid, tcp, udp

FIN, SYN, RST, PSH, URG, ECE, CWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x40, 0x80
TIMESTAMPS = bytes.fromhex("0101080a0000000100000002")

families = pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])


def as_one_read(group: list[bytes]) -> tuple[bytes, memoryview]:
    vnet_header, *parts = joined(group)
    return bytes(vnet_header), memoryview(b"".join(parts))


def tcp_stream(
    payload: bytes, size: int, *, sequence: int = 1000, identification: int = 0, **fields: Any
) -> list[bytes]:
    return [
        tcp(
            piece,
            sequence=sequence + number * size,
            identification=identification + number & 0xFFFF,
            **fields,
        )
        for number, piece in enumerate(pieces(payload, size))
    ]


def udp_stream(payload: bytes, size: int, *, identification: int = 0, **fields: Any) -> list[bytes]:
    return [
        udp(piece, identification=identification + number & 0xFFFF, **fields)
        for number, piece in enumerate(pieces(payload, size))
    ]


def pieces(payload: bytes, size: int) -> list[bytes]:
    return [payload[start : start + size] for start in range(0, len(payload), size)]


def unsegmented(packet: bytes, gso_type: int, size: int, hdr_len: int = 0) -> tuple[bytes, bytes]:
    """A packet and its virtio-net header as the kernel hands them over: the pseudo-header is summed up."""
    start = 20 if packet[0] >> 4 == 4 else 40
    protocol = packet[9 if start == 20 else 6]
    offset = 16 if protocol == TCP else 6
    addresses = packet[12:20] if start == 20 else packet[8:40]
    pseudo = packets.word_sum(addresses + bytes([0, protocol]) + (len(packet) - start).to_bytes(2, "big"))
    at = start + offset
    packet = packet[:at] + pseudo.to_bytes(2, "big") + packet[at + 2 :]
    return VNET_HEADER.pack(NEEDS_CSUM, gso_type, hdr_len, size, start, offset), packet


# --- checksums ------------------------------------------------------------------------------------


@given(st.binary(max_size=3000))
def test_word_sum_is_that_of_the_rfc(data: bytes) -> None:
    assert swapped(word_sum(data)) % 0xFFFF == packets.word_sum(data) % 0xFFFF


@given(st.integers(0, 2**40))
def test_complement_brings_a_sum_to_zero(total: int) -> None:
    assert 0 <= complement(total) <= 0xFFFF
    assert (total + complement(total)) % 0xFFFF == 0


# --- from the kernel ------------------------------------------------------------------------------


def test_plain_packet_passes_as_it_is() -> None:
    packet = udp(b"plain")
    assert split(PLAIN_VNET_HEADER, packet) == [packet]


@families
@given(payload=st.binary(max_size=100))
def test_unfinished_checksum_is_finished(ipv6: bool, payload: bytes) -> None:
    for packet in (tcp(payload, ipv6=ipv6), udp(payload, ipv6=ipv6)):
        header, unfinished = unsegmented(packet, GSO_NONE, 0)
        (finished,) = split(header, memoryview(unfinished))
        assert is_valid(finished)
        assert finished == packet


@families
def test_udp_checksum_of_zero_becomes_all_ones(ipv6: bool) -> None:
    payload = next(
        number.to_bytes(2, "big") for number in range(0xFFFF) if udp_checksum(number, ipv6=ipv6) == 0xFFFF
    )
    header, unfinished = unsegmented(udp(payload, ipv6=ipv6), GSO_NONE, 0)
    (finished,) = split(header, unfinished)
    assert finished[-4:-2] == b"\xff\xff"
    assert is_valid(finished)


def udp_checksum(number: int, *, ipv6: bool) -> int:
    return int.from_bytes(udp(number.to_bytes(2, "big"), ipv6=ipv6)[-4:-2], "big")


@families
@given(
    payload=st.binary(min_size=1, max_size=500),
    size=st.integers(1, 200),
    flags=st.sampled_from([ACK, ACK | PSH, ACK | FIN | PSH, ACK | ECE, ACK | CWR | PSH]),
    sequence=st.integers(0, 2**32 - 1),
    identification=st.integers(0, 0xFFFF),
    options=st.sampled_from([b"", TIMESTAMPS]),
)
def test_tcp_is_segmented(
    ipv6: bool, payload: bytes, size: int, flags: int, sequence: int, identification: int, options: bytes
) -> None:
    whole = tcp(
        payload, sequence=sequence, flags=flags, options=options, identification=identification, ipv6=ipv6
    )
    kind = (GSO_TCPV6 if ipv6 else GSO_TCPV4) | (GSO_ECN if flags & CWR else 0)
    segments = split(*unsegmented(whole, kind, size, hdr_len=7))
    count = -(-len(payload) // size)
    for number, segment in enumerate(segments):
        is_last = number == count - 1
        expected = flags & ~((0 if is_last else FIN | PSH) | (CWR if number else 0))
        assert segment == tcp(
            payload[number * size : (number + 1) * size],
            sequence=sequence + number * size,
            flags=expected,
            options=options,
            identification=identification + number & 0xFFFF,
            ipv6=ipv6,
        )
    assert len(segments) == count


@families
@given(payload=st.binary(min_size=1, max_size=500), size=st.integers(1, 200))
def test_udp_is_segmented(ipv6: bool, payload: bytes, size: int) -> None:
    segments = split(*unsegmented(udp(payload, ipv6=ipv6), GSO_UDP_L4, size))
    assert all(is_valid(segment) for segment in segments)
    assert [segment[48 if ipv6 else 28 :] for segment in segments] == pieces(payload, size)


def test_ipv6_extension_headers_are_kept() -> None:
    whole = tcp(b"x" * 50, ipv6=True)
    extension = bytes([TCP, 0]) + bytes(6)
    length = (len(whole) - 40 + 8).to_bytes(2, "big")
    extended = whole[:4] + length + bytes([60]) + whole[7:40] + extension + whole[40:]
    header = VNET_HEADER.pack(NEEDS_CSUM, GSO_TCPV6, 0, 20, 48, 16)
    segments = split(header, extended)
    assert [segment[68:] for segment in segments] == [b"x" * 20, b"x" * 20, b"x" * 10]
    for segment in segments:
        without = segment[:4] + (len(segment) - 48).to_bytes(2, "big") + bytes([TCP]) + segment[7:40]
        assert segment[40:48] == extension
        assert is_valid(without + segment[48:])


@given(
    header=st.builds(
        VNET_HEADER.pack,
        st.integers(0, 3),
        st.sampled_from([0, 1, 3, 4, 5, 0x81, 200]),
        st.integers(0, 200),
        st.integers(0, 100),
        st.integers(0, 90),
        st.integers(0, 90),
    ),
    packet=st.binary(min_size=1, max_size=120),
)
def test_contradictions_are_refused(header: bytes, packet: bytes) -> None:
    try:
        segments = split(header, memoryview(packet))
    except MalformedPacketError:
        return
    assert segments


# --- to the kernel --------------------------------------------------------------------------------

common_fields = {
    "payload": st.binary(min_size=1, max_size=400),
    "size": st.integers(400 // MAX_SEGMENTS + 1, 120),
    "identification": st.integers(0, 0xFFFF),
    "fragment": st.sampled_from([0, 0x4000]),
    "ipv6": st.booleans(),
}
streams = st.one_of(
    st.builds(
        tcp_stream,
        sequence=st.integers(0, 2**32 - 1),
        options=st.sampled_from([b"", TIMESTAMPS]),
        **common_fields,
    ),
    st.builds(udp_stream, **common_fields),
)


@given(stream=streams)
def test_split_undoes_joined(stream: list[bytes]) -> None:
    (group,) = coalesce(stream)
    assert group == stream
    if len(group) > 1:
        assert split(*as_one_read(group)) == stream


arbitrary_packets = st.one_of(
    st.builds(
        tcp,
        st.binary(max_size=4),
        sequence=st.integers(0, 8),
        flags=st.sampled_from([ACK, ACK, ACK, ACK | PSH, SYN, ACK | FIN, RST, ACK | URG, ACK | ECE]),
        window=st.sampled_from([1, 1, 2]),
        options=st.sampled_from([b"", b"", TIMESTAMPS]),
        ports=st.sampled_from([(1, 2), (1, 2), (3, 4)]),
        ipv6=st.booleans(),
        tos=st.sampled_from([0, 0, 2]),
    ),
    st.builds(
        udp,
        st.binary(max_size=4),
        ports=st.sampled_from([(1, 2), (3, 4)]),
        ipv6=st.booleans(),
        fragment=st.sampled_from([0, 0x4000, 0x2000, 5]),
        identification=st.integers(0, 3),
    ),
    st.binary(min_size=20, max_size=64).map(lambda payload: packets.ip(payload, 1)),
)


def flow(packet: bytes) -> bytes:
    return bytes([packet[9]]) + packet[12:24] if packet[0] >> 4 == 4 else packet[6:7] + packet[8:44]


@given(st.lists(arbitrary_packets, max_size=30))
def test_every_packet_arrives_in_the_order_of_its_flow(stream: list[bytes]) -> None:
    arrived: list[bytes] = []
    for group in coalesce(stream):
        arrived += split(*as_one_read(group)) if len(group) > 1 else group
    # The identification of an unfragmentable packet means nothing (RFC 6864): joining may change it.
    expected, arrived = map(without_identification, stream), list(map(without_identification, arrived))
    by_flow = {key: list(each) for key, each in itertools.groupby(sorted(expected, key=flow), key=flow)}
    assert {
        key: list(each) for key, each in itertools.groupby(sorted(arrived, key=flow), key=flow)
    } == by_flow


def without_identification(packet: bytes) -> bytes:
    if packet[0] >> 4 == 4 and packet[6] & 0x40:
        return packet[:4] + bytes(2) + packet[6:10] + bytes(2) + packet[12:]
    return packet


@given(
    stream=streams,
    damage=st.lists(st.tuples(st.integers(0), st.integers(0), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_damaged_segments_are_never_blessed(stream: list[bytes], damage: list[tuple[int, int, int]]) -> None:
    """The kernel sums up what is joined afresh: only intact packets may be."""
    damaged = [bytearray(packet) for packet in stream]
    for which, where, flip in damage:
        packet = damaged[which % len(damaged)]
        start = 20 if packet[0] >> 4 == 4 else 40
        packet[start + where % (len(packet) - start)] ^= flip
    received = [bytes(packet) for packet in damaged]
    assume(received != stream)
    groups = coalesce(received)
    assert sorted(itertools.chain(*groups)) == sorted(received)
    for group in groups:
        if len(group) > 1:
            assert all(is_valid(packet) for packet in group)


@pytest.mark.parametrize("bit", [0, 7])
def test_damage_to_two_segments_does_not_cancel_out(bit: int) -> None:
    """A broken memory cell flips the same bit of each packet: up in one, down in another."""
    stream = [udp(bytes([0xFF * (number % 2)]) * 10) for number in range(MAX_SEGMENTS)]
    assert len(coalesce(stream)) == 1
    damaged = [packet[:30] + bytes([packet[30] ^ 1 << bit]) + packet[31:] for packet in stream]
    for left, right in itertools.combinations(range(MAX_SEGMENTS), 2):
        received = list(stream)
        received[left], received[right] = damaged[left], damaged[right]
        assert len(coalesce(received)) == MAX_SEGMENTS


def test_small_errors_do_not_cancel_out() -> None:
    """A byte less by 4 in one segment and more by 2 in the next once did; `make fuzz` found it."""
    stream = [udp(bytes([100]) * 10) for _ in range(6)]
    changed = {by: stream[0][:30] + bytes([100 + by]) + stream[0][31:] for by in range(-16, 17) if by}
    for left, right in itertools.combinations(range(len(stream)), 2):
        for down, up in itertools.product(changed, repeat=2):
            received = list(stream)
            received[left], received[right] = changed[down], changed[up]
            assert len(coalesce(received)) == len(stream)


@families
def test_damaged_ip_header_is_not_blessed(ipv6: bool) -> None:
    stream = tcp_stream(b"x" * 300, 100, ipv6=ipv6)
    assert len(coalesce(stream)) == 1
    for at in range(40 if ipv6 else 20):
        damaged = [stream[0], stream[1][:at] + bytes([stream[1][at] ^ 1]) + stream[1][at + 1 :], stream[2]]
        is_length = at in ({4, 5} if ipv6 else {2, 3})
        if not is_length:  # the core has trimmed each packet to the length that it says
            assert [damaged[1]] in coalesce(damaged)


def second(**fields: Any) -> bytes:
    return tcp(b"second", sequence=5, **fields)


@pytest.mark.parametrize(
    "follower",
    [
        tcp(b"second", sequence=6),
        tcp(b"second", sequence=4),
        tcp(b"", sequence=5),
        second(acknowledgement=1),
        second(window=1),
        second(flags=ACK | FIN),
        second(flags=ACK | SYN),
        second(flags=ACK | RST),
        second(flags=ACK | URG),
        second(flags=ACK | ECE),
        second(flags=ACK | CWR),
        second(flags=0),
        second(options=TIMESTAMPS),
        second(ports=(40000, 5202)),
        second(tos=1),
        second(ttl=63),
        second(fragment=0),
        second(fragment=0x6000),
        second(ipv6=True),
        udp(b"second"),
    ],
)
def test_unlike_packets_are_not_joined(follower: bytes) -> None:
    first = tcp(b"first", sequence=0)
    assert coalesce([first, follower]) == [[first], [follower]]


@pytest.mark.parametrize(
    "pair",
    [
        [udp(b"same", fragment=0x2000), udp(b"same", fragment=0x2000)],
        [udp(b"same", fragment=100), udp(b"same", fragment=100)],
        [udp(b"same", fragment=0, identification=7), udp(b"same", fragment=0, identification=9)],
        [udp(b"same")[:26] + bytes(2) + b"same"] * 2,
        [tcp(b"same", sequence=number, flags=SYN) for number in (0, 4)],
        [tcp(b"same", sequence=number, flags=ACK | PSH) for number in (0, 4)],
        [tcp(b"")] * 2,
        [packets.ip(b"12345678", 1)] * 2,
        [packets.ip(b"short", TCP)] * 2,
        [packets.ip(b"short", UDP)] * 2,
    ],
    ids=[
        "first fragments",
        "fragments",
        "identification",
        "no checksum",
        "SYN",
        "PSH",
        "empty",
        "ICMP",
        "TCP",
        "UDP",
    ],
)
def test_what_cannot_lead_is_not_joined(pair: list[bytes]) -> None:
    assert coalesce(pair) == [[pair[0]], [pair[1]]]


def test_ipv4_options_pass_unjoined() -> None:
    packet = b"\x46" + packets.ip(b"", UDP)[1:] + bytes(4) + b"anything"
    assert coalesce([packet, packet]) == [[packet], [packet]]


def test_push_ends_a_group_and_survives_it() -> None:
    stream = tcp_stream(b"x" * 300, 100)
    stream[1] = tcp(b"x" * 100, sequence=1100, flags=ACK | PSH, identification=1)
    groups = coalesce(stream)
    assert groups == [stream[:2], stream[2:]]
    assert split(*as_one_read(groups[0])) == stream[:2]


def test_a_shorter_segment_ends_a_group() -> None:
    sizes = [10, 10, 4, 10, 10]
    stream = [udp(b"x" * size) for size in sizes]
    assert [len(group) for group in coalesce(stream)] == [3, 2]


def test_a_longer_segment_begins_a_group() -> None:
    assert [len(group) for group in coalesce([udp(b"x" * size) for size in (4, 10, 10)])] == [1, 2]


@pytest.mark.parametrize(("size", "longest"), [(10, MAX_SEGMENTS), (1368, 65535 // 1388)])
def test_groups_are_bounded(size: int, longest: int) -> None:
    groups = coalesce(tcp_stream(bytes(size * 100), size))
    assert [len(group) for group in groups][:-1] == [longest] * (100 // longest)
    assert all(len(as_one_read(group)[1]) <= 65535 for group in groups)


def test_flows_may_interleave() -> None:
    streams = [tcp_stream(bytes(1000), 100, ports=(number, 5201)) for number in range(4)]
    mixed = [packet for packets in zip(*streams, strict=True) for packet in packets]
    assert coalesce(mixed) == streams


@pytest.mark.parametrize("stream", [tcp_stream(bytes(20), 10), udp_stream(bytes(20), 10)])
def test_each_protocol_can_be_left_out(stream: list[bytes]) -> None:
    protocol = stream[0][9]
    assert len(coalesce(stream, tcp=protocol != TCP, udp=protocol != UDP)) == 2
    assert len(coalesce(stream, tcp=protocol == TCP, udp=protocol == UDP)) == 1
