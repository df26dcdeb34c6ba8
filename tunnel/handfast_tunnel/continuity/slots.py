"""The records of one peer and of one keypair, over the words of `layout`.

They *are* the storage of counters and marks, not a copy of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from struct import Struct
from typing import Final

from ..core.endpoint import Endpoint
from .layout import (
    KEYPAIR_WORDS,
    KEYPAIRS,
    PEER_WORDS,
    WORD,
    KeypairSlot,
    PeerSlot,
    TwoCopies,
    Words,
    checksum,
    read_bytes,
    to_words,
    write,
)
from .storage import KeypairFacts, Position, RecalledKeypair

NANOSECONDS: Final = 1_000_000_000
_POSITIONS: Final = frozenset(Position) - {Position.FREE}
_CONSTANT_WORDS: Final = KeypairSlot.CHECKSUM - KeypairSlot.SEND_KEY
_CLEAR: Final = bytes(KEYPAIR_WORDS * WORD)
_FACTS: Final = Struct("<32s32sIIQQ")
"""The constant part of a keypair's slot, without its checksum."""
ENDPOINT: Final = Struct("<HHII16s16sB3x")
"""Port, family, scope, interface index, address, local address, length of the local address."""


def pack_endpoint(endpoint: Endpoint) -> bytes:
    family = AF_INET6 if endpoint.is_ipv6 else AF_INET
    address = inet_pton(family, endpoint.host)
    return ENDPOINT.pack(
        endpoint.port,
        len(address),
        endpoint.scope,
        endpoint.interface,
        address,
        endpoint.local,
        len(endpoint.local),
    )


def unpack_endpoint(data: bytes) -> Endpoint:
    port, length, scope, interface, address, local, local_length = ENDPOINT.unpack_from(data)
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

    def worth(self, index: int) -> int:
        """What would be lost with it: less than nothing where it is of the same session, which is told anew;
        then what is free, and lost sessions, the oldest first."""
        if self.position == Position.FREE:
            return 0
        if self._words[self._base + KeypairSlot.INDICES] & 0xFFFFFFFF == index:
            return -1
        return self._words[self._base + KeypairSlot.BORN]

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
        start = self._base + KeypairSlot.SEND_KEY
        write(self._words, start, [*to_words(constant), checksum(constant, self._context)])

    def _facts(self, context: bytes) -> KeypairFacts | None:
        """The constant part, or None if it is damaged or of another context."""
        constant = read_bytes(self._words, self._base + KeypairSlot.SEND_KEY, _CONSTANT_WORDS)
        if self._words[self._base + KeypairSlot.CHECKSUM] != checksum(constant, context):
            return None
        self._context = context
        return _unpack_facts(constant)

    def recall(self, context: bytes) -> RecalledKeypair | None:
        """The session that is kept here; what cannot be resumed is erased."""
        position = self.position
        facts = self._facts(context) if position in _POSITIONS else None
        if facts is not None:
            return RecalledKeypair(Position(position), facts, self)
        if read_bytes(self._words, self._base, KEYPAIR_WORDS) != _CLEAR:
            self.erase()  # a crash may have left keys even in a free slot
        return None

    def lose(self) -> None:
        facts = self._facts(self._context)
        self.place(Position.FREE)
        if facts is not None:
            self._write(facts._replace(send_key=bytes(32), receive_key=bytes(32)))
            self.place(Position.LOST)

    def erase(self) -> None:
        self._words[self._base + KeypairSlot.POSITION] = Position.FREE
        write(self._words, self._base, [0] * KEYPAIR_WORDS)


def _pack_facts(facts: KeypairFacts) -> bytes:
    return _FACTS.pack(
        facts.send_key,
        facts.receive_key,
        facts.local_index,
        facts.remote_index,
        int(facts.born * NANOSECONDS),
        int(facts.initiator) | int(facts.rekey_age * 1000) << 8,
    )


def _unpack_facts(data: bytes) -> KeypairFacts:
    send_key, receive_key, local_index, remote_index, born, role = _FACTS.unpack(data)
    initiator, rekey_age = bool(role & 1), (role >> 8) / 1000
    return KeypairFacts(
        send_key, receive_key, local_index, remote_index, initiator, born / NANOSECONDS, rekey_age
    )


class SlotMarks:
    """Marks of a peer, in its slot."""

    __slots__ = ("_base", "_endpoint", "_inbound", "_release", "_words", "public_key")

    def __init__(self, words: Words, base: int, public_key: bytes, release: Callable[[bytes], None]) -> None:
        self._words, self._base, self.public_key, self._release = words, base, public_key, release
        self._inbound = TwoCopies(words, base + PeerSlot.INBOUND_STAMP, 2)
        self._endpoint = TwoCopies(words, base + PeerSlot.ENDPOINT, 6)

    @property
    def outbound_stamp(self) -> int:
        return self._words[self._base + PeerSlot.OUTBOUND_STAMP]

    @outbound_stamp.setter
    def outbound_stamp(self, value: int) -> None:
        self._words[self._base + PeerSlot.OUTBOUND_STAMP] = value

    @property
    def answered_stamp(self) -> int:
        return self._words[self._base + PeerSlot.ANSWERED_STAMP]

    @answered_stamp.setter
    def answered_stamp(self, value: int) -> None:
        self._words[self._base + PeerSlot.ANSWERED_STAMP] = value

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
        return self._words[self._base + PeerSlot.LAST_SENT] / NANOSECONDS

    @last_sent.setter
    def last_sent(self, value: float) -> None:
        self._words[self._base + PeerSlot.LAST_SENT] = int(value * NANOSECONDS)

    @property
    def last_received(self) -> float:
        return self._words[self._base + PeerSlot.LAST_RECEIVED] / NANOSECONDS

    @last_received.setter
    def last_received(self, value: float) -> None:
        self._words[self._base + PeerSlot.LAST_RECEIVED] = int(value * NANOSECONDS)

    @property
    def data_sent(self) -> float:
        return self._words[self._base + PeerSlot.DATA_SENT] / NANOSECONDS

    @data_sent.setter
    def data_sent(self, value: float) -> None:
        self._words[self._base + PeerSlot.DATA_SENT] = int(value * NANOSECONDS)

    @property
    def data_received(self) -> float:
        return self._words[self._base + PeerSlot.DATA_RECEIVED] / NANOSECONDS

    @data_received.setter
    def data_received(self, value: float) -> None:
        self._words[self._base + PeerSlot.DATA_RECEIVED] = int(value * NANOSECONDS)

    @property
    def endpoint(self) -> Endpoint | None:
        stored = self._endpoint.load()
        return unpack_endpoint(stored) if stored else None

    @endpoint.setter
    def endpoint(self, value: Endpoint | None) -> None:
        if value is None:
            self._endpoint.clear()
        else:
            self._endpoint.store(pack_endpoint(value))

    @property
    def configured_endpoint(self) -> int:
        return self._words[self._base + PeerSlot.CONFIGURED_ENDPOINT]

    @configured_endpoint.setter
    def configured_endpoint(self, value: int) -> None:
        self._words[self._base + PeerSlot.CONFIGURED_ENDPOINT] = value

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
        self._release(self.public_key)

    def fill(self) -> None:
        """Takes the slot: the constant part is complete before the word that makes it valid."""
        words, base = self._words, self._base
        words[base + PeerSlot.VALID] = 0
        write(words, base, [0] * PEER_WORDS)
        key = to_words(self.public_key)
        write(words, base + PeerSlot.PUBLIC_KEY, key)
        words[base + PeerSlot.CHECKSUM] = checksum(self.public_key)
        words[base + PeerSlot.VALID] = 1


def stored_public_key(words: Words, base: int) -> bytes | None:
    """Of a valid slot; a damaged one is as good as free."""
    if not words[base + PeerSlot.VALID]:
        return None
    key = read_bytes(words, base + PeerSlot.PUBLIC_KEY, 4)
    return key if words[base + PeerSlot.CHECKSUM] == checksum(key) else None
