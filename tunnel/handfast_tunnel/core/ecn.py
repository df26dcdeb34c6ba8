"""Explicit congestion notification between inner and outer headers (RFC 6040, as the kernel does it)."""

from __future__ import annotations

CE = 3
ECN_MASK = 3


def inner_ecn(packet: bytes) -> int:
    """The ECN bits of an IP packet."""
    if packet[0] >> 4 == 4:
        return packet[1] & ECN_MASK
    return packet[1] >> 4 & ECN_MASK


def mark_congestion(packet: bytes) -> bytes:
    """The packet with CE set, if its transport understands ECN; else as it is."""
    if inner_ecn(packet) in (0, CE):
        return packet
    marked = bytearray(packet)
    if packet[0] >> 4 == 6:
        marked[1] |= CE << 4
        return bytes(marked)
    marked[1] |= CE
    # RFC 1624: HC' = ~(~HC + ~m + m')
    checksum = int.from_bytes(packet[10:12], "big") ^ 0xFFFF
    checksum += (int.from_bytes(packet[:2], "big") ^ 0xFFFF) + int.from_bytes(marked[:2], "big")
    while checksum >> 16:
        checksum = (checksum & 0xFFFF) + (checksum >> 16)
    marked[10:12] = (checksum ^ 0xFFFF).to_bytes(2, "big")
    return bytes(marked)
