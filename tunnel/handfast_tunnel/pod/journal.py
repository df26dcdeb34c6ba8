"""Accepted differences, beside the last whole copy of the configuration: one change costs the same for 10,000
peers as for ten.

    {"kind":"changes","version":1,"uid":...,"generation":...}   which whole copy they begin at
    + digest {"generation":...,"baseGeneration":...,...}        each applies to what came before
    - digest {...}                                              the last one only: not in force yet

An entry is written whole as `-`, and one byte makes it count: a crash leaves all of it or nothing. Anything
else that does not fit is damage, and then nothing is believed: a peer that was revoked must not come back
because the change that revoked it cannot be read.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from ..control.configuration import GENERATION_LIMIT, Configuration, Patch
from ..control.errors import DocumentError
from ..control.fields import Fields, line, parse_json
from ..core.hashes import blake2s

KIND: Final = "changes"
SIZE_LIMIT: Final = 256 * 1024
"""Bytes; some thousand changes of a peer, which take 20 ms to read. Then a whole copy is due."""
_COUNTS: Final = b"+ "
_DRAFTED: Final = b"- "
_DIGEST: Final = 32
"""Characters."""


class Journal:
    """The file at `path`, 0600. It counts from when it is told of a whole copy, read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._uid = ""
        self._base = self._at = -1
        """Generations of the whole copy, and of what it and the changes make; -1 before there is any."""
        self._end = 0
        """Where the next entry begins; at 0 the file is begun anew."""

    def begin(self, whole: Configuration) -> None:
        """A whole copy was written: what the file says of a former one is void, as its head says, too."""
        self._path.unlink(missing_ok=True)
        self._stand(whole, whole.generation, 0)

    def _stand(self, whole: Configuration, generation: int, end: int) -> None:
        self._uid, self._base, self._at, self._end = whole.tunnel.uid, whole.generation, generation, end

    def read(self, whole: Configuration) -> Configuration:
        """What was made of a whole copy since; raises OSError or DocumentError, and counts from none then."""
        self._at = -1
        data = self._path.read_bytes() if self._path.exists() else b""
        head, newline, _ = data.partition(b"\n")
        if not newline or not _is_of(head, whole):
            self._stand(whole, whole.generation, 0)
            return whole
        newest, end = whole, len(head) + 1
        for entry in data[end:].split(b"\n"):
            if not entry.startswith(_COUNTS):
                break
            newest = newest.patched(_patch(entry, newest.generation))
            end += len(entry) + 1
        rest = data[end:]
        if rest and (not rest.startswith(_DRAFTED[:1]) or b"\n+" in rest):
            raise DocumentError(KIND, f"the one after generation {newest.generation} is none")
        self._stand(whole, newest.generation, end)
        return newest

    def newest(self, outline: Configuration) -> int:
        """The generation that is made of a whole copy; none of the changes is looked at but the last."""
        data = self._path.read_bytes() if self._path.exists() else b""
        head, newline, changes = data.partition(b"\n")
        if not newline or not _is_of(head, outline):
            return outline.generation
        counting = [entry for entry in changes.split(b"\n") if entry.startswith(_COUNTS)]
        return _patch_of(counting[-1]).generation if counting else outline.generation

    def draft(self, uid: str, patch: Patch) -> Entry | None:
        """Writes the next entry, which does not count yet; None where a whole copy is due. Raises OSError
        where there is no room."""
        if (uid, patch.base_generation) != (self._uid, self._at) or self._at < 0:
            return None
        text = line(patch.to_json()).encode().rstrip(b"\n")
        content = b"".join((_DRAFTED, _digest(text), b" ", text, b"\n"))
        head = b"" if self._end else _head(self._uid, self._base)
        end = self._end + len(head) + len(content)
        if end > SIZE_LIMIT:
            return None
        fd = self._open()
        try:
            os.ftruncate(fd, self._end)
            _write(fd, head + content, self._end)
        finally:
            os.close(fd)
        return Entry(self, end - len(content), end, patch.generation)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def publish(self, entry: Entry) -> None:
        fd = self._open()
        try:
            _write(fd, _COUNTS[:1], entry.start)
        finally:
            os.close(fd)
        self._at, self._end = entry.generation, entry.end

    def discard(self, entry: Entry) -> None:
        fd = self._open()
        try:
            os.ftruncate(fd, entry.start)
        finally:
            os.close(fd)


class Entry:
    """A change that is written and not yet in force."""

    def __init__(self, journal: Journal, start: int, end: int, generation: int) -> None:
        self._journal = journal
        self.start, self.end = start, end
        self.generation = generation

    def publish(self) -> None:
        self._journal.publish(self)

    def discard(self) -> None:
        self._journal.discard(self)


def _head(uid: str, generation: int) -> bytes:
    return line({"kind": KIND, "version": 1, "uid": uid, "generation": generation}).encode()


def _is_of(head: bytes, whole: Configuration) -> bool:
    """Whether changes with this head begin at that copy."""
    fields = Fields(parse_json(head, KIND), f"head of the {KIND}")
    if fields.take("kind") != KIND or fields.take("version") != 1:
        raise fields.wrong("version", "it is not 1, the one this release reads")
    of = fields.text("uid"), fields.number("generation", 0, GENERATION_LIMIT)
    fields.end()
    return of == (whole.tunnel.uid, whole.generation)


def _patch_of(entry: bytes) -> Patch:
    digest, _, text = entry.removeprefix(_COUNTS).partition(b" ")
    if digest != _digest(text):
        raise DocumentError(KIND, "one of them is damaged")
    return Patch.parse(text)


def _patch(entry: bytes, generation: int) -> Patch:
    patch = _patch_of(entry)
    if patch.base_generation != generation:
        raise DocumentError(KIND, f"the one after generation {generation} is missing")
    return patch


def _write(fd: int, content: bytes, offset: int) -> None:
    if os.pwrite(fd, content, offset) < len(content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _digest(text: bytes) -> bytes:
    return blake2s(text, digest_size=_DIGEST // 2).hexdigest().encode()
