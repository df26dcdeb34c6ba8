"""Sessions and marks that outlive their process: records over the words of `layout`.

These records *are* the storage of counters and marks, not a copy of them. Nothing here knows of files:
`state_file` maps one, tests use words that crash at will.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Final

from ..core.endpoint import Endpoint
from .layout import (
    KEYPAIR_WORDS,
    KEYPAIRS,
    PEER_WORDS,
    Header,
    KeypairSlot,
    PeerSlot,
    TwoCopies,
    Words,
    checksum,
    read,
    to_bytes,
    to_words,
    write,
)
from .storage import (
    KeypairFacts,
    KeypairNumbers,
    PeerMarks,
    PlainKeypairNumbers,
    PlainPeerMarks,
    Position,
    RecalledKeypair,
)

log = logging.getLogger(__name__)

_POSITIONS: Final = frozenset(Position) - {Position.FREE}
_NANOSECONDS: Final = 1_000_000_000
_SLOTS_PER_STEP: Final = 32
_ENDPOINT: Final = Struct("<HHII16s16sB3x")
"""Port, family, scope, interface index, address, local address, length of the local address."""


def _pack_endpoint(endpoint: Endpoint) -> bytes:
    family = AF_INET6 if endpoint.is_ipv6 else AF_INET
    address = inet_pton(family, endpoint.host)
    return _ENDPOINT.pack(
        endpoint.port,
        len(address),
        endpoint.scope,
        endpoint.interface,
        address,
        endpoint.local,
        len(endpoint.local),
    )


def _unpack_endpoint(data: bytes) -> Endpoint:
    port, length, scope, interface, address, local, local_length = _ENDPOINT.unpack_from(data)
    host = inet_ntop(AF_INET6 if length == 16 else AF_INET, address[:length])
    return Endpoint(host, port, scope, local[:local_length], interface)


class SlotNumbers:
    """Counters of a keypair, in its slot."""

    __slots__ = ("_base", "_context", "_words")

    def __init__(self, words: Words, base: int) -> None:
        self._words, self._base = words, base
        self._context = b""

    @property
    def ceiling(self) -> int:
        return self._words[self._base + KeypairSlot.CEILING]

    @ceiling.setter
    def ceiling(self, value: int) -> None:
        self._words[self._base + KeypairSlot.CEILING] = value

    @property
    def highest_received(self) -> int:
        return self._words[self._base + KeypairSlot.HIGHEST_RECEIVED] - 1

    @highest_received.setter
    def highest_received(self, value: int) -> None:
        self._words[self._base + KeypairSlot.HIGHEST_RECEIVED] = value + 1

    @property
    def heard(self) -> bool:
        return self._words[self._base + KeypairSlot.HEARD] != 0

    @heard.setter
    def heard(self, value: bool) -> None:
        self._words[self._base + KeypairSlot.HEARD] = int(value)

    def place(self, position: Position) -> None:
        self._words[self._base + KeypairSlot.POSITION] = position

    @property
    def position(self) -> int:
        return self._words[self._base + KeypairSlot.POSITION]

    def word(self, offset: int) -> int:
        """For a person to look at."""
        return self._words[self._base + offset]

    def fill(self, facts: KeypairFacts, context: bytes) -> None:
        """The constant part; the slot is invalid while it is written."""
        self.place(Position.FREE)
        self._context = context
        self._write(facts)
        self.ceiling, self.highest_received, self.heard = 0, -1, False

    def _write(self, facts: KeypairFacts) -> None:
        constant = _pack_facts(facts)
        write(self._words, self._base + KeypairSlot.SEND_KEY, constant)
        self._words[self._base + KeypairSlot.CHECKSUM] = checksum(constant, self._context)

    def facts(self, context: bytes) -> KeypairFacts | None:
        """The constant part, or None if it is damaged or of another context."""
        start = self._base + KeypairSlot.SEND_KEY
        constant = read(self._words, start, KeypairSlot.CHECKSUM - KeypairSlot.SEND_KEY)
        if self._words[self._base + KeypairSlot.CHECKSUM] != checksum(constant, context):
            return None
        self._context = context
        return _unpack_facts(constant)

    def lose(self) -> None:
        facts = self.facts(self._context)
        self.place(Position.FREE)
        if facts is not None:
            self._write(facts._replace(send_key=bytes(32), receive_key=bytes(32)))
            self.place(Position.LOST)

    def erase(self) -> None:
        self._words[self._base + KeypairSlot.POSITION] = Position.FREE
        write(self._words, self._base, [0] * KEYPAIR_WORDS)


def _pack_facts(facts: KeypairFacts) -> list[int]:
    return [
        *to_words(facts.send_key),
        *to_words(facts.receive_key),
        facts.local_index | facts.remote_index << 32,
        int(facts.born * _NANOSECONDS),
        int(facts.initiator) | int(facts.rekey_age * 1000) << 8,
    ]


def _unpack_facts(words: list[int]) -> KeypairFacts:
    indices, born, role = words[8:11]
    return KeypairFacts(
        send_key=to_bytes(words[0:4]),
        receive_key=to_bytes(words[4:8]),
        local_index=indices & 0xFFFFFFFF,
        remote_index=indices >> 32,
        born=born / _NANOSECONDS,
        initiator=bool(role & 1),
        rekey_age=(role >> 8) / 1000,
    )


class SlotMarks:
    """Marks of a peer, in its slot."""

    __slots__ = ("_base", "_endpoint", "_free", "_inbound", "_words", "public_key")

    def __init__(self, words: Words, base: int, public_key: bytes, free: Callable[[SlotMarks], None]) -> None:
        self._words, self._base, self.public_key, self._free = words, base, public_key, free
        self._inbound = TwoCopies(words, base + PeerSlot.INBOUND_STAMP, 2)
        self._endpoint = TwoCopies(words, base + PeerSlot.ENDPOINT, 6)

    @property
    def outbound_stamp(self) -> int:
        return self._words[self._base + PeerSlot.OUTBOUND_STAMP]

    @outbound_stamp.setter
    def outbound_stamp(self, value: int) -> None:
        self._words[self._base + PeerSlot.OUTBOUND_STAMP] = value

    @property
    def inbound_stamp(self) -> bytes:
        stored = self._inbound.load()
        return stored[:12] if stored else b""

    @inbound_stamp.setter
    def inbound_stamp(self, value: bytes) -> None:
        self._inbound.store(value)

    @property
    def inbound_exact(self) -> bool:
        return self._words[self._base + PeerSlot.INBOUND_EXACT] != 0

    @inbound_exact.setter
    def inbound_exact(self, value: bool) -> None:
        self._words[self._base + PeerSlot.INBOUND_EXACT] = int(value)

    @property
    def last_sent(self) -> float:
        return self._words[self._base + PeerSlot.LAST_SENT] / _NANOSECONDS

    @last_sent.setter
    def last_sent(self, value: float) -> None:
        self._words[self._base + PeerSlot.LAST_SENT] = int(value * _NANOSECONDS)

    @property
    def last_received(self) -> float:
        return self._words[self._base + PeerSlot.LAST_RECEIVED] / _NANOSECONDS

    @last_received.setter
    def last_received(self, value: float) -> None:
        self._words[self._base + PeerSlot.LAST_RECEIVED] = int(value * _NANOSECONDS)

    @property
    def endpoint(self) -> Endpoint | None:
        stored = self._endpoint.load()
        return _unpack_endpoint(stored) if stored else None

    @endpoint.setter
    def endpoint(self, value: Endpoint | None) -> None:
        if value is None:
            self._endpoint.clear()
        else:
            self._endpoint.store(_pack_endpoint(value))

    def keypair_slots(self) -> Iterator[SlotNumbers]:
        start = self._base + PeerSlot.KEYPAIRS
        for number in range(KEYPAIRS):
            yield SlotNumbers(self._words, start + number * KEYPAIR_WORDS)

    def erase_sessions(self) -> None:
        for numbers in self.keypair_slots():
            numbers.erase()

    def erase(self) -> None:
        self._words[self._base + PeerSlot.VALID] = 0
        write(self._words, self._base, [0] * PEER_WORDS)
        self._free(self)

    def fill(self) -> None:
        """Takes the slot: the constant part is complete before the word that makes it valid."""
        words, base = self._words, self._base
        words[base + PeerSlot.VALID] = 0
        write(words, base, [0] * PEER_WORDS)
        key = to_words(self.public_key)
        write(words, base + PeerSlot.PUBLIC_KEY, key)
        words[base + PeerSlot.CHECKSUM] = checksum(key)
        words[base + PeerSlot.VALID] = 1

    @property
    def place(self) -> tuple[Words, int]:
        return self._words, self._base


class StateMemory:
    """A `Memory` over a header and extents of peer slots; it grows by an extent at a time."""

    def __init__(self, header: Words, extents: Sequence[Words], grow: Callable[[], Words]) -> None:
        self._header = header
        self._slots_per_extent = header[Header.PEERS]
        self._grow = grow
        self._peers: dict[bytes, SlotMarks] = {}
        self._claimed: set[bytes] = set()
        """Peers that the present configuration has named."""
        self._full = False
        self._free: list[tuple[Words, int]] = []
        for words in extents:
            self._scan(words)
        seen = [max(marks.last_sent, marks.last_received) for marks in self._peers.values()]
        self.last_alive = max(seen, default=0.0)

    def _scan(self, words: Words) -> None:
        free = []
        for base in range(0, self._slots_per_extent * PEER_WORDS, PEER_WORDS):
            public_key = stored_public_key(words, base)
            if public_key is None:
                words[base + PeerSlot.VALID] = 0
                free.append((words, base))
            else:
                self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
        self._free += reversed(free)

    def _release(self, marks: SlotMarks) -> None:
        del self._peers[marks.public_key]
        self._claimed.discard(marks.public_key)
        self._free.append(marks.place)

    def _has_room(self) -> bool:
        """Whether there is a free slot, if need be after growing."""
        if not self._free and not self._full:
            try:
                self._scan(self._grow())
            except OSError as error:
                self._full = True
                log.error("sessions of further peers will end with this process: %s", error.strerror)  # noqa: TRY400
        return bool(self._free)

    @property
    def drained(self) -> bool:
        """Whether the owner was drained: the next worker of the same keeper comes up frozen."""
        return self._header[Header.DRAINED] != 0

    @drained.setter
    def drained(self, value: bool) -> None:
        self._header[Header.DRAINED] = int(value)

    def sweep(self) -> Iterator[None]:
        """A job: zeroes sessions that nobody claimed, and what a crash left in free slots."""
        for count, marks in enumerate(list(self._peers.values()), 1):
            if marks.public_key not in self._claimed and marks is self._peers.get(marks.public_key):
                marks.erase_sessions()
            if count % _SLOTS_PER_STEP == 0:
                yield
        for count, (words, base) in enumerate(list(self._free), 1):
            if not words[base + PeerSlot.VALID] and any(read(words, base, PEER_WORDS)):
                write(words, base, [0] * PEER_WORDS)
            if count % _SLOTS_PER_STEP == 0:
                yield

    # --- Memory -----------------------------------------------------------------------------------

    @property
    def committed_term(self) -> int:
        return self._header[Header.COMMITTED_TERM]

    @committed_term.setter
    def committed_term(self, term: int) -> None:
        self._header[Header.COMMITTED_TERM] = term

    def peer_marks(self, public_key: bytes) -> PeerMarks:
        self._claimed.add(public_key)
        marks = self._peers.get(public_key)
        if marks is None:
            if not self._has_room():
                return PlainPeerMarks()
            words, base = self._free.pop()
            marks = self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
            marks.fill()
        return marks

    def keypair_numbers(self, public_key: bytes, facts: KeypairFacts, context: bytes) -> KeypairNumbers:
        marks = self._peers.get(public_key)
        if marks is None:
            return PlainKeypairNumbers()
        slots = list(marks.keypair_slots())
        for position in (Position.FREE, Position.LOST):
            for numbers in slots:
                if numbers.position == position:
                    numbers.fill(facts, public_key + context)
                    return numbers
        raise AssertionError("a peer has more sessions than there are slots")

    def recall(self, public_key: bytes, context: bytes) -> list[RecalledKeypair]:
        marks = self._peers.get(public_key)
        if marks is None:
            return []
        self._claimed.add(public_key)
        if self.committed_term:
            marks.erase_sessions()
            return []
        recalled = []
        for numbers in marks.keypair_slots():
            facts = numbers.facts(public_key + context)
            if facts is not None and numbers.position in _POSITIONS:
                recalled.append(RecalledKeypair(Position(numbers.position), facts, numbers))
            else:
                numbers.erase()
        return sorted(recalled, key=lambda each: -each.facts.born)

    def knows(self, public_key: bytes) -> bool:
        return public_key in self._peers

    def forget_others(self, public_keys: Collection[bytes]) -> None:
        for public_key in self._peers.keys() - set(public_keys):
            self._peers[public_key].erase()


def stored_public_key(words: Words, base: int) -> bytes | None:
    """Of a valid slot; a damaged one is as good as free."""
    if not words[base + PeerSlot.VALID]:
        return None
    key = read(words, base + PeerSlot.PUBLIC_KEY, 4)
    return to_bytes(key) if words[base + PeerSlot.CHECKSUM] == checksum(key) else None
