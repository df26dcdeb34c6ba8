"""The memory of a process that cannot own its state memory, because another process holds it.

Nothing outlives it. But the mark that another took over for good holds for it as well (RECOVERY,
section 7). It is read where it lies, without the lock: the owner may still be told.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

from .layout import HEADER_WORDS, WORD, Header
from .state_file import why_refused
from .storage import PlainMemory


class BystanderMemory(PlainMemory):
    """A `Memory` for one process's life, with the committed mark of the file at `path`."""

    def __init__(self, path: Path, interface: str) -> None:
        self._told = 0
        self._header: memoryview | None = None
        with suppress(OSError):
            self._header = _read_only_header(path, interface)

    @property
    def committed_term(self) -> int:
        return self._told or (self._header[Header.COMMITTED_TERM] if self._header is not None else 0)

    @committed_term.setter
    def committed_term(self, term: int) -> None:
        self._told = term


def _read_only_header(path: Path, interface: str) -> memoryview | None:
    """None if the file is of another time or interface, so that its mark means nothing here."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        size = os.fstat(fd).st_size
        if size < HEADER_WORDS * WORD:
            return None
        mapping = mmap.mmap(fd, HEADER_WORDS * WORD, access=mmap.ACCESS_READ)
    finally:
        os.close(fd)
    header = memoryview(mapping).cast("Q")
    return None if why_refused(header, size, interface) else header
