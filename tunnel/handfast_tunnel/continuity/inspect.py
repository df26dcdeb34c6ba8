"""What a state memory holds, for a person to read: everything but the keys.

It is read where it lies, while its owner goes on writing: numbers may be a packet apart.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import time
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from ..core.constants import REJECT_AFTER_TIME
from .layout import HEADER_WORDS, PEER_WORDS, WORD, Header, KeypairSlot, Words
from .slots import SlotMarks, SlotNumbers, stored_public_key
from .state_file import refused_for_access, why_refused
from .storage import Position

_HEADER_BYTES: Final = HEADER_WORDS * WORD


def inspect(path: Path, interface: str) -> dict[str, Any]:
    """Plain values. `refused` says why no process would resume from the file; raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        found: dict[str, Any] = {"interface": interface, "path": str(path), "bytes": status.st_size}
        if not stat.S_ISREG(status.st_mode):
            return found | {"refused": "it is no file"}
        if status.st_size < _HEADER_BYTES:
            return found | {"refused": "it is too short"}
        found["held"] = _held(fd)
        with (
            mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapping,
            memoryview(mapping) as view,
            view[: status.st_size // WORD * WORD].cast("Q") as words,
        ):
            reason = refused_for_access(status) or why_refused(words, status.st_size, interface)
            return found | {"refused": reason} | ({} if reason else _contents(words))
    finally:
        os.close(fd)


def _held(fd: int) -> bool:
    """Whether a process owns it: a shared lock is not to be had."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _contents(words: Words) -> dict[str, Any]:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    committed = words[Header.COMMITTED_TERM]
    return {
        "refused": f"another took over at term {committed}" if committed else None,
        "version": words[Header.VERSION],
        "incarnation": words[Header.INCARNATION],
        "listen_port": words[Header.LISTEN_PORT],
        "drained": bool(words[Header.DRAINED]),
        "committed_term": committed,
        "peers": [_peer(words, base, now) for base in _valid_slots(words)],
    }


def _valid_slots(words: Words) -> Iterator[int]:
    length = len(words) if isinstance(words, memoryview) else 0
    for base in range(HEADER_WORDS, length, PEER_WORDS):
        if stored_public_key(words, base) is not None:
            yield base


def _peer(words: Words, base: int, now: float) -> dict[str, Any]:
    public_key = stored_public_key(words, base)
    assert public_key is not None
    marks = SlotMarks(words, base, public_key, lambda _: None)
    sessions = [numbers for numbers in marks.keypair_slots() if numbers.position != Position.FREE]
    return {
        "public_key": b64encode(public_key).decode(),
        "endpoint": str(marks.endpoint) if marks.endpoint else None,
        "sent_age": now - marks.last_sent if marks.last_sent else None,
        "received_age": now - marks.last_received if marks.last_received else None,
        "outbound_stamp": marks.outbound_stamp / 1e9 or None,
        "answered_stamp": marks.answered_stamp / 1e9 or None,
        "inbound_stamp": marks.inbound_stamp.hex() or None,
        "inbound_exact": marks.inbound_exact,
        "sessions": [_session(numbers, now) for numbers in sessions],
    }


def _session(numbers: SlotNumbers, now: float) -> dict[str, Any]:
    indices = numbers.word(KeypairSlot.INDICES)
    age = now - numbers.word(KeypairSlot.BORN) / 1e9
    return {
        "position": _name(numbers.position),
        "local_index": indices & 0xFFFFFFFF,
        "remote_index": indices >> 32,
        "initiator": bool(numbers.word(KeypairSlot.ROLE) & 1),
        "age": age,
        "expired": age >= REJECT_AFTER_TIME,
        "send_ceiling": numbers.ceiling,
        "highest_received": numbers.highest_received,
        "heard": numbers.heard,
    }


def _name(position: int) -> str:
    return Position(position).name.lower() if position in set(Position) else "damaged"
