"""IP packets for tests, with checksums computed the slow and obvious way."""

from __future__ import annotations

import struct
from typing import Final

TCP: Final = 6
UDP: Final = 17
ACK: Final = 0x10

LEFT_4, RIGHT_4 = bytes([10, 9, 0, 1]), bytes([10, 9, 0, 2])
LEFT_6, RIGHT_6 = bytes.fromhex(f"fd{'00' * 14}01"), bytes.fromhex(f"fd{'00' * 14}02")


def word_sum(data: bytes) -> int:
    """RFC 1071, section 4.1."""
    total = 0
    for position in range(0, len(data), 2):
        total += int.from_bytes(data[position : position + 2].ljust(2, b"\0"), "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip(
    payload: bytes,
    protocol: int,
    *,
    ipv6: bool = False,
    identification: int = 0,
    fragment: int = 0x4000,
    tos: int = 0,
    ttl: int = 64,
) -> bytes:
    if ipv6:
        head = struct.pack("!IHBB", 6 << 28 | tos << 20, len(payload), protocol, ttl)
        return head + LEFT_6 + RIGHT_6 + payload
    length = 20 + len(payload)
    header = struct.pack("!BBHHHBBH", 0x45, tos, length, identification, fragment, ttl, protocol, 0)
    header += LEFT_4 + RIGHT_4
    checksum = word_sum(header) ^ 0xFFFF
    return header[:10] + checksum.to_bytes(2, "big") + header[12:] + payload


def transport_sum(packet: bytes) -> int:
    """0xffff if the transport checksum is right."""
    if packet[0] >> 4 == 4:
        start, protocol, addresses = (packet[0] & 15) * 4, packet[9], packet[12:20]
    else:
        start, protocol, addresses = 40, packet[6], packet[8:40]
    pseudo = addresses + struct.pack("!HH", protocol, len(packet) - start)
    return word_sum(pseudo + packet[start:])


def with_transport_checksum(packet: bytes) -> bytes:
    start, protocol = (20, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    at = start + (16 if protocol == TCP else 6)
    blank = packet[:at] + bytes(2) + packet[at + 2 :]
    checksum = transport_sum(blank) ^ 0xFFFF
    if protocol == UDP:
        checksum = checksum or 0xFFFF
    return packet[:at] + checksum.to_bytes(2, "big") + packet[at + 2 :]


def is_valid(packet: bytes) -> bool:
    """Whether lengths and checksums are those of an intact packet."""
    if packet[0] >> 4 == 4:
        if word_sum(packet[:20]) != 0xFFFF or int.from_bytes(packet[2:4], "big") != len(packet):
            return False
    elif int.from_bytes(packet[4:6], "big") + 40 != len(packet):
        return False
    return transport_sum(packet) == 0xFFFF


def tcp(
    payload: bytes,
    *,
    sequence: int = 0,
    acknowledgement: int = 0,
    flags: int = ACK,
    window: int = 512,
    options: bytes = b"",
    ports: tuple[int, int] = (40000, 5201),
    ipv6: bool = False,
    **fields: int,
) -> bytes:
    words = 5 + len(options) // 4
    header = struct.pack(
        "!HHIIBBHHH", *ports, sequence & 0xFFFFFFFF, acknowledgement, words << 4, flags, window, 0, 0
    )
    return with_transport_checksum(ip(header + options + payload, TCP, ipv6=ipv6, **fields))


def udp(
    payload: bytes, *, ports: tuple[int, int] = (40000, 5201), ipv6: bool = False, **fields: int
) -> bytes:
    header = struct.pack("!HHHH", *ports, 8 + len(payload), 0)
    return with_transport_checksum(ip(header + payload, UDP, ipv6=ipv6, **fields))
