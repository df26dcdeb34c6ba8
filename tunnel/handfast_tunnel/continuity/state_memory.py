"""Sessions and marks that outlive their process: records over the words of `layout`.

These records *are* the storage of counters and marks, not a copy of them. Nothing here knows of files:
`state_file` maps one, tests use words that crash at will.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2s
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
from .storage import KeypairFacts, Position, Recalled, RecalledKeypair

_NANOSECONDS: Final = 1_000_000_000
_ENDPOINT: Final = Struct("<HHII16s16sB3x")
"""Port, family, scope, interface index, address, local address, length of the local address."""


def hash_preshared_key(preshared_key: bytes) -> bytes:
    return blake2s(preshared_key, person=b"hf-psk").digest()


def _pack_endpoint(endpoint: Endpoint) -> bytes:
    family = AF_INET6 if endpoint.is_ipv6 else AF_INET
    address = inet_pton(family, endpoint.host)
    return _ENDPOINT.pack(
        endpoint.port, len(address), endpoint.scope, endpoint.interface, address, endpoint.local, len(endpoint.local)
    )


def _unpack_endpoint(data: bytes) -> Endpoint:
    port, length, scope, interface, address, local, local_length = _ENDPOINT.unpack_from(data)
    host = inet_ntop(AF_INET6 if length == 16 else AF_INET, address[:length])
    return Endpoint(host, port, scope, local[:local_length], interface)


class SlotNumbers:
    """Counters of a keypair, in its slot."""

    __slots__ = ("_base", "_words")

    def __init__(self, words: Words, base: int) -> None:
        self._words, self._base = words, base

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

    def fill(self, facts: KeypairFacts, public_key: bytes) -> None:
        """The constant part; the slot is invalid while it is written."""
        words, base = self._words, self._base
        words[base + KeypairSlot.POSITION] = Position.FREE
        constant = _pack_facts(facts)
        write(words, base + KeypairSlot.SEND_KEY, constant)
        words[base + KeypairSlot.CHECKSUM] = checksum(constant, public_key)
        self.ceiling, self.highest_received, self.heard = 0, -1, False

    def facts(self, public_key: bytes) -> KeypairFacts | None:
        """The constant part, or None if it is damaged."""
        constant = read(self._words, self._base + KeypairSlot.SEND_KEY, KeypairSlot.CHECKSUM - KeypairSlot.SEND_KEY)
        if self._words[self._base + KeypairSlot.CHECKSUM] != checksum(constant, public_key):
            return None
        return _unpack_facts(constant)

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

    def erase(self) -> None:
        self._words[self._base + PeerSlot.VALID] = 0
        write(self._words, self._base, [0] * PEER_WORDS)
        self._free(self)

    # --- the constant part ------------------------------------------------------------------------

    def fill(self, preshared_key: bytes) -> None:
        words, base = self._words, self._base
        words[base + PeerSlot.VALID] = 0
        write(words, base, [0] * PEER_WORDS)
        self._seal(preshared_key)

    def _seal(self, preshared_key: bytes) -> None:
        words, base = self._words, self._base
        constant = [*to_words(self.public_key), *to_words(hash_preshared_key(preshared_key))]
        write(words, base + PeerSlot.PUBLIC_KEY, constant)
        words[base + PeerSlot.CHECKSUM] = checksum(constant)
        words[base + PeerSlot.VALID] = 1

    def change_preshared_key(self, preshared_key: bytes) -> None:
        self._words[self._base + PeerSlot.VALID] = 0
        self._seal(preshared_key)

    def holds(self, preshared_key: bytes) -> bool:
        return to_bytes(read(self._words, self._base + PeerSlot.PRESHARED_HASH, 4)) == hash_preshared_key(preshared_key)

    @property
    def base(self) -> int:
        return self._base


class StateMemory:
    """A `Memory` over a header and extents of peer slots; it grows by an extent at a time."""

    def __init__(self, header: Words, extents: list[Words], grow: Callable[[], Words]) -> None:
        self._header = header
        self._slots_per_extent = header[Header.PEERS]
        self._grow = grow
        self._peers: dict[bytes, SlotMarks] = {}
        self._free: list[tuple[Words, int]] = []
        for words in extents:
            self._scan(words)

    def _scan(self, words: Words) -> None:
        for base in range(0, self._slots_per_extent * PEER_WORDS, PEER_WORDS):
            if words[base + PeerSlot.VALID]:
                constant = read(words, base + PeerSlot.PUBLIC_KEY, 8)
                if words[base + PeerSlot.CHECKSUM] == checksum(constant):
                    public_key = to_bytes(constant[:4])
                    self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
                    continue
            self._free.append((words, base))
        self._free.reverse()

    def _release(self, marks: SlotMarks) -> None:
        held = self._peers.pop(marks.public_key, None)
        if held is marks:
            self._free.append((marks._words, marks.base))

    # --- Memory -----------------------------------------------------------------------------------

    def peer_marks(self, public_key: bytes, preshared_key: bytes) -> SlotMarks:
        """The peer's record, kept or new. Sessions under another pre-shared key are zeroed."""
        marks = self._peers.get(public_key)
        if marks is None:
            if not self._free:
                self._scan(self._grow())
            words, base = self._free.pop()
            marks = self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
            marks.fill(preshared_key)
        elif not marks.holds(preshared_key):
            for numbers in marks.keypair_slots():
                numbers.erase()
            marks.change_preshared_key(preshared_key)
        return marks

    def keypair_numbers(self, marks: SlotMarks, facts: KeypairFacts) -> SlotNumbers:
        numbers = next(each for each in marks.keypair_slots() if each.position == Position.FREE)
        numbers.fill(facts, marks.public_key)
        return numbers

    def recall(self, marks: SlotMarks) -> Recalled:
        keypairs = []
        for numbers in marks.keypair_slots():
            if numbers.position == Position.FREE:
                continue
            facts = numbers.facts(marks.public_key)
            if facts is None:
                numbers.erase()
            else:
                keypairs.append(RecalledKeypair(Position(numbers.position), facts, numbers))
        return Recalled(marks.endpoint, keypairs)

    def forget_unless(self, public_key: bytes) -> None:
        """Sessions belong to one interface key: under another one all are zeroed."""
        header = self._header
        stored = to_bytes(read(header, Header.KEY, 4))
        if header[Header.KEY_VALID] and stored == public_key and header[Header.KEY_CHECKSUM] == checksum(to_words(stored)):
            return
        header[Header.KEY_VALID] = 0
        for marks in list(self._peers.values()):
            marks.erase()
        write(header, Header.KEY, to_words(public_key))
        header[Header.KEY_CHECKSUM] = checksum(to_words(public_key))
        header[Header.KEY_VALID] = 1

    def forget_others(self, public_keys: set[bytes]) -> None:
        """Only what the present configuration contains is kept."""
        for public_key, marks in list(self._peers.items()):
            if public_key not in public_keys:
                marks.erase()
