"""The state memory's layout, version 1: where every number lies. docs/state-memory.md describes it.

All of it is 64-bit little-endian words, because an aligned 8-byte store is what a crash cannot tear
(RECOVERY, section 2). A constant part is complete, with its checksum, before the one word that makes it
valid is stored, and that word is cleared before anything of it is overwritten. What changes as a whole but
is longer than a word is kept twice, and the copy with the higher sequence number counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack, unpack
from typing import Final, Protocol

from ..core.hashes import blake2s

WORD: Final = 8
MAGIC: Final = int.from_bytes(b"HANDFAST", "little")
VERSION: Final = 1

HEADER_WORDS: Final = 512
"""One page."""
PEER_WORDS: Final = 120
KEYPAIR_WORDS: Final = 20
KEYPAIRS: Final = 4
"""Previous, current, next, and one that is being born while the others are still valid."""
QUEUE_DROPS: Final = 4


class Header:
    """Word offsets in the header."""

    MAGIC: Final = 0
    VERSION: Final = 1
    BOOT_ID: Final = 2  # 2 words
    INTERFACE: Final = 4  # 2 words, the name padded with zeros
    PEERS: Final = 6  # slots in each extent
    CHECKSUM: Final = 7  # over words 0..6
    INCARNATION: Final = 16
    LISTEN_PORT: Final = 17
    COMMITTED_TERM: Final = 18  # the term at which another pod took over; 0 for never
    DRAINED: Final = 19
    QUEUE_DROPS: Final = 20  # QUEUE_DROPS words: what of the kernel's queues the owner has counted


class PeerSlot:
    """Word offsets in a peer's slot."""

    VALID: Final = 0
    PUBLIC_KEY: Final = 1  # 4 words
    CHECKSUM: Final = 5  # over words 1..4
    LAST_SENT: Final = 10  # nanoseconds of CLOCK_BOOTTIME; 0 for never
    LAST_RECEIVED: Final = 11
    OUTBOUND_STAMP: Final = 12
    INBOUND_EXACT: Final = 37
    INBOUND_STAMP: Final = 13  # a pair of copies, 2 words each
    ENDPOINT: Final = 21  # a pair of copies, 6 words each
    KEYPAIRS: Final = 40


class KeypairSlot:
    """Word offsets in a keypair's slot."""

    POSITION: Final = 0  # 0: free; else previous, current or next
    SEND_KEY: Final = 1  # 4 words
    RECEIVE_KEY: Final = 5  # 4 words
    INDICES: Final = 9  # local, and remote << 32
    BORN: Final = 10  # nanoseconds of CLOCK_BOOTTIME
    ROLE: Final = 11  # bit 0: initiator; from bit 8: the age at which it rekeys, in milliseconds
    CHECKSUM: Final = (
        12  # over words 1..11 and, not stored, whose session it is: peer, interface key, pre-shared key
    )
    CEILING: Final = 13
    HIGHEST_RECEIVED: Final = 14  # plus one; 0 before the first
    HEARD: Final = 15


class Words(Protocol):
    """A run of 64-bit words: `memoryview.cast("Q")` over a mapping, or a test's double."""

    def __getitem__(self, index: int, /) -> int: ...

    def __setitem__(self, index: int, value: int, /) -> None: ...


def to_words(data: bytes) -> tuple[int, ...]:
    """`data` as words, padded with zeros."""
    data += bytes(-len(data) % WORD)
    return unpack(f"<{len(data) // WORD}Q", data)


def to_bytes(words: Sequence[int]) -> bytes:
    return pack(f"<{len(words)}Q", *words)


def checksum(words: Sequence[int], context: bytes = b"") -> int:
    """Of a constant part; never 0, so that a zeroed slot never passes."""
    digest = blake2s(to_bytes(words) + context, digest_size=WORD).digest()
    return int.from_bytes(digest, "little") or 1


def read(words: Words, start: int, count: int) -> list[int]:
    return [words[start + i] for i in range(count)]


def write(words: Words, start: int, values: Sequence[int]) -> None:
    for offset, value in enumerate(values):
        words[start + offset] = value


class TwoCopies:
    """A value of `size` words that changes as a whole: each copy is sequence, value, checksum."""

    __slots__ = ("_size", "_start", "_words")

    def __init__(self, words: Words, start: int, size: int) -> None:
        self._words, self._start, self._size = words, start, size

    def _copy(self, which: int) -> int:
        return self._start + which * (self._size + 2)

    def _sequence(self, which: int) -> int:
        """Of a copy whose checksum holds; else 0."""
        start = self._copy(which)
        sequence, *value, found = read(self._words, start, self._size + 2)
        return sequence if sequence and found == checksum([sequence, *value]) else 0

    def load(self) -> bytes | None:
        """The value as last stored whole; None if there is none."""
        sequences = self._sequence(0), self._sequence(1)
        if not any(sequences):
            return None
        start = self._copy(sequences.index(max(sequences)))
        return to_bytes(read(self._words, start + 1, self._size))

    def store(self, data: bytes) -> None:
        sequences = self._sequence(0), self._sequence(1)
        start = self._copy(sequences.index(min(sequences)))
        sequence = max(sequences) + 1
        value = to_words(data.ljust(self._size * WORD, b"\0"))
        self._words[start] = 0
        write(self._words, start + 1, [*value, checksum([sequence, *value])])
        self._words[start] = sequence

    def clear(self) -> None:
        write(self._words, self._start, [0] * (2 * (self._size + 2)))
