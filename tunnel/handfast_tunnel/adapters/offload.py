"""Segmentation offload in user space: large packets of the TUN device to wire-size ones, and back.

With a virtio-net header before each packet (virtio specification 1.2, section 5.1.6) the kernel hands
over TCP and UDP packets of up to 64 KiB, with an unfinished checksum, that stand for many segments:
`split` makes these. The other way, `coalesce` finds segments that arrived one after the other, and
`joined` makes one such packet of them, so that the kernel's stack is entered once for all.

A joined packet asks the kernel to compute the checksums afresh. Therefore `coalesce` verifies every
segment first: what was corrupted before it entered the tunnel must stay recognisable.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import islice
from operator import mul
from struct import Struct
from typing import Final

from .checksum import Buffer, complement, swapped, word_sum

VNET_HEADER: Final = Struct("=BBHHHH")
"""flags, gso_type, hdr_len, gso_size, csum_start, csum_offset"""
PLAIN_VNET_HEADER: Final = bytes(VNET_HEADER.size)

NEEDS_CSUM: Final = 1
GSO_NONE: Final = 0
GSO_TCPV4: Final = 1
GSO_TCPV6: Final = 4
GSO_UDP_L4: Final = 5
GSO_ECN: Final = 0x80

TCP: Final = 6
UDP: Final = 17
IPV4_HEADER: Final = 20
IPV4_WITHOUT_OPTIONS: Final = 0x45
FRAGMENT: Final = 0x3FFF
"""More fragments, or an offset."""
IPV6_HEADER: Final = 40
TCP_HEADER: Final = 20
UDP_HEADER: Final = 8
CHECKSUM_OFFSET: Final = {TCP: 16, UDP: 6}

FIN: Final = 0x01
PSH: Final = 0x08
ACK: Final = 0x10
CWR: Final = 0x80

MAX_PACKET: Final = 65535
MAX_SEGMENTS: Final = 64
"""Of one joined packet: the kernel's UDP_MAX_SEGMENTS."""

_WEIGHTS: Final = tuple(pow(27073, power, 0xFFFF) for power in range(MAX_SEGMENTS))
"""All different and without a common factor with 0xffff. Small ones, or multiples of each other by small
numbers, would let small errors cancel out."""

_WORD = Struct("!H")
_TWO_WORDS = Struct("!HH")
_LONG = Struct("!I")
_LITTLE_WORD = Struct("<H")


class MalformedPacketError(ValueError):
    """The kernel described a packet in a way that its bytes contradict."""


def split(vnet_header: Buffer, packet: Buffer) -> list[bytes]:
    """The packets that one read of the TUN device stands for, with finished checksums."""
    flags, gso_type, _, segment_size, start, offset = VNET_HEADER.unpack_from(vnet_header)
    kind = gso_type & ~GSO_ECN
    if kind == GSO_NONE:
        return [_with_checksum(packet, start, offset) if flags & NEEDS_CSUM else bytes(packet)]
    if kind not in {GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4} or not segment_size:
        raise MalformedPacketError(f"segmentation type {gso_type} with segments of {segment_size} bytes")
    return _segments(packet, segment_size, start, UDP if kind == GSO_UDP_L4 else TCP)


def _with_checksum(packet: Buffer, start: int, offset: int) -> bytes:
    """Finish a checksum whose field holds the sum of the pseudo-header so far."""
    at = start + offset
    if at + 2 > len(packet):
        raise MalformedPacketError(f"a checksum at {at} in a packet of {len(packet)} bytes")
    value = complement(word_sum(packet[start:]))
    if offset == CHECKSUM_OFFSET[UDP]:
        value = value or 0xFFFF  # RFC 768: zero would mean that there is none
    return b"".join((packet[:at], _LITTLE_WORD.pack(value), packet[at + 2 :]))


def _segments(packet: Buffer, size: int, start: int, protocol: int) -> list[bytes]:
    is_ipv4 = packet[0] >> 4 == 4
    header = bytearray(packet[: _header_length(packet, start, protocol)])
    payload = packet[len(header) :]
    checksum_at = start + CHECKSUM_OFFSET[protocol]
    addresses = word_sum(header[12:20] if is_ipv4 else header[8:40]) + swapped(protocol)
    identification = _WORD.unpack_from(header, 4)[0]
    sequence = _LONG.unpack_from(header, start + 4)[0]
    first_flags = header[start + 13] if protocol == TCP else 0
    zero_word = bytes(2)

    segments: list[bytes] = []
    for offset in range(0, len(payload), size):
        piece = payload[offset : offset + size]
        length = len(header) + len(piece)
        if is_ipv4:
            _TWO_WORDS.pack_into(header, 2, length, (identification + len(segments)) & 0xFFFF)
            header[10:12] = zero_word
            _LITTLE_WORD.pack_into(header, 10, complement(word_sum(header[:start])))
        else:
            _WORD.pack_into(header, 4, length - IPV6_HEADER)
        if protocol == TCP:
            is_last = offset + size >= len(payload)
            _LONG.pack_into(header, start + 4, (sequence + offset) & 0xFFFFFFFF)
            header[start + 13] = first_flags & ~((CWR if offset else 0) | (0 if is_last else FIN | PSH))
        else:
            _WORD.pack_into(header, start + 4, length - start)
        header[checksum_at : checksum_at + 2] = zero_word
        total = addresses + swapped(length - start) + word_sum(header[start:]) + word_sum(piece)
        value = complement(total)
        _LITTLE_WORD.pack_into(header, checksum_at, value if value or protocol == TCP else 0xFFFF)
        segments.append(b"".join((header, piece)))
    return segments


def _header_length(packet: Buffer, start: int, protocol: int) -> int:
    """Where the payload begins. `hdr_len` of the virtio-net header is only a hint."""
    if start >= (IPV4_HEADER if packet[0] >> 4 == 4 else IPV6_HEADER):
        end = _transport_end(packet, start, protocol)
        if end < len(packet):
            return end
    raise MalformedPacketError(f"a transport header at {start} in a packet of {len(packet)} bytes")


def coalesce(packets: Sequence[bytes], *, tcp: bool = True, udp: bool = True) -> list[list[bytes]]:
    """Group IP packets, each as long as its header says, so that `joined` can make one of every group.

    Packets of one flow keep their order; flows may overtake each other.
    """
    runs: list[_Run] = []
    flows: dict[bytes, _Run] = {}
    position = 0
    while position < len(packets):
        packet = packets[position]
        if packet[0] == IPV4_WITHOUT_OPTIONS:
            flow, protocol, start = packet[12:24], packet[9], IPV4_HEADER
        elif packet[0] >> 4 == 6:
            flow, protocol, start = packet[8:44], packet[6], IPV6_HEADER
        else:
            flow, protocol, start = b"", 0, 0
        run = flows.get(flow)
        taken = run.take(packets, position) if run is not None else 0
        if not taken:
            run = _Run(packet, start, protocol)
            runs.append(run)
            if (protocol == TCP and tcp) or (protocol == UDP and udp):
                flows[flow] = run
        position += taken or 1
    return [group for run in runs for group in run.groups()]


class _Run:
    """Segments that follow each other in one flow. Looks at the first only when there is a second."""

    __slots__ = (
        "header_length",
        "identification",
        "mask",
        "packets",
        "protocol",
        "segment",
        "sequence",
        "start",
        "template",
        "total",
    )
    header_length: int
    """0 until the first packet has been looked at."""
    segment: int
    """Payload bytes of each packet but the last; 0: nothing may follow."""
    mask: int
    """Which bits of a packet, as a little-endian number, must be those of `template`."""
    template: int
    sequence: int
    identification: int | None
    total: int
    """The weighted sum of the packets as numbers."""

    def __init__(self, first: bytes, start: int = 0, protocol: int = 0) -> None:
        self.packets = [first]
        self.start = start
        self.protocol = protocol
        self.header_length = 0

    def take(self, packets: Sequence[bytes], position: int) -> int:
        """Append those from `position` on that may follow; how many."""
        if not self.header_length:
            self._lead()
        if not self.segment:
            return 0
        mine, end, segment = self.packets, self.header_length, self.segment
        mask, template, flags = self.mask, self.template, self.start + 13
        is_tcp, is_next, from_bytes = self.protocol == TCP, self._is_next, int.from_bytes
        longest = min(MAX_SEGMENTS, (MAX_PACKET - end) // segment)
        before, numbers = len(mine), []
        for packet in islice(packets, position, position + longest - before):
            if not 0 < len(packet) - end <= segment or not is_next(packet):
                break
            number = from_bytes(packet, "little")
            if number & mask != template:
                break
            mine.append(packet)
            numbers.append(number)
            if len(packet) - end < segment or (is_tcp and packet[flags] & PSH):
                self.segment = 0
                break
        if len(mine) == longest:
            self.segment = 0
        self.total += sum(map(mul, numbers, _WEIGHTS[before:]))
        return len(numbers)

    def _lead(self) -> None:
        first, start, protocol = self.packets[0], self.start, self.protocol
        is_ipv4 = start == IPV4_HEADER
        self.header_length = end = _transport_end(first, start, protocol)
        self.segment = 0
        if len(first) <= end or (is_ipv4 and int.from_bytes(first[6:8], "big") & FRAGMENT):
            return
        if first[start + 13] != ACK if protocol == TCP else not _has_udp_checksum(first, start):
            return
        # RFC 6864: the identification of a packet that must not be fragmented means nothing.
        self.identification = _WORD.unpack_from(first, 4)[0] if is_ipv4 and not first[6] & 0x40 else None
        self.sequence = _LONG.unpack_from(first, start + 4)[0]
        self.mask = _common_bits(is_ipv4, end, protocol)
        self.total = int.from_bytes(first, "little")
        self.template = self.total & self.mask
        self.segment = len(first) - end

    def _is_next(self, packet: bytes) -> bool:
        position = len(self.packets)
        if self.protocol == UDP:
            if not _has_udp_checksum(packet, self.start):
                return False
        else:
            expected = self.sequence + position * self.segment & 0xFFFFFFFF
            if _LONG.unpack_from(packet, self.start + 4)[0] != expected:
                return False
        if self.identification is None:
            return True
        return bool(_WORD.unpack_from(packet, 4)[0] == self.identification + position & 0xFFFF)

    def groups(self) -> list[list[bytes]]:
        """The run in one group; if a checksum is wrong, every packet alone, for the kernel to judge."""
        if len(self.packets) == 1 or self._is_intact():
            return [self.packets]
        return [[packet] for packet in self.packets]

    def _is_intact(self) -> bool:
        """Whether the checksums of all segments are right.

        They are verified by one division for all, which halves the cost: a weight for each keeps errors
        from cancelling out, so that the chance to overlook any is that of a single checksum, 1 in 65535.
        """
        first, last = self.packets[0], self.packets[-1]
        ahead = len(self.packets) - 1
        missing = sum(_WEIGHTS[:ahead]) * self._missing(first) + _WEIGHTS[ahead] * self._missing(last)
        return (self.total + missing) % 0xFFFF == 0

    def _missing(self, packet: bytes) -> int:
        """What brings the sum of an intact packet to zero: its pseudo-header less what is no part of it."""
        if self.start == IPV4_HEADER:  # its header sums up to zero, the addresses included
            return word_sum(packet[12:20]) + swapped(self.protocol) + swapped(len(packet) - self.start)
        return swapped(self.protocol) - word_sum(packet[:4]) - word_sum(packet[6:8])


def _has_udp_checksum(packet: bytes, start: int) -> bool:
    length, checksum = _TWO_WORDS.unpack_from(packet, start + 4)
    return bool(length == len(packet) - start and checksum)


def _transport_end(packet: Buffer, start: int, protocol: int) -> int:
    """Where the transport header ends, or past the packet when it is cut short."""
    if protocol == UDP:
        return start + UDP_HEADER
    words = packet[start + 12] >> 4 if len(packet) > start + 12 else 0
    return start + max(TCP_HEADER, words * 4)


@cache
def _common_bits(is_ipv4: bool, header_length: int, protocol: int) -> int:
    """A mask of the header bits that are the same in all segments of one joined packet."""
    mask = bytearray(b"\xff" * header_length)
    if is_ipv4:
        start = IPV4_HEADER
        mask[2:6] = bytes(4)  # length, identification
        mask[10:12] = bytes(2)  # checksum
    else:
        start = IPV6_HEADER
        mask[4:6] = bytes(2)  # length
    if protocol == TCP:
        mask[start + 4 : start + 8] = bytes(4)  # sequence
        mask[start + 13] ^= PSH
        mask[start + 16 : start + 18] = bytes(2)  # checksum
    else:
        mask[start + 4 : start + 8] = bytes(4)  # length, checksum
    return int.from_bytes(mask, "little")


def joined(group: list[bytes]) -> list[Buffer]:
    """The virtio-net header and the parts of the one packet that a group of `coalesce` stands for."""
    first, last = group[0], group[-1]
    is_ipv4 = first[0] >> 4 == 4
    start = IPV4_HEADER if is_ipv4 else IPV6_HEADER
    protocol = first[9 if is_ipv4 else 6]
    end = _transport_end(first, start, protocol)
    length = sum(map(len, group)) - (len(group) - 1) * end
    header = bytearray(first[:end])
    if is_ipv4:
        gso_type = GSO_TCPV4
        _WORD.pack_into(header, 2, length)
        header[10:12] = bytes(2)
        _LITTLE_WORD.pack_into(header, 10, complement(word_sum(header[:start])))
    else:
        gso_type = GSO_TCPV6
        _WORD.pack_into(header, 4, length - IPV6_HEADER)
    if protocol == TCP:
        header[start + 13] |= last[start + 13] & PSH
    else:
        gso_type = GSO_UDP_L4
        _WORD.pack_into(header, start + 4, length - start)
    # The field holds the sum of the pseudo-header; the kernel goes on from there.
    addresses = header[12:20] if is_ipv4 else header[8:40]
    pseudo = (word_sum(addresses) + swapped(protocol) + swapped(length - start)) % 0xFFFF
    offset = CHECKSUM_OFFSET[protocol]
    _LITTLE_WORD.pack_into(header, start + offset, pseudo)
    vnet_header = VNET_HEADER.pack(NEEDS_CSUM, gso_type, end, len(first) - end, start, offset)
    return [vnet_header, header, *[packet[end:] for packet in group]]
