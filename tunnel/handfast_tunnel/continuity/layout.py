"""The state memory's layout, version 2: where every number lies. docs/state-memory.md describes it.

All of it is 64-bit little-endian words, because an aligned 8-byte store is what a crash cannot tear
(RECOVERY, section 2). A constant part is complete, with its checksum, before the one word that makes it
valid is stored, and that word is cleared before anything of it is overwritten. What changes as a whole but
is longer than a word is kept twice, and the copy with the higher sequence number counts.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator, Sequence
from struct import Struct, pack, unpack
from typing import Final, Protocol, overload

from ..core.hashes import blake2s

WORD: Final = 8
MAGIC: Final = int.from_bytes(b"HANDFAST", "little")
VERSION: Final = 2

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
    LISTEN_PORT: Final = 17  # the last that was bound; 0 for none
    COMMITTED_TERM: Final = 18  # the term at which another pod took over; 0 for never
    DRAINED: Final = 19
    QUEUE_DROPS: Final = 20  # QUEUE_DROPS words: what of the kernel's queues the owner has counted
    USED: Final = 24  # slots that were ever in use: the first so many
    WALL_OFFSET: Final = 25  # nanoseconds from CLOCK_BOOTTIME to Unix time; 0 for never


class PeerSlot:
    """Word offsets in a peer's slot."""

    VALID: Final = 0
    PUBLIC_KEY: Final = 1  # 4 words
    CHECKSUM: Final = 5  # over words 1..4
    DATA_SENT: Final = 8
    DATA_RECEIVED: Final = 9
    LAST_SENT: Final = 10  # nanoseconds of CLOCK_BOOTTIME; 0 for never
    LAST_RECEIVED: Final = 11
    OUTBOUND_STAMP: Final = 12
    INBOUND_EXACT: Final = 37
    ANSWERED_STAMP: Final = 38
    CONFIGURED_ENDPOINT: Final = 39  # a checksum
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

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> memoryview: ...
    @overload
    def __setitem__(self, index: slice, value: array[int], /) -> None: ...
    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...


_NAME: Final = Struct(f"<Q32s{(PEER_WORDS - PeerSlot.CHECKSUM) * WORD}x")


def names(extent: Words, count: int) -> Iterator[tuple[int, bytes]]:
    """Of each of the first peers' slots the words that make it valid and whose it is."""
    return _NAME.iter_unpack(extent[: count * PEER_WORDS].cast("B"))


def column(extent: Words, count: int, offset: int) -> list[int]:
    """One word of each of the first peers' slots."""
    return extent[offset : count * PEER_WORDS : PEER_WORDS].tolist()


def low_halves(extent: Words, count: int, offset: int) -> bytes:
    """The low half of one word of each of the first peers' slots, as the machine stores it."""
    halves = extent[: count * PEER_WORDS].cast("B").cast("I")
    low = 0 if sys.byteorder == "little" else 1
    return halves[2 * offset + low :: 2 * PEER_WORDS].tobytes()


def to_words(data: bytes) -> tuple[int, ...]:
    """`data` as words, padded with zeros."""
    data += bytes(-len(data) % WORD)
    return unpack(f"<{len(data) // WORD}Q", data)


def to_bytes(words: Sequence[int]) -> bytes:
    return pack(f"<{len(words)}Q", *words)


def checksum(data: bytes, context: bytes = b"") -> int:
    """Of a constant part; never 0, so that a zeroed slot never passes."""
    return int.from_bytes(blake2s(data + context, digest_size=WORD).digest(), "little") or 1


def read(words: Words, start: int, count: int) -> list[int]:
    return words[start : start + count].tolist()


def read_bytes(words: Words, start: int, count: int) -> bytes:
    return words[start : start + count].tobytes()


def write(words: Words, start: int, values: Sequence[int]) -> None:
    """What nobody relies on before another word says so: it may be half done when a process dies."""
    words[start : start + len(values)] = array("Q", values)


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
        sequence = self._words[start]
        if not sequence:
            return 0
        constant = read_bytes(self._words, start, self._size + 1)
        return sequence if self._words[start + 1 + self._size] == checksum(constant) else 0

    def load(self) -> bytes | None:
        """The value as last stored whole; None if there is none."""
        sequences = self._sequence(0), self._sequence(1)
        if not any(sequences):
            return None
        start = self._copy(sequences.index(max(sequences)))
        return read_bytes(self._words, start + 1, self._size)

    def store(self, data: bytes) -> None:
        sequences = self._sequence(0), self._sequence(1)
        start = self._copy(sequences.index(min(sequences)))
        sequence = max(sequences) + 1
        value = data.ljust(self._size * WORD, b"\0")
        self._words[start] = 0
        found = checksum(sequence.to_bytes(WORD, "little") + value)
        write(self._words, start + 1, [*to_words(value), found])
        self._words[start] = sequence

    def clear(self) -> None:
        write(self._words, self._start, [0] * (2 * (self._size + 2)))
