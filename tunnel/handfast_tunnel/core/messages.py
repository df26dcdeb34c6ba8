"""The four messages on the wire (paper, section 5.4): layouts, and `pack_`/`unpack_` pairs.

The type is one byte followed by three reserved zero bytes: together a little-endian 32-bit number, and
a message whose reserved bytes are not zero is not a WireGuard message.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from .tai64n import STAMP_LENGTH

TYPE_INITIATION: Final = 1
TYPE_RESPONSE: Final = 2
TYPE_COOKIE_REPLY: Final = 3
TYPE_TRANSPORT: Final = 4

TAG_LENGTH: Final = 16
MAC_LENGTH: Final = 16
COOKIE_NONCE_LENGTH: Final = 24

_INITIATION = struct.Struct(f"<II32s{32 + TAG_LENGTH}s{STAMP_LENGTH + TAG_LENGTH}s")
_RESPONSE = struct.Struct(f"<III32s{TAG_LENGTH}s")
_COOKIE_REPLY = struct.Struct(f"<II{COOKIE_NONCE_LENGTH}s{MAC_LENGTH + TAG_LENGTH}s")
_TRANSPORT_HEADER = struct.Struct("<IIQ")

TRANSPORT_COUNTER: Final = struct.Struct("<Q")
"""At offset 8 of a transport message."""

INITIATION_LENGTH: Final = _INITIATION.size + 2 * MAC_LENGTH
RESPONSE_LENGTH: Final = _RESPONSE.size + 2 * MAC_LENGTH
COOKIE_REPLY_LENGTH: Final = _COOKIE_REPLY.size
TRANSPORT_HEADER_LENGTH: Final = _TRANSPORT_HEADER.size
TRANSPORT_MIN_LENGTH: Final = TRANSPORT_HEADER_LENGTH + TAG_LENGTH
"""A keepalive: a transport message around nothing."""

_LENGTHS: Final = {
    TYPE_INITIATION: INITIATION_LENGTH,
    TYPE_RESPONSE: RESPONSE_LENGTH,
    TYPE_COOKIE_REPLY: COOKIE_REPLY_LENGTH,
}


class Initiation(NamedTuple):
    sender: int
    ephemeral: bytes
    static: bytes
    timestamp: bytes


class Response(NamedTuple):
    sender: int
    receiver: int
    ephemeral: bytes
    empty: bytes


class CookieReply(NamedTuple):
    receiver: int
    nonce: bytes
    cookie: bytes


def message_type(datagram: bytes) -> int | None:
    """The type of a datagram that has the right length for it, else None."""
    kind = int.from_bytes(datagram[:4], "little") if len(datagram) >= 4 else 0
    if kind == TYPE_TRANSPORT:
        return kind if len(datagram) >= TRANSPORT_MIN_LENGTH else None
    return kind if _LENGTHS.get(kind) == len(datagram) else None


def receiver_index(datagram: bytes) -> int:
    """The receiver of a response, cookie reply (offsets differ) or transport message."""
    offset = 8 if datagram[0] == TYPE_RESPONSE else 4
    return int.from_bytes(datagram[offset : offset + 4], "little")


def sender_index(datagram: bytes) -> int:
    return int.from_bytes(datagram[4:8], "little")


def pack_initiation(message: Initiation) -> bytes:
    """Without its two MACs."""
    return _INITIATION.pack(TYPE_INITIATION, *message)


def unpack_initiation(datagram: bytes) -> Initiation:
    return Initiation(*_INITIATION.unpack_from(datagram)[1:])


def pack_response(message: Response) -> bytes:
    """Without its two MACs."""
    return _RESPONSE.pack(TYPE_RESPONSE, *message)


def unpack_response(datagram: bytes) -> Response:
    return Response(*_RESPONSE.unpack_from(datagram)[1:])


def pack_cookie_reply(message: CookieReply) -> bytes:
    return _COOKIE_REPLY.pack(TYPE_COOKIE_REPLY, *message)


def unpack_cookie_reply(datagram: bytes) -> CookieReply:
    return CookieReply(*_COOKIE_REPLY.unpack(datagram)[1:])
