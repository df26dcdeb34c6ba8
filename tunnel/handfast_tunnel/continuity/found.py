"""What lies in the slots of a state memory when a process opens it: whose they are, which sessions.

The first packets do not wait until all of it was read. A receiver index is searched for in what was not read
yet; whatever else needs to know a peer's slot reads the rest at once.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import compress
from typing import Final, NamedTuple

from .layout import KEYPAIR_WORDS, PEER_WORDS, KeypairSlot, PeerSlot, Words, column, low_halves, names

_INDEX_BYTES: Final = 4
_KEYPAIRS: Final = range(PeerSlot.KEYPAIRS, PEER_WORDS, KEYPAIR_WORDS)


class Part(NamedTuple):
    """Of one extent, the slots that were ever in use."""

    first: int
    """Number of the first slot."""
    words: Words
    used: int


class Found:
    """By the numbers of slots. What is in them is verified by whoever uses it."""

    def __init__(self, parts: Iterable[Part]) -> None:
        self._unread = deque(map(_Unread, parts))
        self._slots: dict[bytes, int] = {}
        self._free: list[int] = []
        self._indices: dict[int, int] = {}

    def read(self) -> Iterator[None]:
        """A job: an extent takes half a millisecond."""
        while self._unread:
            self._read_extent()
            yield

    def _read_extent(self) -> None:
        first, words, count = self._unread[0].part
        for number, (valid, public_key) in enumerate(names(words, count), first):
            if valid:
                self._slots[public_key] = number
            else:
                self._free.append(number)
        for start in _KEYPAIRS:
            positions = column(words, count, start + KeypairSlot.POSITION)
            if any(positions):
                indices = enumerate(column(words, count, start + KeypairSlot.INDICES), first)
                for number, both in compress(indices, positions):
                    self._indices[both & 0xFFFFFFFF] = number
        self._unread.popleft()
        if not self._unread:
            self._free.reverse()  # the lowest is taken first

    def _read_all(self) -> None:
        for _ in self.read():
            pass

    @property
    def slots(self) -> dict[bytes, int]:
        """By the public key in them; to be kept up by the owner."""
        if self._unread:
            self._read_all()
        return self._slots

    @property
    def free(self) -> list[int]:
        """Slots that were in use once; to be kept up by the owner."""
        if self._unread:
            self._read_all()
        return self._free

    def slot_of(self, index: int) -> int | None:
        """Where a session had this receiver index at the start."""
        if not index:  # so it is in whatever was never written
            self._read_all()
        number = self._indices.get(index)
        if number is None and self._unread:
            sought = index.to_bytes(_INDEX_BYTES, sys.byteorder)
            return next((number for each in self._unread for number in each.search(sought)), None)
        return number

    def forget_indices(self) -> None:
        """Nobody can send on those sessions any more."""
        self._read_all()
        self._indices.clear()


class _Unread:
    """A part to be searched: copied out, that takes a tenth of what it takes to read."""

    def __init__(self, part: Part) -> None:
        self.part = part

    @cached_property
    def _indices(self) -> list[bytes]:
        _, words, count = self.part
        return [low_halves(words, count, start + KeypairSlot.INDICES) for start in _KEYPAIRS]

    def search(self, sought: bytes) -> Iterator[int]:
        """Numbers of slots with such a session."""
        first, words, _ = self.part
        for start, indices in zip(_KEYPAIRS, self._indices, strict=True):
            at = indices.find(sought)
            while at >= 0:
                slot, beside = divmod(at, _INDEX_BYTES)
                if not beside and words[slot * PEER_WORDS + start + KeypairSlot.POSITION]:
                    yield first + slot
                at = indices.find(sought, at + 1)
