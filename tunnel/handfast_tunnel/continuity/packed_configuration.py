"""A configuration in a form that is read peer by peer, without looking at the others.

    header | peers | their allowed IPs | sorted public keys, and whose they are | a table for each prefix
    length: sorted networks, and whose they are

A peer's number is its place among the peers. Keys and networks are found by bisection, so that who takes
this configuration over can answer the first packet at once, however many peers there are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from operator import itemgetter
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, overload

from ..core.configuration import Prefix
from ..core.endpoint import Endpoint
from .slots import ENDPOINT, pack_endpoint, unpack_endpoint

if TYPE_CHECKING:
    from ..core.device import Device

PEERS_A_PIECE: Final = 32
_HEADER: Final = Struct("<8sQ?32sHIIIH")
"""Magic, length of all, whether there is a private key, it, port, mark, how many peers, prefixes, tables."""
_MAGIC: Final = b"HANDFST1"
_PEER: Final = Struct(f"<32s32s?{ENDPOINT.size}sHII")
"""Public and pre-shared key, whether there is an endpoint, it, keepalive, first allowed IP and how many."""
_PREFIX: Final = Struct("<BB16s")
"""Bytes of an address of this family, length of the prefix, network."""
_TABLE: Final = Struct("<BBI")
"""Bytes of an address, length of the prefix, entries."""
_NUMBER: Final = Struct("<I")
_KEY_LENGTH: Final = 32
Data = bytes | memoryview
_NO_ENDPOINT: Final = bytes(ENDPOINT.size)


class PackedPeer(NamedTuple):
    public_key: bytes
    preshared_key: bytes
    endpoint: Endpoint | None
    persistent_keepalive: int
    allowed_ips: list[Prefix]


class _Sorted(Sequence[bytes]):
    """Byte strings of one size, in order, and a number for each."""

    def __init__(self, data: Data, start: int, size: int, count: int) -> None:
        self._data, self._start, self._size, self._count = data, start, size, count
        self.end = start + count * (size + _NUMBER.size)

    @staticmethod
    def pack(entries: list[tuple[bytes, int]]) -> bytes:
        entries = sorted(entries, key=itemgetter(0))
        numbers = Struct(f"<{len(entries)}I").pack(*map(itemgetter(1), entries))
        return b"".join(map(itemgetter(0), entries)) + numbers

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, position: int) -> bytes: ...
    @overload
    def __getitem__(self, position: slice) -> Sequence[bytes]: ...
    def __getitem__(self, position: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(position, slice):
            return [self[each] for each in range(self._count)[position]]
        start = self._start + position * self._size
        return bytes(self._data[start : start + self._size])

    def number_of(self, sought: bytes) -> int | None:
        position = bisect_left(self, sought)
        if position == self._count or self[position] != sought:
            return None
        numbers = self._start + self._count * self._size
        number: int = _NUMBER.unpack_from(self._data, numbers + position * _NUMBER.size)[0]
        return number


class _Table(NamedTuple):
    """The networks of one prefix length."""

    mask: int
    networks: _Sorted


class PackedConfiguration:
    """What `pack` made, to be looked things up in."""

    def __init__(self, data: Data) -> None:
        """Raises ValueError where it is no such thing, or not all of it."""
        if len(data) < _HEADER.size:
            raise ValueError("it is too short")
        self._data = data
        magic, length, has_key, key, *numbers = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("it is no configuration of this version")
        if length != len(data):
            raise ValueError("its length does not fit")
        self.private_key: bytes | None = key if has_key else None
        self.peers: int
        self.listen_port, self.fwmark, self.peers, prefixes, tables = numbers
        self._prefixes = _HEADER.size + self.peers * _PEER.size
        self._keys = _Sorted(data, self._prefixes + prefixes * _PREFIX.size, _KEY_LENGTH, self.peers)
        self._tables: dict[int, list[_Table]] = {4: [], 16: []}
        end = self._keys.end
        for _ in range(tables):
            size, length, count = _TABLE.unpack_from(data, end)
            table = _Table(_mask(size, length), _Sorted(data, end + _TABLE.size, size, count))
            self._tables[size].append(table)
            end = table.networks.end

    def peer(self, number: int) -> PackedPeer:
        public_key, preshared_key, has_endpoint, endpoint, keepalive, first, count = _PEER.unpack_from(
            self._data, _HEADER.size + number * _PEER.size
        )
        start = self._prefixes + first * _PREFIX.size
        prefixes = self._data[start : start + count * _PREFIX.size]
        return PackedPeer(
            public_key,
            preshared_key,
            unpack_endpoint(endpoint) if has_endpoint else None,
            keepalive,
            [Prefix(network[:size], length) for size, length, network in _PREFIX.iter_unpack(prefixes)],
        )

    def number_of(self, public_key: bytes) -> int | None:
        """The peer with this key."""
        return self._keys.number_of(public_key)

    def owner_of(self, address: bytes) -> int | None:
        """The peer to whose allowed IPs an inner address belongs, by the longest prefix."""
        size = len(address)
        number = int.from_bytes(address, "big")
        for mask, networks in self._tables[size]:
            owner = networks.number_of((number & mask).to_bytes(size, "big"))
            if owner is not None:
                return owner
        return None


def _mask(size: int, length: int) -> int:
    bits = size * 8
    return (1 << bits) - (1 << bits - length)


def pack(device: Device) -> Iterator[bytes]:
    """The configuration of a device, in pieces that each take about a millisecond.

    Where a peer was heard is not part of it: the state memory keeps that.
    """
    peers = list(device.peers.values())
    tables: dict[tuple[int, int], list[tuple[bytes, int]]] = {}
    prefixes: list[bytes] = []
    records: list[bytes] = []
    for number, peer in enumerate(peers):
        records.append(
            _PEER.pack(
                peer.public_key,
                peer.preshared_key,
                peer.configured_endpoint is not None,
                pack_endpoint(peer.configured_endpoint) if peer.configured_endpoint else _NO_ENDPOINT,
                peer.persistent_keepalive,
                len(prefixes),
                len(peer.allowed_ips),
            )
        )
        for network, length in peer.allowed_ips:
            size = len(network)
            prefixes.append(_PREFIX.pack(size, length, network))
            tables.setdefault((size, length), []).append((network, number))
        if number % PEERS_A_PIECE == 0:
            yield b""
    body = [b"".join(records), b"".join(prefixes)]
    yield b""
    body.append(_Sorted.pack([(peer.public_key, number) for number, peer in enumerate(peers)]))
    yield b""
    for (size, length), entries in sorted(tables.items(), reverse=True):
        body += [_TABLE.pack(size, length, len(entries)), _Sorted.pack(entries)]
        yield b""
    key = device.private_key
    yield _HEADER.pack(
        _MAGIC,
        _HEADER.size + sum(map(len, body)),
        key is not None,
        key or bytes(_KEY_LENGTH),
        device.listen_port,
        device.fwmark,
        len(peers),
        len(prefixes),
        len(tables),
    )
    yield from body
