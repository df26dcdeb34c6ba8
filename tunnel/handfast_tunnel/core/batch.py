"""The data plane in Python: seals and opens many packets of one session in one call, and sorts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .constants import PADDING, REJECT_AFTER_MESSAGES
from .data_plane import Batch
from .ecn import ECN_MASK
from .messages import TRANSPORT_HEADER_LENGTH, TRANSPORT_MIN_LENGTH, TYPE_TRANSPORT

_COUNTER: Final = Struct("<Q")
_NONCE_PREFIX: Final = bytes(4)
_ZEROS: Final = bytes(PADDING)
_TRANSPORT_PREFIX: Final = TYPE_TRANSPORT.to_bytes(4, "little")


class PureSealer:
    """A `Sealer`."""

    __slots__ = ("_encrypt",)

    def __init__(self, key: bytes) -> None:
        self._encrypt = ChaCha20Poly1305(key).encrypt

    def seal_batch(self, receiver: int, base: int, packets: Batch, mtu: int, /) -> list[bytes]:
        prefix = _TRANSPORT_PREFIX + receiver.to_bytes(4, "little")
        encrypt = self._encrypt
        counters = map(_COUNTER.pack, range(base, base + len(packets)))
        padded = [
            packet + _ZEROS[: min(-len(packet) % PADDING, mtu - len(packet))]
            if len(packet) % PADDING and len(packet) < mtu
            else packet
            for packet in packets
        ]
        return [
            b"".join((prefix, counter, encrypt(_NONCE_PREFIX + counter, packet, None)))
            for packet, counter in zip(padded, counters, strict=True)
        ]

    def seal(self, receiver: int, counter: int, packet: bytes, mtu: int, /) -> bytes:
        number = _COUNTER.pack(counter)
        short = -len(packet) % PADDING
        if short and len(packet) < mtu:
            packet += _ZEROS[: min(short, mtu - len(packet))]
        sealed = self._encrypt(_NONCE_PREFIX + number, packet, None)
        return b"".join((_TRANSPORT_PREFIX, receiver.to_bytes(4, "little"), number, sealed))


class PureOpener:
    """An `Opener`."""

    __slots__ = ("_decrypt",)

    def __init__(self, key: bytes) -> None:
        self._decrypt = ChaCha20Poly1305(key).decrypt

    def open_batch(self, datagrams: Batch, /) -> tuple[list[int], list[bytes]]:
        decrypt = self._decrypt
        unpack = _COUNTER.unpack_from
        counters: list[int] = []
        plaintexts: list[bytes] = []
        for datagram in datagrams:
            counter = unpack(datagram, 8)[0]
            if counter >= REJECT_AFTER_MESSAGES:
                continue
            nonce = _NONCE_PREFIX + datagram[8:TRANSPORT_HEADER_LENGTH]
            try:
                plaintexts.append(decrypt(nonce, datagram[TRANSPORT_HEADER_LENGTH:], None))
            except InvalidTag:
                continue
            counters.append(counter)
        return counters, plaintexts

    def open(self, datagram: bytes, /) -> tuple[int, bytes] | None:
        number = datagram[8:TRANSPORT_HEADER_LENGTH]
        counter = int.from_bytes(number, "little")
        if counter >= REJECT_AFTER_MESSAGES or len(datagram) < TRANSPORT_MIN_LENGTH:
            return None
        try:
            return counter, self._decrypt(_NONCE_PREFIX + number, datagram[TRANSPORT_HEADER_LENGTH:], None)
        except InvalidTag:
            return None


class PureBatches:
    """A `DataPlane`."""

    def sealer(self, key: bytes) -> PureSealer:
        return PureSealer(key)

    def opener(self, key: bytes) -> PureOpener:
        return PureOpener(key)

    def by_receiver(self, datagrams: Batch) -> Iterator[tuple[int | None, Batch]]:
        heads = [each[:8] if len(each) >= TRANSPORT_MIN_LENGTH else b"" for each in datagrams]
        start, count = 0, len(heads)
        while start < count:
            head = heads[start]
            is_transport = head[:4] == _TRANSPORT_PREFIX
            end = start + 1
            while is_transport and end < count and heads[end] == head:
                end += 1
            yield int.from_bytes(head[4:], "little") if is_transport else None, datagrams[start:end]
            start = end

    def by_destination(self, packets: Batch) -> list[tuple[bytes | None, int, Batch]]:
        runs: list[tuple[bytes | None, int, Batch]] = []
        last: tuple[bytes | None, int] | None = None
        run: list[bytes] = []
        for packet in packets:
            found = destination_and_ecn(packet)
            if found == last:
                run.append(packet)
            else:
                last, run = found, [packet]
                runs.append((*found, run))
        return runs

    def by_source(self, plaintexts: Batch) -> list[tuple[bytes | None, Batch]]:
        runs: list[tuple[bytes | None, Batch]] = []
        last: bytes | None = b""
        run: list[bytes] = []
        for plaintext in plaintexts:
            if not plaintext:
                continue
            packet, source = trim(plaintext) or (plaintext, None)
            if source == last:
                run.append(packet)
            else:
                last, run = source, [packet]
                runs.append((source, run))
        return runs

    def size(self, batch: Batch) -> int:
        return sum(map(len, batch))

    def join(self, batches: Sequence[Batch]) -> Batch:
        return batches[0] if len(batches) == 1 else list(chain.from_iterable(batches))


def trim(plaintext: bytes) -> tuple[bytes, bytes] | None:
    """(IP packet without padding, its source address), or None if it is no IP packet."""
    version = plaintext[0] >> 4
    if version == 4 and len(plaintext) >= 20:
        length, source = plaintext[2] << 8 | plaintext[3], plaintext[12:16]
        shortest = 20
    elif version == 6 and len(plaintext) >= 40:
        length, source = (plaintext[4] << 8 | plaintext[5]) + 40, plaintext[8:24]
        shortest = 40
    else:
        return None
    if length == len(plaintext):
        return plaintext, source
    return (plaintext[:length], source) if shortest <= length < len(plaintext) else None


def destination_and_ecn(packet: bytes) -> tuple[bytes | None, int]:
    """Destination address of an IP packet and its ECN bits, or (None, 0) if it is none."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= 20:
        return packet[16:20], packet[1] & ECN_MASK
    if version == 6 and len(packet) >= 40:
        return packet[24:40], packet[1] >> 4 & ECN_MASK
    return None, 0


def source_of(packet: bytes) -> bytes:
    """Source address of what is an IP packet."""
    return packet[12:16] if packet[0] >> 4 == 4 else packet[8:24]


def ip_length(packet: bytes) -> int:
    return (packet[2] << 8 | packet[3]) if packet[0] >> 4 == 4 else (packet[4] << 8 | packet[5]) + 40
