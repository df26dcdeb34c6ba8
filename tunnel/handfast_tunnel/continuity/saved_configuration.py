"""The last accepted configuration, beside the state memory, for the next worker of the same keeper."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


class SavedConfiguration:
    """The file at `path`, 0600, replaced whole by atomic rename."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".new")

    def forget(self) -> None:
        """A new keeper starts empty, as wireguard-go does."""
        self._path.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)

    def load(self) -> memoryview:
        """What was saved, mapped: of thousands of peers only a few are read at once. Nothing was, if nothing
        was ever accepted."""
        try:
            with self._path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (FileNotFoundError, ValueError):  # the latter if it is empty
            return memoryview(b"")

    def reserve(self, size: int) -> None:
        """Takes room for `size` bytes before anything changes; raises OSError where there is none."""
        fd = self._open_draft()
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError:
            self._draft.unlink()
            raise
        finally:
            os.close(fd)

    def _open_draft(self) -> int:
        return os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def save(self, pieces: Iterable[bytes]) -> Iterator[None]:
        """A job that stores the pieces; the file counts when it ends."""
        with os.fdopen(self._open_draft(), "wb") as draft:
            for piece in pieces:
                draft.write(piece)
                yield
            draft.truncate()
        self._draft.replace(self._path)
