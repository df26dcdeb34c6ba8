"""The file behind a state memory: mapped, locked, in memory only, and refused where anything is odd.

A file is never guessed at: of another boot, version, interface or owner, too short or with a damaged
header, it is begun anew, with a sentence that says why (RECOVERY, section 2).
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ..errors import HandfastError
from ..libc import lock_memory
from .layout import (
    HEADER_WORDS,
    MAGIC,
    PEER_WORDS,
    QUEUE_DROPS,
    VERSION,
    WORD,
    Header,
    Words,
    checksum,
    read,
    to_bytes,
    to_words,
    write,
)
from .state_memory import StateMemory

log = logging.getLogger(__name__)

PEERS_PER_EXTENT: Final = 1024
LOCK_PATIENCE: Final = 2.0
"""Seconds to wait for the former owner to be gone."""
MEMORY_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

_HEADER_BYTES: Final = HEADER_WORDS * WORD
_CONSTANT_WORDS: Final = Header.CHECKSUM


class StateRefusedError(HandfastError):
    """The directory or file cannot hold state."""


class StateHeldError(StateRefusedError):
    """Another process owns the file."""


def boot_id() -> bytes:
    return bytes.fromhex(BOOT_ID.read_text().strip().replace("-", ""))


def file_system(path: Path) -> str:
    """The type of the file system that `path` lies on, such as "tmpfs"."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] == number:
            return fields[fields.index("-") + 1]
    return "unknown"


def prepare_directory(directory: Path, *, any_file_system: bool) -> None:
    """Raises StateRefusedError where keys would not be safe in it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = directory.stat()
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise StateRefusedError(f"{directory} is open to others: it must be yours alone, mode 0700")
    if not any_file_system and (kind := file_system(directory)) not in MEMORY_FILE_SYSTEMS:
        raise StateRefusedError(
            f"{directory} lies on {kind}, not in memory: session keys belong on a tmpfs; "
            "name another directory with --state, or allow this one with --state-on-disk"
        )


def _constant_part(interface: str, peers: int) -> list[int]:
    name = to_words(interface.encode().ljust(16, b"\0"))
    return [MAGIC, VERSION, *to_words(boot_id()), *name, peers]


def why_refused(header: Words, size: int, interface: str) -> str | None:
    """Why a file with this header cannot be resumed from; None if it can."""
    constant = read(header, 0, _CONSTANT_WORDS)
    expected = _constant_part(interface, constant[Header.PEERS])
    extent = constant[Header.PEERS] * PEER_WORDS * WORD
    boot = slice(Header.BOOT_ID, Header.INTERFACE)
    reasons = [
        (constant[Header.MAGIC] != MAGIC, "it is no state memory"),
        (constant[Header.VERSION] != VERSION, f"its layout is not version {VERSION}"),
        (header[Header.CHECKSUM] != checksum(to_bytes(constant)), "its header is damaged"),
        (constant[boot] != expected[boot], "it was written before the machine was booted"),
        (constant != expected, "it belongs to another interface"),
        (
            not extent or size <= _HEADER_BYTES or (size - _HEADER_BYTES) % extent > 0,
            "its length does not fit",
        ),
    ]
    return next((reason for wrong, reason in reasons if wrong), None)


def refused_for_access(status: os.stat_result) -> str | None:
    """Why a file with this status could have been written or read by others."""
    alone = status.st_uid == os.geteuid() and not stat.S_IMODE(status.st_mode) & 0o077
    if not stat.S_ISREG(status.st_mode) or not alone:
        return "it is open to others: it must be a file of yours alone, mode 0600"
    return None


class StateFile:
    """An open, locked and mapped state memory; `memory` is what the core stores into."""

    def __init__(self, path: Path, interface: str, fd: int | None = None) -> None:
        """Opens or begins the file at `path`, or what `fd` is of. Raises StateRefusedError; OSError where
        there is no room."""
        self._path = path
        self._fd = _open_locked(path) if fd is None else fd
        try:
            self._mappings: list[mmap.mmap] = []
            self._told_of_swap = False
            self.refused = self._begin_unless_good(interface)
            header = self._map(0, _HEADER_BYTES)
            self._extent_bytes = header[Header.PEERS] * PEER_WORDS * WORD
            header[Header.INCARNATION] += 1
            self.header = header
            count = (os.fstat(self._fd).st_size - _HEADER_BYTES) // self._extent_bytes
            extents = [self._map_extent(number) for number in range(count)]
            self.memory = StateMemory(header, extents, self._grow)
        except BaseException:
            os.close(self._fd)
            raise

    def _begin_unless_good(self, interface: str) -> str | None:
        size = os.fstat(self._fd).st_size
        reason = "it is new" if size == 0 else "it is too short" if size < _HEADER_BYTES else None
        if reason is None:
            with mmap.mmap(self._fd, _HEADER_BYTES) as mapping, memoryview(mapping).cast("Q") as header:
                reason = why_refused(header, size, interface)
        if reason is None:
            return None
        if size:
            log.warning("%s is not resumed from: %s", self._path, reason)
        os.ftruncate(self._fd, 0)
        os.posix_fallocate(self._fd, 0, _HEADER_BYTES + PEERS_PER_EXTENT * PEER_WORDS * WORD)
        constant = _constant_part(interface, PEERS_PER_EXTENT)
        with mmap.mmap(self._fd, _HEADER_BYTES) as mapping, memoryview(mapping).cast("Q") as header:
            write(header, 0, constant)
            header[Header.CHECKSUM] = checksum(to_bytes(constant))
        return reason if size else None

    def _map(self, start: int, size: int) -> memoryview:
        mapping = mmap.mmap(self._fd, size, offset=start)
        mapping.madvise(mmap.MADV_DONTDUMP)
        self._mappings.append(mapping)
        return memoryview(mapping).cast("Q")

    def lock_into_memory(self) -> Iterator[None]:
        """A job: keeps out of swap what was mapped at the start. It brings in every page, which packets that
        wait for a successor need not wait for."""
        for mapping in self._mappings[:]:
            self._lock(mapping)
            yield

    def _lock(self, mapping: mmap.mmap) -> None:
        try:
            lock_memory(mapping)
        except OSError as error:
            if not self._told_of_swap:
                remedy = "raise RLIMIT_MEMLOCK, or grant the capability IPC_LOCK"
                log.warning("session keys may be swapped to a disk: mlock: %s; %s", error.strerror, remedy)
            self._told_of_swap = True

    def _map_extent(self, number: int) -> memoryview:
        return self._map(_HEADER_BYTES + number * self._extent_bytes, self._extent_bytes)

    def _grow(self) -> memoryview:
        size = os.fstat(self._fd).st_size
        os.posix_fallocate(self._fd, size, self._extent_bytes)
        extent = self._map_extent((size - _HEADER_BYTES) // self._extent_bytes)
        self._lock(self._mappings[-1])
        return extent

    @property
    def queue_drops(self) -> memoryview:
        """What the workers of one keeper have counted of the kernel's drops, for `Drops`."""
        return self.header[Header.QUEUE_DROPS : Header.QUEUE_DROPS + QUEUE_DROPS]

    @property
    def incarnation(self) -> int:
        """How many owners this memory has had, this one included."""
        return self.header[Header.INCARNATION]


def _open_locked(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StateRefusedError(f"cannot open {path}: {error.strerror}") from error
    try:
        status = os.fstat(fd)
        if reason := refused_for_access(status):
            raise StateRefusedError(f"{path}: {reason}")
        _lock(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def wait_until_free(path: Path) -> bool:
    """Until nobody owns the file at `path` any more; False where there is none. The kernel tells sooner that
    way of an owner's death than by any other."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)
    return True


def _lock(fd: int, path: Path) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StateHeldError(
                    f"{path} is held by another process, which may still be sending"
                ) from None
            time.sleep(0.002)
        else:
            return
