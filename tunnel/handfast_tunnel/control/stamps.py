"""Time stamps of initiations as documents carry them: TAI64N in base64; in code nanoseconds since 1970."""

from __future__ import annotations

from base64 import b64decode, b64encode

from ..core.tai64n import pack_stamp, unpack_stamp


def to_text(stamp: int) -> str:
    return b64encode(pack_stamp(stamp)).decode()


def from_text(text: str) -> int:
    return unpack_stamp(b64decode(text))
