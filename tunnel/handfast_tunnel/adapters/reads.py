"""What waits at a descriptor, in batches: many at a time under load, each at once otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Reads(Generic[Item]):
    """The reads of one descriptor.

    While one thing comes at a time, it is handed on before others are looked for: to find that there are none
    is a system call and an exception, and somebody waits for what is there.
    """

    def __init__(self, read: Callable[[int], Sequence[Item]], most: int) -> None:
        """`read` takes how many at most, and does not block."""
        self._read = read
        self._most = most
        self._one_at_a_time = True

    def batches(self) -> Iterator[Sequence[Item]]:
        """One batch, and before it perhaps what comes first; none if nothing waits."""
        first: Sequence[Item] = ()
        if self._one_at_a_time:
            first = self._read(1)
            if first:
                yield first
        rest = self._read(self._most)
        self._one_at_a_time = len(first) + len(rest) <= 1
        if rest:
            yield rest
