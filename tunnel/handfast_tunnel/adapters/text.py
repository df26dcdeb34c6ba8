"""How keys, prefixes and endpoints are written for people and other programs.

The parsers raise ValueError with the reason as its text; no parser repeats a key, which may be secret.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64, unhexlify
from functools import lru_cache
from socket import AF_INET, AF_INET6, if_nametoindex, inet_ntop, inet_pton
from typing import Final

from ..core.configuration import Prefix
from ..core.constants import KEY_LENGTH
from ..core.endpoint import Endpoint

_V4_MAPPED: Final = bytes(10) + b"\xff\xff"
_KEY_BASE64_LENGTH: Final = 44


def parse_number(text: str, limit: int) -> int:
    """Decimal digits only: int() alone would take signs, blanks and underscores."""
    if text.isascii() and text.isdigit() and len(text) <= len(str(limit)) and int(text) <= limit:
        return int(text)
    msg = f"{text!r} is not a number from 0 to {limit}"
    raise ValueError(msg)


def parse_hex_key(text: str) -> bytes:
    if len(text) == 2 * KEY_LENGTH:
        try:
            return unhexlify(text)
        except ValueError:
            pass
    msg = f"not {2 * KEY_LENGTH} hexadecimal digits"
    raise ValueError(msg)


def parse_base64_key(text: str) -> bytes:
    if len(text) == _KEY_BASE64_LENGTH:
        try:
            key = a2b_base64(text, strict_mode=True)
        except ValueError:
            key = b""
        if len(key) == KEY_LENGTH:
            return key
    msg = f"not a key of {_KEY_BASE64_LENGTH} base64 characters"
    raise ValueError(msg)


def format_key(key: bytes) -> str:
    return b2a_base64(key, newline=False).decode()


def parse_prefix(text: str) -> Prefix:
    """`192.0.2.0/24` or `2001:db8::/32`; host bits are cleared."""
    address, slash, length_text = text.partition("/")
    family = AF_INET6 if ":" in address else AF_INET
    bits = 128 if family == AF_INET6 else 32
    try:
        packed = inet_pton(family, address)
        length = parse_number(length_text, bits)
    except (OSError, ValueError):
        slash = ""
    if not slash:
        msg = f"{text!r} is not a network such as 192.0.2.0/24 or 2001:db8::/32"
        raise ValueError(msg)
    if length == bits:
        return Prefix(packed, length)
    shift = bits - length
    network = int.from_bytes(packed, "big") >> shift << shift
    return Prefix(network.to_bytes(len(packed), "big"), length)


@lru_cache(maxsize=65536)
def format_prefix(prefix: Prefix) -> str:
    family = AF_INET6 if len(prefix.network) > 4 else AF_INET
    return f"{inet_ntop(family, prefix.network)}/{prefix.length}"


def parse_endpoint(text: str) -> Endpoint:
    """`192.0.2.1:51820` or `[2001:db8::1]:51820`, with a zone where needed: `[fe80::1%eth0]:51820`."""
    bracketed = text.startswith("[")
    host, colon, port = text[1:].rpartition("]:") if bracketed else text.rpartition(":")
    try:
        if not colon:
            raise ValueError(text)
        number = parse_number(port, 65535)
        if not bracketed:
            return Endpoint(inet_ntop(AF_INET, inet_pton(AF_INET, host)), number)
        host, percent, zone = host.partition("%")
        packed = inet_pton(AF_INET6, host)
    except (OSError, ValueError):
        msg = f"{text!r} is not an address and port such as 192.0.2.1:51820 or [2001:db8::1]:51820"
        raise ValueError(msg) from None
    if packed.startswith(_V4_MAPPED):
        return Endpoint(inet_ntop(AF_INET, packed[len(_V4_MAPPED) :]), number)
    return Endpoint(inet_ntop(AF_INET6, packed), number, _interface_index(zone) if percent else 0)


def _interface_index(zone: str) -> int:
    if zone.isascii() and zone.isdigit():
        return parse_number(zone, 2**31 - 1)
    try:
        return if_nametoindex(zone)
    except OSError:
        msg = f"there is no interface {zone!r} for the endpoint's zone"
        raise ValueError(msg) from None
