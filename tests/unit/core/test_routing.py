from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.configuration import Prefix
from handfast_tunnel.core.routing import RoutingTable

from .packets import address
from .vectors import wireguard_go


class Owner(str):
    """Compared by identity in the table, as peers are."""

    __slots__ = ()


OWNERS = [Owner(name) for name in "abcd"]
Network = IPv4Network | IPv6Network


class Model:
    """Longest prefix match as one would write it down."""

    def __init__(self) -> None:
        self.owner: dict[Network, Owner] = {}

    def lookup(self, raw: bytes) -> Owner | None:
        wanted = ip_address(raw)
        matches = [net for net in self.owner if net.version == wanted.version and wanted in net]
        return self.owner[max(matches, key=lambda net: net.prefixlen)] if matches else None


def prefix(network: Network | str) -> Prefix:
    network = ip_network(network) if isinstance(network, str) else network
    return Prefix(network.network_address.packed, network.prefixlen)


@st.composite
def addresses(draw: st.DrawFn) -> bytes:
    """From so few values that prefixes overlap and look-ups hit them."""
    size = draw(st.sampled_from([4, 16]))
    return bytes(draw(st.lists(st.sampled_from([0, 1, 10, 128, 255]), min_size=size, max_size=size)))


@st.composite
def networks(draw: st.DrawFn) -> Network:
    raw = draw(addresses())
    length = draw(st.integers(0, len(raw) * 8) | st.sampled_from([0, 8, 24, 32]))
    return ip_network((raw, length), strict=False)


changes = st.lists(st.tuples(st.booleans(), networks(), st.sampled_from(OWNERS)), max_size=40)


@given(changes, st.lists(addresses(), max_size=30))
def test_longest_prefix_wins_as_in_a_naive_model(
    history: list[tuple[bool, Network, Owner]], wanted: list[bytes]
) -> None:
    table: RoutingTable[Owner] = RoutingTable()
    model = Model()
    for insert, network, owner in history:
        if insert:
            former = model.owner.get(network)
            assert table.insert(prefix(network), owner) is (former if former is not owner else None)
            model.owner[network] = owner
        else:
            table.remove(prefix(network), owner)
            if model.owner.get(network) is owner:
                del model.owner[network]
        probe = network.network_address.packed
        assert table.lookup(probe) is model.lookup(probe)
    for raw in wanted:
        assert table.lookup(raw) is model.lookup(raw)
        assert table.lookup(raw) is model.lookup(raw)


@pytest.mark.parametrize("vector", wireguard_go("routes"))
def test_owners_are_those_of_wireguard_go(vector: dict[str, Any]) -> None:
    table: RoutingTable[Owner] = RoutingTable()
    owners = [Owner(number) for number in range(5)]
    for network, owner in vector["inserted"]:
        table.insert(prefix(network), owners[owner])
    found = [[text, table.lookup(address(text))] for text, _ in vector["found"]]
    assert found == [[text, None if owner is None else owners[owner]] for text, owner in vector["found"]]


def test_last_to_claim_a_prefix_has_it() -> None:
    table: RoutingTable[Owner] = RoutingTable()
    first, second = OWNERS[:2]
    assert table.insert(prefix("10.0.0.0/8"), first) is None
    assert table.insert(prefix("10.0.0.0/8"), first) is None
    assert table.insert(prefix("10.0.0.0/8"), second) is first
    table.remove(prefix("10.0.0.0/8"), first)
    assert table.lookup(address("10.1.2.3")) is second


def test_default_routes_of_both_families_are_apart() -> None:
    table: RoutingTable[Owner] = RoutingTable()
    table.insert(prefix("0.0.0.0/0"), OWNERS[0])
    assert table.lookup(address("1.2.3.4")) is OWNERS[0]
    assert table.lookup(address("::1")) is None
    table.insert(prefix("::/0"), OWNERS[1])
    assert table.lookup(address("::1")) is OWNERS[1]


def test_change_of_a_copy_is_not_seen_before_it_is_swapped_in() -> None:
    table: RoutingTable[Owner] = RoutingTable()
    table.insert(prefix("10.0.0.0/8"), OWNERS[0])
    assert table.lookup(address("10.0.0.1")) is OWNERS[0]
    twin = table.copy()
    twin.insert(prefix("10.0.0.0/24"), OWNERS[1])
    twin.remove(prefix("10.0.0.0/8"), OWNERS[0])
    assert table.lookup(address("10.0.0.1")) is OWNERS[0]
    assert twin.lookup(address("10.0.0.1")) is OWNERS[1]
    assert twin.lookup(address("10.1.0.1")) is None


def test_memory_of_look_ups_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handfast_tunnel.core.routing._CACHE_LIMIT", 8)
    table: RoutingTable[Owner] = RoutingTable()
    table.insert(prefix("10.0.0.0/8"), OWNERS[0])
    for number in range(100):
        assert table.lookup(bytes([10, 0, 0, number])) is OWNERS[0]
    assert len(table._cache) <= 8
