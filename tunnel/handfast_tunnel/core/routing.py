"""Cryptokey routing: which peer owns an inner address (paper, section 2).

Longest prefix wins. There is a table for each prefix length in use, tried from the longest: most
interfaces have one or two lengths, so a look-up is one or two dictionary reads, and a cache makes it
one. A copy is cheap, so a change is prepared on one and swapped in.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from .configuration import Prefix

Owner = TypeVar("Owner")
_CACHE_LIMIT = 65536


class RoutingTable(Generic[Owner]):
    """Allowed IPs of all peers. Addresses and networks are 4 or 16 packed bytes."""

    __slots__ = ("_cache", "_tables")

    def __init__(self) -> None:
        self._tables: dict[int, list[tuple[int, dict[int, Owner]]]] = {4: [], 16: []}
        self._cache: dict[bytes, Owner | None] = {}

    def copy(self) -> RoutingTable[Owner]:
        twin: RoutingTable[Owner] = RoutingTable()
        twin._tables = {
            family: [(shift, table.copy()) for shift, table in tables]
            for family, tables in self._tables.items()
        }
        return twin

    def insert(self, prefix: Prefix, owner: Owner) -> Owner | None:
        """Gives `prefix` to `owner`; the last to claim a prefix has it. Returns whom it was taken from."""
        self._cache.clear()
        family = len(prefix.network)
        shift = family * 8 - prefix.length
        tables = self._tables[family]
        table = next((table for known, table in tables if known == shift), None)
        if table is None:
            table = {}
            tables.append((shift, table))
            tables.sort(key=lambda entry: entry[0])
        key = int.from_bytes(prefix.network, "big") >> shift
        former = table.get(key)
        table[key] = owner
        return former if former is not owner else None

    def remove(self, prefix: Prefix, owner: Owner) -> None:
        """Takes `prefix` from `owner`, if it is the owner's."""
        self._cache.clear()
        family = len(prefix.network)
        shift = family * 8 - prefix.length
        for known, table in self._tables[family]:
            key = int.from_bytes(prefix.network, "big") >> shift
            if known == shift and table.get(key) is owner:
                del table[key]
                if not table:
                    self._tables[family].remove((known, table))
                return

    def lookup(self, address: bytes) -> Owner | None:
        """The owner of `address`, or None."""
        cache = self._cache
        if address in cache:
            return cache[address]
        if len(cache) >= _CACHE_LIMIT:
            cache.clear()
        number = int.from_bytes(address, "big")
        owner = None
        for shift, table in self._tables[len(address)]:
            owner = table.get(number >> shift)
            if owner is not None:
                break
        cache[address] = owner
        return owner
