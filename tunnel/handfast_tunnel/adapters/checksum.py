"""The Internet checksum (RFC 1071), fast for Python.

Words are summed as one little-endian number modulo 0xffff: 2**16 is 1 there, the order of the bytes does
not matter for a one's complement sum (section 2), and an odd last byte needs no padding this way.
"""

from __future__ import annotations

from typing import Final

Buffer = bytes | bytearray | memoryview

_FOLD_BITS: Final = 5760
_FOLD_MASK: Final = (1 << _FOLD_BITS) - 1


def word_sum(data: Buffer) -> int:
    """The sum of the 16-bit words of `data`, as little-endian numbers, modulo 0xffff."""
    number = int.from_bytes(data, "little")
    if number > _FOLD_MASK:  # half of a full-size packet: the division takes twice as long as this addition
        number = (number >> _FOLD_BITS) + (number & _FOLD_MASK)
    return number % 0xFFFF


def swapped(value: int) -> int:
    """A number of 16 bits in network order as `word_sum` would have seen it."""
    return (value & 0xFF) << 8 | value >> 8


def complement(total: int) -> int:
    """The checksum, as a little-endian word, that brings `total` to zero."""
    return -total % 0xFFFF
