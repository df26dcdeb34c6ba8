"""Both data planes do the same to the same bytes: produce, accept and refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters import data_plane
from handfast_tunnel.adapters.data_plane import PURE, PacketPlane, choose
from handfast_tunnel.adapters.offload import PLAIN_VNET_HEADER, VNET_HEADER
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES
from handfast_tunnel.errors import StartError

from . import packets
from .planes import PLANES, planes, same, sorted_by_receiver, written
from .test_offload import tcp_stream, udp_stream, unsegmented

KEY = bytes(range(32))


sizes = st.sampled_from([0, 1, 15, 16, 17, 100, 1419, 1420, 1421, 9000])
runs = st.lists(st.tuples(sizes, st.integers(1, 70)), min_size=1, max_size=6)
heads = st.sampled_from(
    [b"", b"\x04\0\0\0", b"\x04\0\0\0\1\0\0\0", b"\x04\0\0\0\2\0\0\0", b"\x04\0\1\0\1\0\0\0"]
)
strays = st.lists(st.builds(bytes.__add__, heads, st.binary(max_size=60)), max_size=12)
inner = st.one_of(
    st.binary(max_size=60),
    st.builds(
        packets.udp,
        st.binary(max_size=9),
        ipv6=st.booleans(),
        tos=st.integers(0, 3),
    ),
)


@given(runs, st.integers(0, 2**32 - 1), st.integers(0, 2**63), st.sampled_from([576, 1280, 1420]))
def test_sealed_is_the_same(runs: list[tuple[int, int]], receiver: int, base: int, mtu: int) -> None:
    batch = [bytes([size & 0xFF]) * size for size, count in runs for _ in range(count)]
    sealed = [plane.sealer(KEY).seal_batch(receiver, base, batch, mtu) for plane in PLANES]
    datagrams = same(sealed)
    same(
        [(b"".join(run.buffers), run.size, run.datagrams) for run in plane.runs(each)]
        for plane, each in zip(PLANES, sealed, strict=True)
    )
    assert same(plane.size(each) for plane, each in zip(PLANES, sealed, strict=True)) == sum(
        map(len, datagrams)
    )
    counters, opened = same(plane.opener(KEY).open_batch(datagrams) for plane in PLANES)
    assert counters == list(range(base, base + len(batch)))
    assert all(each.startswith(packet) for each, packet in zip(opened, batch, strict=True))


@given(sizes, st.integers(0, 2**32 - 1), st.integers(0, 2**63), st.sampled_from([576, 1280, 1420]))
def test_a_packet_alone_is_sealed_and_opened_as_in_a_batch(
    size: int, receiver: int, counter: int, mtu: int
) -> None:
    packet = bytes([size & 0xFF]) * size
    batches = [list(plane.sealer(KEY).seal_batch(receiver, counter, [packet], mtu)) for plane in PLANES]
    alone = [[plane.sealer(KEY).seal(receiver, counter, packet, mtu)] for plane in PLANES]
    (datagram,) = same([*batches, *alone])
    counters, plaintexts = PURE.opener(KEY).open_batch([datagram])
    opened = same(plane.opener(KEY).open(datagram) for plane in PLANES)
    assert opened == [counters[0], plaintexts[0]]


@given(st.binary(max_size=80), st.integers(-2, 1))
def test_garbage_alone_is_refused(garbage: bytes, past: int) -> None:
    counter = (REJECT_AFTER_MESSAGES + past).to_bytes(8, "little")
    for datagram in (garbage, b"\x04\0\0\0\1\0\0\0" + counter + bytes(16)):
        assert same(plane.opener(KEY).open(datagram) for plane in PLANES) is None


def test_a_bit_flip_at_any_byte_is_judged_the_same() -> None:
    (datagram,) = PURE.sealer(KEY).seal_batch(1, 7, [packets.udp(b"payload")], 1420)
    for position in range(len(datagram)):
        for bit in range(8):
            flipped = bytearray(datagram)
            flipped[position] ^= 1 << bit
            counters, _ = same(plane.opener(KEY).open_batch([bytes(flipped), datagram]) for plane in PLANES)
            assert counters == ([7, 7] if position < 8 else [7]), "the header is the caller's to check"
            alone = same(plane.opener(KEY).open(bytes(flipped)) for plane in PLANES)
            assert (alone is not None) == (position < 8)


@given(st.lists(st.binary(min_size=32, max_size=80), max_size=5), st.integers(-2, 1))
def test_garbage_is_refused_the_same(garbage: list[bytes], past: int) -> None:
    counter = (REJECT_AFTER_MESSAGES + past).to_bytes(8, "little")
    batch = [*garbage, b"\x04\0\0\0\1\0\0\0" + counter + bytes(16)]
    assert same(plane.opener(KEY).open_batch(batch) for plane in PLANES) == [[], []]


@given(strays, st.integers(0, 70))
def test_datagrams_are_sorted_the_same(datagrams: list[bytes], size: int) -> None:
    same(sorted_by_receiver(plane, datagrams) for plane in PLANES)
    data = b"".join(datagrams)
    read = [plane.datagrams(data, size) for plane in PLANES]
    same(read)
    same(sorted_by_receiver(plane, each) for plane, each in zip(PLANES, read, strict=True))
    same(plane.join([each, each]) for plane, each in zip(PLANES, read, strict=True))


@given(st.lists(st.builds(bytes.__add__, inner, st.binary(max_size=9)), max_size=12))
def test_packets_are_sorted_the_same(batch: list[bytes]) -> None:
    same(plane.by_destination([packet for packet in batch if packet]) for plane in PLANES)
    same(plane.by_source(batch) for plane in PLANES)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """Segments of a few flows, perhaps shuffled, damaged and among others."""
    payload = draw(st.binary(min_size=1, max_size=400))
    size = draw(st.integers(1, 120))
    fields: dict[str, Any] = {"ipv6": draw(st.booleans())}
    if not fields["ipv6"]:
        fields |= {
            "identification": draw(st.sampled_from([0, 0xFFFE])),
            "fragment": draw(st.sampled_from([0, 0x4000, 1])),
        }
    options = draw(st.sampled_from([b"", bytes.fromhex("0101080a0000000100000002")]))
    batch = tcp_stream(payload, size, options=options, **fields) + udp_stream(payload, size, **fields)
    batch += draw(
        st.lists(st.builds(packets.tcp, st.binary(max_size=9), flags=st.integers(0, 255)), max_size=3)
    )
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(batch) - 1))
        position = draw(st.integers(1, len(batch[at]) - 1))
        damaged = bytearray(batch[at])
        damaged[position] ^= draw(st.integers(1, 255))
        batch[at] = bytes(damaged)
    return draw(st.permutations(batch)) if draw(st.booleans()) else batch


def is_whole(packet: bytes) -> bool:
    """As the core hands them on."""
    return (packet[0] >> 4, len(packet)) in {
        (4, int.from_bytes(packet[2:4], "big")),
        (6, int.from_bytes(packet[4:6], "big") + 40),
    }


@given(streams(), st.booleans(), st.booleans())
def test_writes_are_joined_the_same(batch: list[bytes], tcp: bool, udp: bool) -> None:
    whole = list(filter(is_whole, batch))
    frames = same(written(plane, whole, tcp=tcp, udp=udp) for plane in PLANES)
    cut, malformed = same(plane.split([frame for frame, _ in frames]) for plane in PLANES)
    assert malformed == 0
    assert sorted(cut) == sorted(whole)


@given(
    st.binary(min_size=1, max_size=500),
    st.integers(0, 100),
    st.booleans(),
    st.sampled_from([0, 1, 4, 5, 0x81, 3]),
    st.integers(0, 255),
)
def test_reads_are_cut_the_same(payload: bytes, size: int, ipv6: bool, kind: int, flags: int) -> None:
    whole = packets.udp(payload, ipv6=ipv6) if kind == 5 else packets.tcp(payload, flags=flags, ipv6=ipv6)
    header, packet = unsegmented(whole, kind, size)
    same(plane.split([header + packet, PLAIN_VNET_HEADER + whole]) for plane in PLANES)


@given(
    st.binary(max_size=90),
    st.tuples(*[st.integers(0, 255)] * 2),
    st.tuples(*[st.sampled_from([0, 6, 16, 20, 40, 60, 300])] * 4),
)
def test_nonsense_is_cut_the_same(packet: bytes, head: tuple[int, int], fields: tuple[int, ...]) -> None:
    frame = VNET_HEADER.pack(*head, *fields) + packet
    if packet:
        same(plane.split([frame]) for plane in PLANES)


# --- a compiled sequence is a sequence ------------------------------------------------------------


@planes
def test_batches_are_sequences(plane: PacketPlane) -> None:
    sealed = plane.sealer(KEY).seal_batch(1, 0, [b"a" * 32, b"b" * 32, b"c"], 1420)
    plaintexts = plane.opener(KEY).open_batch(sealed)[1]
    for batch in (sealed, plaintexts):
        items = list(batch)
        assert [batch[at] for at in (0, 1, 2, -1, -3)] == [items[at] for at in (0, 1, 2, -1, -3)]
        for chosen in (slice(1, None), slice(0, 2), slice(5, 9), slice(None, None, -1), slice(-2, None)):
            assert list(batch[chosen]) == items[chosen]
        for at in (3, -4):
            with pytest.raises(IndexError):
                batch[at]
        assert list(plane.join([batch, items, batch])) == items * 3


# --- the choice -----------------------------------------------------------------------------------


def test_pure_is_always_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "handfast_native", None)
    assert choose("auto") is choose("pure") is PURE
    with pytest.raises(StartError, match=r"handfast_native.*install handfast\[native\]"):
        choose("native")


def test_a_module_of_another_release_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = type("Module", (), {"SEAM": data_plane.SEAM + 1})
    monkeypatch.setitem(__import__("sys").modules, "handfast_native", other)
    assert choose("auto") is PURE
    with pytest.raises(StartError, match="another release's"):
        choose("native")


def test_what_is_installed_is_chosen() -> None:
    assert choose("auto") is choose("auto") or choose("auto").name == "native"
    assert choose("auto").name == PLANES[-1].name
