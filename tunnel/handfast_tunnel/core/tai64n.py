"""TAI64N stamps: what lets a responder refuse a replayed initiation (paper, section 5.1).

A stamp is held as an int, nanoseconds since the Unix epoch, and goes over the wire as 12 bytes whose
lexical order is their order in time.
"""

from __future__ import annotations

from typing import Final

STAMP_LENGTH: Final = 12
WHITENING: Final = 1 << 24
"""Stamps move in steps of 16.8 ms, so that they do not tell when exactly a packet was made."""

_TAI_EPOCH: Final = (1 << 62) + 10
_NANOSECONDS: Final = 1_000_000_000


def next_stamp(wall: float, last: int) -> int:
    """The stamp of an initiation made at `wall` (Unix seconds) after one stamped `last`.

    Strictly rising even if the clock stands still or runs back: a responder refuses an equal or lower
    one (RECOVERY, section 3).
    """
    seconds, nanoseconds = divmod(int(wall * _NANOSECONDS), _NANOSECONDS)
    whitened = seconds * _NANOSECONDS + nanoseconds // WHITENING * WHITENING
    return max(whitened, last + WHITENING)


def unpack_stamp(stamp: bytes) -> int:
    """Of 12 bytes; what lies before the Unix epoch is 0."""
    seconds = int.from_bytes(stamp[:8], "big") - _TAI_EPOCH
    return max(0, seconds) * _NANOSECONDS + int.from_bytes(stamp[8:], "big")


def pack_stamp(stamp: int) -> bytes:
    seconds, nanoseconds = divmod(stamp, _NANOSECONDS)
    return (_TAI_EPOCH + seconds).to_bytes(8, "big") + nanoseconds.to_bytes(4, "big")
