from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters.data_plane import PacketPlane
from handfast_tunnel.core.batch import PureOpener
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES
from tests.unit.planes import planes

KEY = bytes(range(32))
MTU = 1420


def plaintext_length(plane: PacketPlane, size: int, mtu: int = MTU) -> int:
    return len(plane.sealer(KEY).seal_batch(1, 0, [b"x" * size], mtu)[0]) - 32


@planes
@given(
    receiver=st.integers(0, 2**32 - 1),
    base=st.integers(0, 2**63),
    packets=st.lists(st.binary(max_size=100), min_size=1, max_size=9),
)
def test_what_was_sealed_opens_with_its_counters(
    plane: PacketPlane, receiver: int, base: int, packets: list[bytes]
) -> None:
    datagrams = plane.sealer(KEY).seal_batch(receiver, base, packets, MTU)
    counters, plaintexts = plane.opener(KEY).open_batch(datagrams)
    assert counters == list(range(base, base + len(packets)))
    for datagram, packet, plaintext in zip(datagrams, packets, plaintexts, strict=True):
        assert datagram[:8] == b"\4\0\0\0" + receiver.to_bytes(4, "little")
        assert plaintext == packet.ljust(len(plaintext), b"\0"), "padding is zeros"


@planes
def test_packets_are_padded_to_16_but_not_past_the_mtu(plane: PacketPlane) -> None:
    assert [plaintext_length(plane, size) for size in (0, 1, 15, 16, 17)] == [0, 16, 16, 16, 32]
    assert [plaintext_length(plane, size) for size in (1408, 1409, 1419, 1420)] == [1408, 1420, 1420, 1420]
    assert plaintext_length(plane, 1421) == 1421, "what the TUN let through is not cut"
    assert plaintext_length(plane, 1, mtu=1280) == 16


@planes
def test_forgeries_are_left_out_and_spoil_nothing_else(plane: PacketPlane) -> None:
    """A bit flip at every byte that is authenticated: AEADs have been used such that none was noticed."""
    datagrams = list(plane.sealer(KEY).seal_batch(1, 7, [b"a" * 16, b"b" * 16, b"c" * 16], MTU))
    opener, forged = plane.opener(KEY), datagrams[1]
    for position in range(8, len(forged)):
        datagrams[1] = forged[:position] + bytes([forged[position] ^ 1]) + forged[position + 1 :]
        counters, plaintexts = opener.open_batch(datagrams)
        assert (counters, list(plaintexts)) == ([7, 9], [b"a" * 16, b"c" * 16])


@planes
def test_counters_have_a_limit(plane: PacketPlane) -> None:
    sealer, opener = plane.sealer(KEY), plane.opener(KEY)
    counters, plaintexts = opener.open_batch(
        sealer.seal_batch(1, REJECT_AFTER_MESSAGES - 1, [b"x", b"y"], MTU)
    )
    assert (counters, len(plaintexts)) == ([REJECT_AFTER_MESSAGES - 1], 1)


def test_counter_limit_is_checked_before_the_aead() -> None:
    opener = PureOpener(KEY)
    opener._decrypt = Mock()
    header = (4).to_bytes(8, "little") + REJECT_AFTER_MESSAGES.to_bytes(8, "little")
    assert opener.open_batch([header + bytes(16)]) == ([], [])
    opener._decrypt.assert_not_called()


@pytest.mark.parametrize("length", [0, 31, 33])
@planes
def test_keys_have_32_bytes(plane: PacketPlane, length: int) -> None:
    for make in (plane.sealer, plane.opener):
        with pytest.raises(ValueError, match="32 bytes"):
            make(bytes(length))
