"""Small IP packets as they come out of a TUN."""

from __future__ import annotations

from ipaddress import ip_address

_UDP = 17


def address(text: str) -> bytes:
    return ip_address(text).packed


def header_sum(header: bytes) -> int:
    """The one's complement sum of an IPv4 header's words: 0xffff if its checksum is right (RFC 1071)."""
    total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def ip_packet(source: str, destination: str, payload: bytes = b"", traffic_class: int = 0) -> bytes:
    """An IPv4 or IPv6 packet, as the addresses say."""
    packed_source, packed_destination = address(source), address(destination)
    if len(packed_source) == 16:
        first = (6 << 28 | traffic_class << 20).to_bytes(4, "big")
        length = len(payload).to_bytes(2, "big")
        return first + length + bytes([_UDP, 64]) + packed_source + packed_destination + payload
    head = (
        bytes([0x45, traffic_class]) + (20 + len(payload)).to_bytes(2, "big") + bytes(4) + bytes([64, _UDP])
    )
    addresses = packed_source + packed_destination
    checksum = header_sum(head + bytes(2) + addresses) ^ 0xFFFF
    return head + checksum.to_bytes(2, "big") + addresses + payload


def payload_of(packet: bytes) -> bytes:
    return packet[20:] if packet[0] >> 4 == 4 else packet[40:]
