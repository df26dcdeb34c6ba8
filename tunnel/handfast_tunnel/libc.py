"""The calls of the C library that Python's standard library lacks: prctl, inotify, mlock."""

from __future__ import annotations

import ctypes
import os
import signal
from mmap import mmap
from pathlib import Path
from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
IN_ATTRIB: Final = 0x4
IN_DELETE_SELF: Final = 0x400
IN_MOVE_SELF: Final = 0x800

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """No core dumps and no ptrace by others of the same user (prctl(2), PR_SET_DUMPABLE)."""
    _check(_libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0))


def die_with_parent() -> None:
    """SIGKILL when the parent ends (prctl(2), PR_SET_PDEATHSIG)."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0))


def lock_memory(mapping: mmap) -> None:
    """Keeps a writable mapping out of swap (mlock(2))."""
    first = ctypes.c_char.from_buffer(mapping)
    _check(_libc.mlock(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(len(mapping))))


def watch_file(path: Path) -> int:
    """A non-blocking descriptor that becomes readable when `path` may have been unlinked or moved away."""
    fd = _check(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    try:
        _check(_libc.inotify_add_watch(fd, os.fsencode(path), IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF))
    except OSError:
        os.close(fd)
        raise
    return fd


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
