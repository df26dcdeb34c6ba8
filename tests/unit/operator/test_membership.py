"""Who is served, at which addresses, and why others are not."""

from __future__ import annotations

import random
from ipaddress import ip_network
from typing import Any

import pytest

from handfast_operator.addresses import REST_SECONDS, Resting
from handfast_operator.membership import Member, Membership, PeerObject, admit

from .objects import peer_object, public_keys, tunnel_spec

NOW = 1_750_000_000.0


def admitted(
    *peers: PeerObject, resting: Resting | None = None, now: float = NOW, **spec: object
) -> Membership:
    return admit(tunnel_spec(**spec), peers, public_keys(peers), resting or Resting(), now)


def member(membership: Membership, name: str) -> Member:
    return membership.members[f"uid-of-{name}"]


def reason(membership: Membership, name: str) -> str | None:
    refusal = member(membership, name).refusal
    return refusal.reason if refusal else None


def addresses(membership: Membership, name: str) -> list[str]:
    return [str(network) for network in member(membership, name).addresses]


def test_an_address_of_each_family_comes_from_the_pools() -> None:
    found = member(admitted(peer_object("alice")), "alice")
    assert [network.version for network in found.addresses] == [4, 6]
    assert all(
        network.subnet_of(ip_network(pool))  # type: ignore[arg-type]
        for network, pool in zip(found.addresses, ("10.8.0.0/24", "fd00:8::/64"), strict=True)
    )
    assert all(network.prefixlen == network.max_prefixlen for network in found.addresses)


def test_a_restored_backup_gets_the_same_addresses() -> None:
    first = admitted(*(peer_object(f"p{number}", age=number) for number in range(100)))
    again = admitted(*(peer_object(f"p{number}", age=number) for number in range(100)))
    assert first.members.keys() == again.members.keys()
    assert all(first.members[uid].addresses == again.members[uid].addresses for uid in first.members)


def test_what_a_peer_has_it_keeps_even_if_others_come_first() -> None:
    had = {"addresses": ["10.8.0.77/32", "fd00:8::77/128"]}
    membership = admitted(
        *(peer_object(f"p{number}", age=9) for number in range(200)), peer_object("alice", 0, had)
    )
    assert addresses(membership, "alice") == had["addresses"]
    everything = [each for found in membership.members.values() for each in found.addresses]
    assert len(set(everything)) == len(everything)


def test_no_address_twice_and_none_that_is_reserved() -> None:
    membership = admitted(*(peer_object(f"p{number}") for number in range(253)))
    given = {addresses(membership, f"p{number}")[0] for number in range(253)}
    assert len(given) == 253
    assert not given & {"10.8.0.0/32", "10.8.0.1/32", "10.8.0.255/32"}
    assert membership.free[0] == ("10.8.0.0/24", 0)


def test_an_exhausted_pool_says_so_and_serves_the_older() -> None:
    peers = [peer_object(f"p{number}", age=number) for number in range(3)]
    membership = admitted(*peers, pools=[{"cidr": "10.8.0.0/30"}])
    assert [reason(membership, f"p{number}") for number in range(3)] == [
        "PoolExhausted",
        "PoolExhausted",
        None,
    ]


def test_a_second_pool_is_used_when_the_first_is_full() -> None:
    peers = [peer_object(f"p{number}") for number in range(4)]
    membership = admitted(*peers, pools=[{"cidr": "10.8.0.0/30"}, {"cidr": "10.9.0.0/29"}])
    assert not any(found.refusal for found in membership.members.values())
    assert membership.free == [("10.8.0.0/30", 0), ("10.9.0.0/29", 3)]


def test_the_older_peer_keeps_a_contested_address() -> None:
    young, old = (
        peer_object("young", 1, addresses=["10.8.0.9"]),
        peer_object("old", 2, addresses=["10.8.0.9/32"]),
    )
    for order in ([young, old], [old, young]):
        membership = admitted(*order)
        assert (reason(membership, "old"), reason(membership, "young")) == (None, "AddressConflict")
    refusal = member(membership, "young").refusal
    assert refusal
    assert "old" in refusal.message


def test_of_equally_old_ones_the_uid_decides() -> None:
    both = [peer_object("a", addresses=["10.8.0.9"]), peer_object("b", addresses=["10.8.0.9"])]
    assert reason(admitted(*both), "b") == reason(admitted(*reversed(both)), "b") == "AddressConflict"


def test_a_static_address_is_not_given_away() -> None:
    """Also where the Peer that asks for it comes last, and the pool has no other."""
    membership = admitted(
        peer_object("first", 9),
        peer_object("static", 1, addresses=["10.8.0.2"]),
        pools=[{"cidr": "10.8.0.0/29"}],
    )
    assert addresses(membership, "static") == ["10.8.0.2/32"]
    assert addresses(membership, "first") != ["10.8.0.2/32"]


def test_the_gateways_address_is_its_own() -> None:
    assert reason(admitted(peer_object("alice", addresses=["10.8.0.1"])), "alice") == "AddressConflict"


def test_the_older_peer_keeps_a_contested_key() -> None:
    key = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
    membership = admitted(peer_object("young", 1, publicKey=key), peer_object("old", 2, publicKey=key))
    assert (reason(membership, "old"), reason(membership, "young")) == (None, "DuplicateKey")


def test_routes_lie_within_the_allowed_ones() -> None:
    site, other = ["192.168.5.0/24"], ["172.16.0.0/16"]
    membership = admitted(
        peer_object("site", routes=site), peer_object("other", routes=other), allowedRoutes=["192.168.0.0/16"]
    )
    assert reason(membership, "site") is None
    assert reason(membership, "other") == "RouteNotAllowed"
    assert str(member(membership, "site").allowed_ips[-1]) == "192.168.5.0/24"


def test_overlapping_routes_have_one_owner() -> None:
    allowed: dict[str, Any] = {"allowedRoutes": ["192.168.0.0/16", "10.8.0.0/24"]}
    for inner, outer in (("192.168.5.0/24", "192.168.0.0/16"), ("192.168.0.0/16", "192.168.5.0/24")):
        membership = admitted(
            peer_object("old", 2, routes=[inner]), peer_object("new", 1, routes=[outer]), **allowed
        )
        assert reason(membership, "new") == "AddressConflict"
    membership = admitted(
        peer_object("host", 2, addresses=["10.8.0.9"]),
        peer_object("net", 1, routes=["10.8.0.8/29"]),
        **allowed,
    )
    assert reason(membership, "net") == "AddressConflict"


def test_a_pools_address_within_somebodys_route_is_passed_over() -> None:
    router = peer_object("router", 9, addresses=["10.8.0.2"], routes=["10.8.0.128/25"])
    others = [peer_object(f"p{number}", 1) for number in range(100)]
    membership = admitted(router, *others, allowedRoutes=["10.8.0.0/24"])
    route = ip_network("10.8.0.128/25")
    given = [found.addresses[0] for found in membership.members.values() if found.addresses]
    assert len(given) == 101
    assert not any(each.subnet_of(route) for each in given)  # type: ignore[arg-type]


def test_disabled_and_expired_peers_keep_their_place_and_are_not_served() -> None:
    membership = admitted(
        peer_object("off", disabled=True),
        peer_object("over", expiresAt="2020-01-01T00:00:00Z"),
        peer_object("soon", expiresAt="2030-01-01T00:00:00Z"),
    )
    states = {name: member(membership, name).dormant for name in ("off", "over", "soon")}
    assert states == {"off": "Disabled", "over": "Expired", "soon": None}
    assert all(found.addresses for found in membership.members.values())
    assert membership.next_expiry == 1893456000.0


def test_a_freed_address_rests() -> None:
    resting = Resting()
    taken = admitted(peer_object("alice"), pools=[{"cidr": "10.8.0.0/30"}])
    # A pool of two: the gateway's, and the one that alice had.
    freed = [network.network_address for network in member(taken, "alice").addresses]
    resting.give_back(freed, "vpn/alice", NOW)
    spec: dict[str, Any] = {"pools": [{"cidr": "10.8.0.0/30"}]}
    assert reason(admitted(peer_object("bob"), resting=resting, **spec), "bob") == "PoolExhausted"
    assert reason(admitted(peer_object("alice"), resting=resting, **spec), "alice") is None
    later = NOW + REST_SECONDS + 1
    assert reason(admitted(peer_object("bob"), resting=resting, now=later, **spec), "bob") is None


def test_the_order_of_arrival_changes_nothing() -> None:
    peers = [peer_object(f"p{number}", age=number % 7) for number in range(60)]
    peers += [
        peer_object(f"s{number}", age=number % 5, addresses=[f"10.8.0.{number + 5}"]) for number in range(20)
    ]
    first = admitted(*peers)
    for seed in range(5):
        shuffled = random.Random(seed).sample(peers, len(peers))
        assert {uid: found.allowed_ips for uid, found in admitted(*shuffled).members.items()} == {
            uid: found.allowed_ips for uid, found in first.members.items()
        }


def with_addresses(name: str, membership: Membership, **changes: Any) -> PeerObject:
    """As it is read once its status is written."""
    return peer_object(name, 0, {"addresses": addresses(membership, name)}, **changes)


@pytest.mark.parametrize(
    "changes", [{}, {"persistentKeepalive": 25}, {"disabled": True}, {"client": {"dns": ["10.8.0.53"]}}]
)
def test_who_asks_for_nothing_else_is_not_compared_again(changes: dict[str, Any]) -> None:
    keys = {"uid-of-alice": "a", "uid-of-bob": "b"}
    before = admit(tunnel_spec(), [peer_object("alice"), peer_object("bob")], keys, Resting(), NOW)
    after = [with_addresses("alice", before, **changes), with_addresses("bob", before)]
    renewed = before.renewed(after, dict(keys), NOW)
    assert renewed is not None
    assert renewed == admit(tunnel_spec(), after, keys, Resting(), NOW)
    assert renewed.renewed(after, keys, NOW) is renewed


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ["10.8.0.99"]},
        {"routes": ["192.168.7.0/24"]},
        {"expiresAt": "2025-06-15T15:00:00Z"},
    ],
)
def test_who_asks_for_something_else_is_compared_with_all(changes: dict[str, Any]) -> None:
    keys = {"uid-of-alice": "a", "uid-of-bob": "b"}
    before = admit(tunnel_spec(), [peer_object("alice"), peer_object("bob")], keys, Resting(), NOW)
    after = [with_addresses("alice", before, **changes), with_addresses("bob", before)]
    assert before.renewed(after, keys, NOW) is None


def test_one_more_one_less_and_other_keys_are_compared_with_all() -> None:
    alice, bob, carol = map(peer_object, ("alice", "bob", "carol"))
    keys = {"uid-of-alice": "a", "uid-of-bob": "b"}
    before = admit(tunnel_spec(), [alice, bob], keys, Resting(), NOW)
    for peers in ([alice], [alice, carol], [alice, bob, carol]):
        assert before.renewed(peers, keys, NOW) is None
    assert before.renewed([alice, bob], {**keys, "uid-of-bob": "a"}, NOW) is None


def test_time_alone_brings_expiry_and_free_addresses() -> None:
    soon = peer_object("alice", expiresAt="2025-06-15T15:06:50Z")
    before = admitted(soon)
    assert before.next_expiry is not None
    assert before.renewed([soon], before.keys, before.next_expiry - 1) is before
    assert before.renewed([soon], before.keys, before.next_expiry) is None
    crowd = [peer_object(f"p{number}", age=number) for number in range(3)]
    full = admitted(*crowd, addresses=["10.8.0.1/30"], pools=[{"cidr": "10.8.0.0/30"}])
    assert full.renewed(crowd, full.keys, NOW) is None
