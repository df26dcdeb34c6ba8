"""The last accepted configuration, beside the state memory, for the next worker of the same keeper.

It is the text of a `set` on the configuration socket, so that one parser reads both.
"""

from __future__ import annotations

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

    def load(self) -> bytes:
        """The text of a `set`, without its last, empty line; nothing if nothing was ever accepted."""
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return b""

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

    def save(self, pieces: Iterable[str]) -> Iterator[None]:
        """A job that stores the pieces; the file counts when it ends."""
        with os.fdopen(self._open_draft(), "w") as draft:
            for piece in pieces:
                draft.write(piece)
                yield
            draft.truncate()
        self._draft.replace(self._path)
