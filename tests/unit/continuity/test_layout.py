from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.continuity.layout import (
    KEYPAIR_WORDS,
    KEYPAIRS,
    PEER_WORDS,
    KeypairSlot,
    PeerSlot,
    TwoCopies,
    checksum,
    to_bytes,
    to_words,
)

from .words import Crash, Steps, Words

SIZE = 2
OLD, NEW = b"o" * 16, b"n" * 16


def two_copies(*values: bytes) -> tuple[TwoCopies, Words, Steps]:
    steps = Steps()
    words = Words(2 * (SIZE + 2), steps)
    copies = TwoCopies(words, 0, SIZE)
    for value in values:
        copies.store(value)
    return copies, words, steps


@given(st.binary(max_size=100))
def test_words_hold_bytes(data: bytes) -> None:
    assert to_bytes(to_words(data)).rstrip(b"\0") == data.rstrip(b"\0")


def test_a_checksum_is_never_zero_and_depends_on_its_context() -> None:
    assert checksum(bytes(16)) != 0
    assert checksum(b"1") != checksum(b"2")
    assert checksum(b"1", b"a") != checksum(b"1", b"b")


def test_slots_do_not_overlap() -> None:
    """Marks end before the keypairs begin, and keypairs where the peer's slot ends."""
    assert PeerSlot.INBOUND_STAMP + 2 * (2 + 2) == PeerSlot.ENDPOINT
    assert PeerSlot.ENDPOINT + 2 * (6 + 2) == PeerSlot.INBOUND_EXACT
    assert PeerSlot.KEYPAIRS + KEYPAIRS * KEYPAIR_WORDS == PEER_WORDS
    assert KeypairSlot.HEARD < KEYPAIR_WORDS


def test_nothing_was_stored_yet() -> None:
    assert two_copies()[0].load() is None


def test_the_last_value_counts() -> None:
    copies, _, _ = two_copies(OLD, NEW, OLD, NEW)
    assert copies.load() == NEW
    copies.clear()
    assert copies.load() is None


@pytest.mark.parametrize("before", [[], [OLD], [NEW, OLD]])
def test_a_crash_at_every_store_leaves_the_old_value_or_the_new(before: list[bytes]) -> None:
    stores = SIZE + 3
    for crash_at in range(stores):
        copies, words, steps = two_copies(*before)
        steps.left = crash_at
        with pytest.raises(Crash):
            copies.store(NEW)
        assert TwoCopies(words, 0, SIZE).load() == (OLD if before else None)
        TwoCopies(words, 0, SIZE).store(NEW)
        assert TwoCopies(words, 0, SIZE).load() == NEW
    copies, _, steps = two_copies(*before)
    steps.left = stores
    copies.store(NEW)
    assert copies.load() == NEW


def test_a_flipped_bit_in_the_newer_copy_leaves_the_older() -> None:
    for index in range(2 * (SIZE + 2)):
        for bit in (0, 17, 63):
            copies, words, _ = two_copies(OLD, NEW)
            words.values[index] ^= 1 << bit
            assert copies.load() in {OLD, NEW}
