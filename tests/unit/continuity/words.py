"""A state memory in plain lists, whose owner can die at every single store."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any, overload
from unittest.mock import patch

from handfast_tunnel.continuity.layout import HEADER_WORDS, PEER_WORDS, WORD, Header
from handfast_tunnel.continuity.state_memory import StateMemory

PEERS_PER_EXTENT = 2


class Crash(BaseException):
    """The process is gone, at this very step."""


class Steps:
    """What a process does that another can see, counted: it dies instead of the chosen one."""

    def __init__(self) -> None:
        self.left = inf
        self.taken = 0

    def take(self) -> None:
        self.taken += 1
        self.left -= 1
        if self.left < 0:
            self.left = inf
            raise Crash


class Words:
    """64-bit words; each store is whole or does not happen."""

    def __init__(self, count: int, steps: Steps) -> None:
        self.values = [0] * count
        self._steps = steps
        self.read_between: Callable[[], None] = lambda: None
        """What another process does between the two halves of a torn store."""

    @overload
    def __getitem__(self, index: int, /) -> int: ...
    @overload
    def __getitem__(self, index: slice, /) -> memoryview: ...
    def __getitem__(self, index: int | slice, /) -> int | memoryview:
        """Of a slice, a copy."""
        if isinstance(index, slice):
            return memoryview(array("Q", self.values[index]))
        return self.values[index]

    @overload
    def __setitem__(self, index: slice, value: array[int], /) -> None: ...
    @overload
    def __setitem__(self, index: int, value: int, /) -> None: ...
    def __setitem__(self, index: int | slice, value: int | array[int], /) -> None:
        """A slice is stored word by word."""
        where = range(index, index + 1) if isinstance(index, int) else range(len(self.values))[index]
        for at, word in zip(where, [value] if isinstance(value, int) else value, strict=True):
            if not 0 <= word < 1 << 64:
                raise OverflowError(word)
            self._steps.take()
            self.values[at] = word

    def pack_into(self, index: int, value: int) -> None:
        """What CPython's struct.pack_into does to a mapping: zero, then the value."""
        self[index] = 0
        self.read_between()
        self[index] = value


@contextmanager
def torn_stores() -> Iterator[None]:
    """Inside, struct.pack_into works on Words, in two steps."""
    whole: Callable[..., None] = struct.pack_into

    def pack_into(form: str, buffer: Any, offset: int, *values: int) -> None:
        if not isinstance(buffer, Words):
            whole(form, buffer, offset, *values)
            return
        for number, value in enumerate(values):
            buffer.pack_into(offset // WORD + number, value)

    with patch.object(struct, "pack_into", pack_into):
        yield


class StateDouble:
    """What `StateFile` is: a header, extents, one owner at a time. `generation` counts its beginnings."""

    def __init__(self, steps: Steps, *, locked: bool = True) -> None:
        self.steps = steps
        self.generation = 0
        self.owner: object = None
        self._locked = locked
        self.reader: Callable[[], None] = lambda: None
        """Who reads between the two halves of a torn store."""
        self.begin()

    def begin(self) -> None:
        """Anew, as after a boot."""
        self.generation += 1
        self.header = self._words(HEADER_WORDS)
        self.header.values[Header.PEERS] = PEERS_PER_EXTENT
        self.extents: list[Words] = []

    def _words(self, count: int) -> Words:
        words = Words(count, self.steps)
        words.read_between = self._read_between
        return words

    def _read_between(self) -> None:
        self.reader()

    def _grow(self) -> Words:
        self.extents.append(self._words(PEERS_PER_EXTENT * PEER_WORDS))
        return self.extents[-1]

    def open(self, owner: object) -> StateMemory | None:
        """None while another process owns it."""
        if self.owner is not None and self._locked:
            return None
        self.owner = owner
        self.header[Header.INCARNATION] += 1
        return StateMemory(self.header, self.extents, self._grow)

    def release(self, owner: object) -> None:
        if self.owner is owner:
            self.owner = None
