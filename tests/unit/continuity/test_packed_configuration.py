from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters import outliving
from handfast_tunnel.continuity.packed_configuration import PackedConfiguration, PackedPeer, pack
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.noise import static_key

KEYS = [static_key(bytes([number]) * 32).public for number in range(1, 6)]
ENDPOINTS = [
    None,
    Endpoint("192.0.2.1", 51820),
    Endpoint("2001:db8::1", 65535),
    Endpoint("fe80::1", 5, scope=7),
    None,
]
BYTES = st.sampled_from([0, 1, 10, 128, 255])
"""So few that prefixes overlap and look-ups hit them."""


def prefix(text: str) -> Prefix:
    network = ip_network(text)
    return Prefix(network.network_address.packed, network.prefixlen)


@st.composite
def addresses(draw: st.DrawFn) -> bytes:
    size = draw(st.sampled_from([4, 16]))
    return bytes(draw(st.lists(BYTES, min_size=size, max_size=size)))


@st.composite
def prefixes(draw: st.DrawFn) -> Prefix:
    raw = draw(addresses())
    length = draw(st.integers(0, len(raw) * 8) | st.sampled_from([0, 8, 24, 32]))
    return Prefix(ip_network((raw, length), strict=False).network_address.packed, length)


def device_with(*peers: PeerChange, private_key: bytes | None = b"\x41" * 32, fwmark: int = 0) -> Device:
    device = Device()
    device.configure(InterfaceChange(private_key, listen_port=51820, fwmark=fwmark, peers=peers), 0.0)
    return device


def packed(device: Device) -> PackedConfiguration:
    return PackedConfiguration(b"".join(pack(device)))


def test_everything_is_as_it_was() -> None:
    peers = [
        PeerChange(
            key,
            preshared_key=bytes([number]) * 32,
            endpoint=endpoint,
            persistent_keepalive=number,
            allowed_ips=tuple(prefix(f"10.{number}.{each}.0/24") for each in range(number)),
        )
        for number, (key, endpoint) in enumerate(zip(KEYS, ENDPOINTS, strict=True))
    ]
    left = packed(device_with(*peers, fwmark=42))
    assert left.private_key == device_with().private_key
    assert (left.listen_port, left.fwmark, left.peers) == (51820, 42, len(KEYS))
    for number, peer in enumerate(peers):
        assert left.peer(number) == PackedPeer(
            peer.public_key,
            peer.preshared_key or b"",
            peer.endpoint,
            number,
            list(peer.allowed_ips),
        )
        assert left.number_of(peer.public_key) == number
    assert left.number_of(bytes(32)) is None
    assert left.number_of(b"\xff" * 32) is None


def test_no_key_and_no_peers() -> None:
    left = packed(device_with(private_key=None))
    assert (left.private_key, left.peers) == (None, 0)
    assert left.number_of(KEYS[0]) is None
    assert left.owner_of(bytes(4)) is left.owner_of(bytes(16)) is None


def test_where_a_peer_was_heard_is_not_part_of_it() -> None:
    """It lies in the state memory; here it would grow old and look like a person's word."""
    said = Endpoint("192.0.2.1", 51820)
    device = device_with(PeerChange(KEYS[0], endpoint=said))
    device.peers[KEYS[0]].move_to(Endpoint("198.51.100.9", 4444, local=b"\x0a\0\0\1"))
    assert packed(device).peer(0).endpoint == said


@given(st.lists(st.tuples(st.integers(0, 4), prefixes()), max_size=40), st.lists(addresses(), min_size=5))
def test_the_longest_prefix_wins(claims: list[tuple[int, Prefix]], wanted: list[bytes]) -> None:
    """As in the table that packets are routed by."""
    device = device_with(*(PeerChange(KEYS[who], allowed_ips=(claimed,)) for who, claimed in claims))
    left = packed(device)
    for address in [*wanted, *(claimed.network for _, claimed in claims)]:
        owner = device._interface.routes.lookup(address)
        number = left.owner_of(address)
        assert (None if number is None else left.peer(number).public_key) == (owner and owner.public_key)


@pytest.mark.parametrize("cut", [0, 1, 50, 100, -1])
def test_half_of_it_is_refused(cut: int) -> None:
    data = b"".join(pack(device_with(PeerChange(KEYS[0], allowed_ips=(prefix("10.0.0.0/8"),)))))
    with pytest.raises(ValueError, match=r"short|length"):
        PackedConfiguration(data[:cut])
    with pytest.raises(ValueError, match="length"):
        PackedConfiguration(data + b"\0")


def test_another_version_is_refused() -> None:
    data = b"".join(pack(device_with()))
    with pytest.raises(ValueError, match="version"):
        PackedConfiguration(b"HANDFST0" + data[8:])


def test_no_piece_is_most_of_the_work() -> None:
    """But for the sorting of all keys and of the networks of one length."""
    changes = tuple(
        PeerChange(number.to_bytes(32, "big"), allowed_ips=(Prefix(number.to_bytes(4, "big"), 32),))
        for number in range(1, 1000)
    )
    assert len(list(pack(device_with(*changes)))) > 30


@pytest.mark.parametrize("prefix_count", [0, 1, 40])
def test_there_is_room_for_what_was_reserved(prefix_count: int) -> None:
    lengths = [16 + i % 16 for i in range(prefix_count)]
    changes = [
        PeerChange(key, allowed_ips=tuple(prefix(f"{number}.{i}.0.0/{n}") for i, n in enumerate(lengths)))
        for number, key in enumerate(KEYS, 10)
    ]
    data = b"".join(pack(device_with(*changes)))
    prefixes = len(KEYS) * prefix_count
    assert len(data) <= outliving.room_for(len(KEYS), prefixes)
