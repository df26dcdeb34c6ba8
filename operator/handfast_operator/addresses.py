"""Which address a Peer gets: the one it had, else one that follows from its name, else the next that is free.

A restored backup without status gets the same addresses as before, as long as nobody else took them
meanwhile.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

REST_SECONDS: Final = 3600.0
"""How long nobody else gets an address that was given back: its former owner may still use it."""
MOST_IN_A_POOL: Final = 1 << 16
"""Addresses of larger networks are taken from their beginning, where they are short."""


@dataclass(frozen=True)
class Pool:
    """A network without the addresses that nobody may have."""

    network: Network
    reserved: frozenset[Address]

    @cached_property
    def size(self) -> int:
        return min(self.network.num_addresses, MOST_IN_A_POOL)

    @cached_property
    def usable(self) -> int:
        return self.size - sum(self._holds(address) for address in self.reserved)

    def preferred(self, name: str) -> int:
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % self.size

    def at(self, index: int) -> Address:
        return self.network.network_address + index % self.size

    def _holds(self, address: Address) -> bool:
        return address in self.network and int(address) - int(self.network.network_address) < self.size


def pools(networks: Iterable[str], gateway: Iterable[Address]) -> list[Pool]:
    """The first and the last address mean network and broadcast, where there is room for that."""
    own = frozenset(gateway)
    made = []
    for text in networks:
        network = ip_network(text)
        ends = (
            {network.network_address, network.broadcast_address} if network.num_addresses > 2 else frozenset()
        )
        made.append(Pool(network, own | ends))
    return made


@dataclass(slots=True)
class Resting:
    """Addresses that were given back a moment ago."""

    _until: dict[Address, tuple[float, str]] = field(default_factory=dict)

    def give_back(self, addresses: Iterable[Address], owner: str, now: float) -> None:
        for address in addresses:
            self._until[address] = (now + REST_SECONDS, owner)

    def rests(self, address: Address, owner: str, now: float) -> bool:
        """Whether `owner` may not have it; the one who gave it back may."""
        entry = self._until.get(address)
        if entry is None or entry[1] == owner:
            return False
        if entry[0] <= now:
            del self._until[address]
            return False
        return True


def parse_host(text: str) -> Address:
    return ip_address(text.partition("/")[0])


def host_network(address: Address) -> Network:
    return ip_network(address)


def host_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    return tuple(host_network(parse_host(text)) for text in texts)


class Allocator:
    """Gives addresses of some pools away; what it gave, or was told of, nobody else gets."""

    def __init__(self, pools: list[Pool], resting: Resting, now: float) -> None:
        self._pools = pools
        self._resting = resting
        self._now = now
        self._taken: set[Address] = set()

    def take(self, address: Address) -> None:
        self._taken.add(address)

    def is_taken(self, address: Address) -> bool:
        return address in self._taken

    def allocate(self, version: int, name: str) -> Address | None:
        """A free address of this family, taken for `name`; None if there is no pool, or nothing free in
        any."""
        for pool in self._pools:
            if pool.network.version == version and (found := self._first_free(pool, name)) is not None:
                self._taken.add(found)
                return found
        return None

    def allocatable(self, address: Address) -> bool:
        """Whether it lies in a pool, and is nobody's by right."""
        return any(address in pool.network and address not in pool.reserved for pool in self._pools)

    def has_pool(self, version: int) -> bool:
        return any(pool.network.version == version for pool in self._pools)

    def free(self) -> list[tuple[str, int]]:
        """How many addresses of each pool nobody has."""
        taken = sorted(int(address) for address in self._taken)
        return [(str(pool.network), max(pool.usable - _between(taken, pool), 0)) for pool in self._pools]

    def _first_free(self, pool: Pool, name: str) -> Address | None:
        start = pool.preferred(name)
        for step in range(pool.size):
            address = pool.at(start + step)
            if (
                address not in self._taken
                and address not in pool.reserved
                and not self._resting.rests(address, name, self._now)
            ):
                return address
        return None


def _between(taken: list[int], pool: Pool) -> int:
    first = int(pool.network.network_address)
    return bisect_left(taken, first + pool.size) - bisect_left(taken, first)
