from __future__ import annotations

from unittest.mock import Mock

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.batch import open_batch, seal_batch
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES

AEAD = ChaCha20Poly1305(bytes(range(32)))
MTU = 1420


def plaintext_length(size: int, mtu: int = MTU) -> int:
    return len(seal_batch(AEAD, 1, 0, [b"x" * size], mtu)[0]) - 32


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**63),
    st.lists(st.binary(max_size=100), min_size=1, max_size=9),
)
def test_what_was_sealed_opens_with_its_counters(receiver: int, base: int, packets: list[bytes]) -> None:
    datagrams = seal_batch(AEAD, receiver, base, packets, MTU)
    counters, plaintexts = open_batch(AEAD, datagrams)
    assert counters == list(range(base, base + len(packets)))
    for datagram, packet, plaintext in zip(datagrams, packets, plaintexts, strict=True):
        assert datagram[:8] == b"\4\0\0\0" + receiver.to_bytes(4, "little")
        assert plaintext == packet.ljust(len(plaintext), b"\0"), "padding is zeros"


def test_packets_are_padded_to_16_but_not_past_the_mtu() -> None:
    assert [plaintext_length(size) for size in (0, 1, 15, 16, 17)] == [0, 16, 16, 16, 32]
    assert [plaintext_length(size) for size in (1408, 1409, 1419, 1420)] == [1408, 1420, 1420, 1420]
    assert plaintext_length(1421) == 1421, "what the TUN let through is not cut"
    assert plaintext_length(1, mtu=1280) == 16


def test_forgeries_are_left_out_and_spoil_nothing_else() -> None:
    datagrams = seal_batch(AEAD, 1, 7, [b"a" * 16, b"b" * 16, b"c" * 16], MTU)
    forged = datagrams[1]
    for position in range(8, len(forged)):
        datagrams[1] = forged[:position] + bytes([forged[position] ^ 1]) + forged[position + 1 :]
        assert open_batch(AEAD, datagrams) == ([7, 9], [b"a" * 16, b"c" * 16])


def test_counter_limit_is_checked_before_the_aead() -> None:
    opener = Mock()
    past_the_limit = seal_batch(AEAD, 1, REJECT_AFTER_MESSAGES, [b"x"], MTU)
    assert open_batch(opener, past_the_limit) == ([], [])
    opener.decrypt.assert_not_called()
    last = seal_batch(AEAD, 1, REJECT_AFTER_MESSAGES - 1, [b"x"], MTU)
    assert open_batch(AEAD, last)[0] == [REJECT_AFTER_MESSAGES - 1]
