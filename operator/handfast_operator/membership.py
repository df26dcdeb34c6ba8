"""Which Peers of a Tunnel are served, at which addresses, and why the others are not.

A pure function of all Peers of one Tunnel. Two rules decide everything: who was there first keeps what it
has, and a
Peer owns its addresses and routes only, since in WireGuard the last owner of an allowed IP silently wins.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from ipaddress import ip_network
from typing import Any, Final

from . import addresses as allocation
from . import news
from .addresses import Address, Network
from .resources import PeerSpec, PeerStatus, TunnelSpec

_EXHAUSTED: Final = "PoolExhausted"


@dataclass(frozen=True, slots=True)
class PeerObject:
    """A Peer as the API server has it, parsed."""

    name: str
    namespace: str
    uid: str
    created: str
    generation: int
    spec: PeerSpec
    status: PeerStatus
    raw_status: Mapping[str, Any]
    addresses: tuple[Network, ...]
    """Of its spec,"""
    former_addresses: tuple[Network, ...]
    """of its status,"""
    routes: tuple[Network, ...]
    """and of its spec again: read once, because each change of a Tunnel looks at all of its Peers."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> PeerObject:
        meta = body["metadata"]
        raw = body.get("status") or {}
        spec, status = PeerSpec.model_validate(body["spec"]), PeerStatus.model_validate(raw)
        return cls(
            name=meta["name"],
            namespace=meta["namespace"],
            uid=meta["uid"],
            created=meta["creationTimestamp"],
            generation=meta["generation"],
            spec=spec,
            status=status,
            raw_status=raw,
            addresses=allocation.host_networks(spec.addresses),
            former_addresses=allocation.host_networks(status.addresses),
            routes=tuple(map(ip_network, spec.routes)),
        )

    @property
    def subject(self) -> dict[str, Any]:
        """As events name it."""
        return news.subject("Peer", self.namespace, self.name, self.uid)

    @property
    def age(self) -> tuple[str, str]:
        return self.created, self.uid


@dataclass(frozen=True, slots=True)
class Refusal:
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Member:
    """What becomes of one Peer."""

    peer: PeerObject
    addresses: tuple[Network, ...] = ()
    routes: tuple[Network, ...] = ()
    refusal: Refusal | None = None
    """Why it is not accepted."""
    dormant: str | None = None
    """Accepted, but not served: Disabled or Expired."""

    @property
    def served(self) -> bool:
        return self.refusal is None and self.dormant is None

    @property
    def allowed_ips(self) -> tuple[Network, ...]:
        return self.addresses + self.routes

    def claims_for(self, peer: PeerObject) -> bool:
        """Whether the Peer asks for no more and no less than when this was decided."""
        before = self.peer
        return (
            (before.age, before.addresses, before.routes) == (peer.age, peer.addresses, peer.routes)
            and before.spec.expires_at == peer.spec.expires_at
            # What its status has since it was written is what was decided here.
            and peer.former_addresses in (before.former_addresses, self.addresses)
        )


@dataclass(frozen=True, slots=True)
class Membership:
    members: dict[str, Member]
    """By uid, older ones first."""
    free: list[tuple[str, int]]
    next_expiry: float | None
    """When the next Peer expires, in seconds since 1970."""
    keys: Mapping[str, str]
    """The public keys that were compared, by uid."""
    is_full: bool = False
    """Somebody found no free address: an hour later there may be one."""

    def renewed(
        self, peers: Collection[PeerObject], keys: Mapping[str, str], now: float
    ) -> Membership | None:
        """The same for Peers of which none asks for anything else than before: of ten thousand only those
        that have changed cost anything. None where all have to be compared anew."""
        members = self.members
        due = self.next_expiry is not None and self.next_expiry <= now
        if due or self.is_full or len(peers) != len(members) or keys != self.keys:
            return None
        changed = {}
        for peer in peers:
            member = members.get(peer.uid)
            if member is None:
                return None
            # kopf may list all of them anew.
            if member.peer is not peer and member.peer != peer:
                if not member.claims_for(peer):
                    return None
                dormant = None if member.refusal else _dormant(peer.spec, now)
                changed[peer.uid] = replace(member, peer=peer, dormant=dormant)
        return replace(self, members=members | changed, keys=keys) if changed else self


def admit(
    tunnel: TunnelSpec,
    peers: Iterable[PeerObject],
    keys: Mapping[str, str],
    resting: allocation.Resting,
    now: float,
) -> Membership:
    """`keys` are the public keys of Peers by uid, generated ones included."""
    own = [allocation.parse_host(text) for text in tunnel.addresses]
    pools = allocation.pools((pool.cidr for pool in tunnel.pools), own)
    allocator = allocation.Allocator(pools, resting, now)
    claims = _Claims(own, [ip_network(text) for text in tunnel.allowed_routes])
    ordered = sorted(peers, key=lambda peer: peer.age)
    members: dict[str, Member] = {}
    # First whoever has addresses, so that nobody is given what somebody else already has.
    homeless = []
    for peer in ordered:
        members[peer.uid] = member = _claimed(peer, keys.get(peer.uid), claims, allocator, now)
        for network in member.addresses:
            allocator.take(network.network_address)
        if member.refusal is None:
            homeless.append(member)
    for member in homeless:
        members[member.peer.uid] = _housed(member, claims, allocator)
    expiries = [t for peer in ordered if (t := expiry(peer.spec)) is not None and t > now]
    full = any(member.refusal and member.refusal.reason == _EXHAUSTED for member in members.values())
    return Membership(members, allocator.free(), min(expiries, default=None), keys, is_full=full)


def expiry(spec: PeerSpec) -> float | None:
    return datetime.fromisoformat(spec.expires_at).timestamp() if spec.expires_at else None


def _claimed(
    peer: PeerObject, key: str | None, claims: _Claims, allocator: allocation.Allocator, now: float
) -> Member:
    """The Peer with its static addresses, else those of its status, or the reason why not."""
    spec = peer.spec
    static = {network.version for network in peer.addresses}
    networks = peer.addresses + tuple(
        former
        for former in peer.former_addresses
        if former.version not in static and allocator.allocatable(former.network_address)
    )
    refusal = claims.refuse(peer, key, networks, peer.routes)
    if refusal is not None:
        return Member(peer, refusal=refusal)
    claims.add(peer, key, networks + peer.routes)
    return Member(peer, networks, peer.routes, dormant=_dormant(spec, now))


def _dormant(spec: PeerSpec, now: float) -> str | None:
    when = expiry(spec)
    return "Disabled" if spec.disabled else "Expired" if when is not None and when <= now else None


def _housed(member: Member, claims: _Claims, allocator: allocation.Allocator) -> Member:
    """The member with an address of each family that the Tunnel has a pool for."""
    have = {network.version for network in member.addresses}
    gained = []
    peer = member.peer
    for version in (4, 6):
        if version in have or not allocator.has_pool(version):
            continue
        while (address := allocator.allocate(version, f"{peer.namespace}/{peer.name}")) is not None:
            network = allocation.host_network(address)
            if claims.owner(network) is None:
                gained.append(network)
                claims.add(peer, None, (network,))
                break
        else:
            return Member(peer, refusal=_exhausted(version))
    addresses = tuple(sorted(member.addresses + tuple(gained), key=lambda network: network.version))
    if not addresses and not member.routes:
        return Member(
            peer,
            refusal=Refusal(
                _EXHAUSTED,
                "it has no address, and the Tunnel has no pool: set spec.addresses, or add a pool",
            ),
        )
    return Member(peer, addresses, member.routes, dormant=member.dormant)


def _exhausted(version: int) -> Refusal:
    return Refusal(
        _EXHAUSTED,
        f"no free IPv{version} address is left in the Tunnel's pools: add a pool, or delete Peers"
        " (an address rests for an hour after its Peer is gone)",
    )


@dataclass(slots=True)
class _Claims:
    """Who owns which networks and keys, so far."""

    gateway: list[Address]
    allowed: list[Network]
    _exact: dict[Network, str] = field(default_factory=dict)
    _lengths: dict[int, set[int]] = field(default_factory=lambda: {4: set(), 6: set()})
    _starts: dict[int, list[int]] = field(default_factory=lambda: {4: [], 6: []})
    _names: dict[int, dict[int, str]] = field(default_factory=lambda: {4: {}, 6: {}})
    _keys: dict[str, str] = field(default_factory=dict)

    def refuse(
        self, peer: PeerObject, key: str | None, addresses: tuple[Network, ...], routes: tuple[Network, ...]
    ) -> Refusal | None:
        if key is not None and (owner := self._keys.get(key)) is not None:
            return Refusal(
                "DuplicateKey",
                f"Peer {owner} is older and has the same public key: give this one its own",
            )
        for network in addresses:
            if network.network_address in self.gateway:
                return Refusal(
                    "AddressConflict", f"{network.network_address} is the gateway's own: choose another one"
                )
        for network in routes:
            if not any(_within(network, whole) for whole in self.allowed):
                return Refusal(
                    "RouteNotAllowed",
                    f"{network} is not within the Tunnel's allowedRoutes: add it there, or leave it out",
                )
        for network in addresses + routes:
            if (owner := self.owner(network)) is not None:
                return Refusal(
                    "AddressConflict",
                    f"{network} overlaps with what Peer {owner}, which is older, owns: choose another one",
                )
        return None

    def owner(self, network: Network) -> str | None:
        """Who owns something that overlaps with it."""
        version = network.version
        for length in self._lengths[version]:
            if length <= network.prefixlen:
                whole = network if length == network.prefixlen else network.supernet(new_prefix=length)
                if (owner := self._exact.get(whole)) is not None:
                    return owner
        if network.prefixlen == network.max_prefixlen:
            return None
        starts, first = self._starts[version], int(network.network_address)
        at = bisect_left(starts, first)
        if at < len(starts) and starts[at] <= int(network.broadcast_address):
            return self._names[version][starts[at]]
        return None

    def add(self, peer: PeerObject, key: str | None, networks: tuple[Network, ...]) -> None:
        if key is not None:
            self._keys[key] = peer.name
        for network in networks:
            version, start = network.version, int(network.network_address)
            self._exact[network] = peer.name
            self._lengths[version].add(network.prefixlen)
            self._names[version][start] = peer.name
            starts = self._starts[version]
            if not starts or starts[-1] < start:
                starts.append(start)
            else:
                starts.insert(bisect_left(starts, start), start)


def _within(network: Network, whole: Network) -> bool:
    return network.version == whole.version and network.subnet_of(whole)  # type: ignore[arg-type]
