"""Sessions and marks that outlive their process: who has which slot of the words of `layout`.

Nothing here knows of files: `state_file` maps one, tests use words that crash at will. A successor serves
packets before it has looked at every peer: what is found at the start is verified on first use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from .found import Found, Part
from .layout import PEER_WORDS, Header, PeerSlot, Words, column, read, write
from .slots import NANOSECONDS, SlotMarks, stored_public_key
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

_SLOTS_PER_STEP: Final = 32
_SPARE: Final = (Position.FREE, Position.LOST)


class StateMemory:
    """A `Memory` over a header and extents of peer slots; it grows by an extent at a time."""

    def __init__(self, header: Words, extents: Sequence[Words], grow: Callable[[], Words]) -> None:
        self._header = header
        self._slots_per_extent = header[Header.PEERS]
        self._extents = list(extents)
        self._grow = grow
        self._full = False
        self._peers: dict[bytes, SlotMarks] = {}
        self._claimed: set[bytes] = set()
        """Peers that the present configuration has named."""
        self._found = Found(self._used_parts())
        last_alive = 0
        for _, words, count in self._used_parts():
            for offset in (PeerSlot.LAST_SENT, PeerSlot.LAST_RECEIVED):
                last_alive = max(last_alive, *column(words, count, offset))
        self.last_alive = last_alive / NANOSECONDS

    @property
    def _used(self) -> int:
        return min(self._header[Header.USED], len(self._extents) * self._slots_per_extent)

    def _used_parts(self) -> Iterator[Part]:
        used, size = self._used, self._slots_per_extent
        for first, words in zip(range(0, used, size), self._extents, strict=False):
            yield Part(first, words, min(used - first, size))

    @property
    def _slots(self) -> dict[bytes, int]:
        """By the public key in them, which is verified on first use."""
        return self._found.slots

    @property
    def _free(self) -> list[int]:
        return self._found.free

    def read_ahead(self) -> Iterator[None]:
        """A job: what is in the slots is known when it ends, instead of when it is needed first."""
        return self._found.read()

    def _place(self, number: int) -> tuple[Words, int]:
        """An extent, and where in it the slot begins."""
        extent, slot = divmod(number, self._slots_per_extent)
        return self._extents[extent], slot * PEER_WORDS

    def _marks(self, public_key: bytes) -> SlotMarks | None:
        """Of a peer that has a slot; a damaged one is as good as free."""
        marks = self._peers.get(public_key)
        if marks is not None or public_key not in self._slots:
            return marks
        marks = self._verified(self._slots[public_key])
        if marks is None:
            self._free.append(self._slots.pop(public_key))
        return marks

    def _verified(self, number: int) -> SlotMarks | None:
        """Of whomever the slot is; where it is damaged it is invalid from here on."""
        words, base = self._place(number)
        public_key = stored_public_key(words, base)
        if public_key is None:
            words[base + PeerSlot.VALID] = 0
            return None
        marks = self._peers.get(public_key)
        if marks is None:
            marks = self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
        return marks

    def _release(self, public_key: bytes) -> None:
        del self._peers[public_key]
        self._claimed.discard(public_key)
        number = self._slots.pop(public_key, None)
        if number is not None:
            self._free.append(number)

    def _take(self) -> int | None:
        """A free slot, if need be after growing."""
        if self._free:
            return self._free.pop()
        used = self._used
        if used == len(self._extents) * self._slots_per_extent and not self._has_grown():
            return None
        self._header[Header.USED] = used + 1
        return used

    def _has_grown(self) -> bool:
        if not self._full:
            try:
                self._extents.append(self._grow())
            except OSError as error:
                self._full = True
                log.error("sessions of further peers will end with this process: %s", error.strerror)  # noqa: TRY400
        return not self._full

    @property
    def wall_offset(self) -> float:
        return self._header[Header.WALL_OFFSET] / NANOSECONDS

    @wall_offset.setter
    def wall_offset(self, seconds: float) -> None:
        self._header[Header.WALL_OFFSET] = max(0, int(seconds * NANOSECONDS))

    @property
    def listen_port(self) -> int:
        """The UDP port that was last bound, by the former owner at first; 0 for none."""
        return self._header[Header.LISTEN_PORT]

    @listen_port.setter
    def listen_port(self, port: int) -> None:
        self._header[Header.LISTEN_PORT] = port

    @property
    def drained(self) -> bool:
        """Whether the owner was drained: the next worker of the same keeper comes up frozen."""
        return self._header[Header.DRAINED] != 0

    @drained.setter
    def drained(self, value: bool) -> None:
        self._header[Header.DRAINED] = int(value)

    def sweep(self) -> Iterator[None]:
        """A job: zeroes sessions that nobody claimed, and what a crash left in free slots."""
        self._found.forget_indices()
        for count, public_key in enumerate(list(self._slots), 1):
            if public_key not in self._claimed and (marks := self._marks(public_key)) is not None:
                marks.erase_sessions()
            if count % _SLOTS_PER_STEP == 0:
                yield
        for count, number in enumerate(list(self._free), 1):
            words, base = self._place(number)
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
        marks = self._marks(public_key)
        if marks is None:
            number = self._take()
            if number is None:
                return PlainPeerMarks()
            self._slots[public_key] = number
            words, base = self._place(number)
            marks = self._peers[public_key] = SlotMarks(words, base, public_key, self._release)
            marks.fill()
        return marks

    def keypair_numbers(self, public_key: bytes, facts: KeypairFacts, context: bytes) -> KeypairNumbers:
        marks = self._marks(public_key)
        if marks is None:
            return PlainKeypairNumbers()
        spare = [numbers for numbers in marks.keypair_slots() if numbers.position in _SPARE]
        if not spare:
            raise AssertionError("a peer has more sessions than there are slots")
        numbers = min(spare, key=lambda each: each.worth(facts.local_index))
        numbers.fill(facts, public_key + context)
        return numbers

    def recall(self, public_key: bytes, context: bytes) -> list[RecalledKeypair]:
        marks = self._marks(public_key)
        if marks is None:
            return []
        self._claimed.add(public_key)
        if self.committed_term:
            marks.erase_sessions()
            return []
        slots = [numbers.recall(public_key + context) for numbers in marks.keypair_slots()]
        return sorted(filter(None, slots), key=lambda each: -each.facts.born)

    def knows(self, public_key: bytes) -> bool:
        return self._marks(public_key) is not None

    def peer_of(self, index: int) -> bytes | None:
        number = self._found.slot_of(index)
        marks = None if number is None else self._verified(number)
        return None if marks is None else marks.public_key

    def forget_others(self, public_keys: Collection[bytes]) -> None:
        for public_key in list(self._slots):
            if public_key not in public_keys and (marks := self._marks(public_key)) is not None:
                marks.erase()
