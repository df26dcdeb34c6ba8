"""TAI64N, the form of WireGuard's time stamps, in base64 as the control API carries them."""

from __future__ import annotations

import base64
import struct
from typing import Final

_FORM: Final = struct.Struct(">QI")
_EPOCH: Final = 0x400000000000000A
"""1970 in TAI64, with the ten leap seconds that were due then, as all implementations of WireGuard count."""


def encode(seconds: float) -> str:
    whole, fraction = divmod(seconds, 1)
    return base64.b64encode(_FORM.pack(_EPOCH + int(whole), int(fraction * 1e9))).decode()


def seconds(stamp: str) -> float:
    whole: int
    nanoseconds: int
    whole, nanoseconds = _FORM.unpack(base64.b64decode(stamp))
    return whole - _EPOCH + nanoseconds / 1e9
