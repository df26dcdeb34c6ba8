"""Reading JSON objects strictly: every field is named, checked and taken once; any other is refused."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from base64 import b64encode
from binascii import a2b_base64
from collections.abc import Callable, Iterable, Mapping
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any, Final, TypeVar

from ..adapters.text import parse_number
from .errors import DocumentError

T = TypeVar("T")

SIZE_LIMIT: Final = 32 * 1024 * 1024
"""Of an unpacked document: 100,000 peers. It bounds what a small packed one can become."""
TEXT_LIMIT: Final = 253
GZIP_MAGIC: Final = b"\x1f\x8b"
_GZIP_LEVEL: Final = 1
"""10,000 peers take 25 ms; level 9 takes 0.4 s and saves a tenth."""
KEY_LENGTH: Final = 32
_STAMP_LENGTH: Final = 12
_MISSING: Final = object()


class Fields:
    """One object. `where` names it in what is said of its mistakes."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise DocumentError(where, "it is not a JSON object")
        self._rest: dict[str, Any] = dict(value)
        self.where = where

    def wrong(self, name: str, why: str) -> DocumentError:
        return DocumentError(f"{name} of {self.where}" if name else self.where, why)

    def take(self, name: str, default: object = _MISSING) -> Any:
        value = self._rest.pop(name, _MISSING)
        if value is not _MISSING:
            return value
        if default is _MISSING:
            raise self.wrong(name, "it is missing")
        return default

    def end(self) -> None:
        if self._rest:
            names = ", ".join(sorted(map(repr, self._rest))[:5])
            raise self.wrong("", f"there is no field {names}")

    def nested(self, name: str) -> Fields:
        return Fields(self.take(name, {}), f"{name} of {self.where}")

    def number(self, name: str, low: int, high: int, default: object = _MISSING) -> int:
        value = self.take(name, default)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(name, f"it is not a whole number from {low} to {high}")
        return value

    def seconds(self, name: str) -> float | None:
        """Unix time, or null."""
        value = self.take(name, None)
        if value is not None and (type(value) not in {int, float} or not 0 <= value < 2**40):
            raise self.wrong(name, "it is not a time in seconds")
        return None if value is None else float(value)

    def flag(self, name: str, default: object = _MISSING) -> bool:
        value = self.take(name, default)
        if type(value) is not bool:
            raise self.wrong(name, "it is neither true nor false")
        return value

    def text(self, name: str, default: object = _MISSING) -> str:
        value = self.take(name, default)
        if type(value) is not str or len(value) > TEXT_LIMIT or not value.isprintable():
            raise self.wrong(name, f"it is not a text of at most {TEXT_LIMIT} printable characters")
        return value

    def choice(self, name: str, choices: Iterable[T], default: object = _MISSING) -> T:
        value = self.take(name, default)
        for choice in choices:
            if type(value) is type(choice) and value == choice:
                return choice
        raise self.wrong(name, f"it is none of {', '.join(map(str, choices))}")

    def key(self, name: str) -> str:
        """Base64 of 32 bytes, as `wg` writes it."""
        value = self.take(name)
        _packed(value, KEY_LENGTH, lambda why: self.wrong(name, why))
        return str(value)

    def key_or_none(self, name: str) -> str | None:
        return None if self._rest.get(name) is None and self.take(name, None) is None else self.key(name)

    def stamp(self, name: str) -> str | None:
        """Base64 of a TAI64N stamp, or null."""
        value = self.take(name, None)
        if value is not None:
            _packed(value, _STAMP_LENGTH, lambda why: self.wrong(name, why))
        return None if value is None else str(value)

    def texts(self, name: str, check: Callable[[str], None]) -> tuple[str, ...]:
        value = self.take(name, [])
        if not isinstance(value, list) or not all(type(each) is str for each in value):
            raise self.wrong(name, "it is not a list of texts")
        for each in value:
            try:
                check(each)
            except ValueError as reason:
                raise self.wrong(name, str(reason)) from None
        return tuple(value)


def _packed(value: object, length: int, wrong: Callable[[str], DocumentError]) -> bytes:
    try:
        data = a2b_base64(value, strict_mode=True) if isinstance(value, str) else b""
    except ValueError:
        data = b""
    if len(data) != length or b64encode(data).decode() != value:
        raise wrong(f"it is not {length} bytes in base64")
    return data


def check_network(text: str) -> None:
    """`10.8.0.0/24`: a network, host bits zero. (ipaddress would take 10 us each.)"""
    bits, number, length = _split(text)
    if number & ((1 << bits - length) - 1):
        raise ValueError(f"{text!r} is not a network: it has bits behind its /{length}")


def check_address(text: str) -> None:
    """`10.8.0.1/24`: an address and its network's length."""
    _split(text)


def _split(text: str) -> tuple[int, int, int]:
    """Bits of the family, the address as a number, the length."""
    address, _, length_text = text.partition("/")
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    try:
        number = int.from_bytes(inet_pton(family, address), "big")
        length = parse_number(length_text, bits)
    except (OSError, ValueError):
        example = "2001:db8::/32" if bits == 128 else "10.8.0.0/24"
        raise ValueError(f"{text!r} is not an address and a length such as {example}") from None
    return bits, number, length


def unpack(data: bytes) -> bytes:
    """A document as text, whether it came packed or not."""
    if not data.startswith(GZIP_MAGIC):
        if len(data) > SIZE_LIMIT:
            raise DocumentError("", f"it is longer than {SIZE_LIMIT} bytes")
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            text = stream.read(SIZE_LIMIT + 1)
    except (OSError, EOFError, zlib.error):
        raise DocumentError("", "it is damaged: gzip cannot unpack it") from None
    if len(text) > SIZE_LIMIT:
        raise DocumentError("", f"unpacked it is longer than {SIZE_LIMIT} bytes")
    return text


def first_line(data: bytes) -> bytes:
    """Of a document, packed or not, without a look at the rest; raises DocumentError."""
    if not data.startswith(GZIP_MAGIC):
        return data.partition(b"\n")[0]
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            return stream.readline(SIZE_LIMIT)
    except (OSError, EOFError, zlib.error):
        raise DocumentError("", "it is damaged: gzip cannot unpack it") from None


def pack(lines: Iterable[str]) -> bytes:
    """The same lines become the same bytes: no time stamp."""
    return gzip.compress("".join(lines).encode(), _GZIP_LEVEL, mtime=0)


def parse_json(text: bytes | str, where: str) -> object:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise DocumentError(where, "it is not JSON") from None


def _no_constant(name: str) -> None:
    raise ValueError(name)


def read_lines(data: bytes, kind: str) -> tuple[Fields, list[tuple[int, bytes]]]:
    """The head of a JSON Lines document and its further lines, numbered; empty ones do not count."""
    lines = [(number, line) for number, line in enumerate(unpack(data).split(b"\n"), 1) if line.strip()]
    if not lines:
        raise DocumentError(kind, "it is empty")
    return read_head(lines[0][1], kind), lines[1:]


def read_head(first: bytes, kind: str) -> Fields:
    """The first line of a JSON Lines document."""
    head = Fields(parse_json(first, f"line 1 of the {kind}"), f"line 1 of the {kind}")
    if head.take("kind", None) != kind:
        raise head.wrong("kind", f"it is not {kind!r}")
    if head.take("version", None) != 1:
        raise head.wrong("version", "it is not 1, the one this release reads")
    return head


def line(fields: Mapping[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":")) + "\n"
