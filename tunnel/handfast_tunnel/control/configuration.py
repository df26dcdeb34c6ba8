"""The configuration document: what a sidecar serves, whole or as a difference.

JSON Lines, as in the config Secret, in `PUT /v1/config` and in the sidecar's own copy: the head with its
generation and the tunnel, then one line a peer, sorted by public key. Keys stay in base64, addresses in text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, cast

from .errors import DocumentError
from .fields import (
    Fields,
    check_address,
    check_network,
    first_line,
    line,
    pack,
    parse_json,
    read_head,
    read_lines,
)

GENERATION_LIMIT: Final = 2**53
_INTERFACE: Final = re.compile(r"[a-zA-Z0-9_=+.-]{1,15}")
_ENDPOINT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):(\d{1,5})")
KIND: Final = "config"


@dataclass(frozen=True, slots=True)
class ForwardingSpec:
    ipv4: bool = True
    ipv6: bool = True
    masquerade: bool = True
    clamp_mss: bool = True

    @classmethod
    def read(cls, fields: Fields) -> ForwardingSpec:
        values = [fields.flag(name, True) for name in ("ipv4", "ipv6", "masquerade", "clampMSS")]
        fields.end()
        return cls(*values)

    def to_json(self) -> dict[str, Any]:
        return {
            "ipv4": self.ipv4,
            "ipv6": self.ipv6,
            "masquerade": self.masquerade,
            "clampMSS": self.clamp_mss,
        }


@dataclass(frozen=True, slots=True)
class RecoverySpec:
    announce: Literal["always", "never"] = "never"
    timers: Literal["recovery", "strict"] = "recovery"
    burst_per_second: int = 500

    @classmethod
    def read(cls, fields: Fields) -> RecoverySpec:
        announce = fields.choice("announce", ("always", "never"), "never")
        timers = fields.choice("timers", ("recovery", "strict"), "recovery")
        burst = fields.number("burstPerSecond", 1, 100_000, 500)
        fields.end()
        return cls(cast(Any, announce), cast(Any, timers), burst)

    def to_json(self) -> dict[str, Any]:
        return {"announce": self.announce, "timers": self.timers, "burstPerSecond": self.burst_per_second}


@dataclass(frozen=True, slots=True)
class MetricsSpec:
    per_peer: bool = False
    per_peer_limit: int = 500

    @classmethod
    def read(cls, fields: Fields) -> MetricsSpec:
        values = fields.flag("perPeer", False), fields.number("perPeerLimit", 0, 100_000, 500)
        fields.end()
        return cls(*values)

    def to_json(self) -> dict[str, Any]:
        return {"perPeer": self.per_peer, "perPeerLimit": self.per_peer_limit}


@dataclass(frozen=True, slots=True)
class TunnelSpec:
    """What is not a peer's."""

    namespace: str
    name: str
    uid: str
    private_key: str = field(repr=False)
    addresses: tuple[str, ...]
    """Of the interface, each with its network's length."""
    interface: str = "wg0"
    listen_port: int = 51820
    mtu: int | None = None
    """None: the pod interface's less 80."""
    routes: tuple[str, ...] = ()
    """Networks behind peers, besides the addresses' own."""
    forwarding: ForwardingSpec = ForwardingSpec()
    recovery: RecoverySpec = RecoverySpec()
    replicas: int = 1
    metrics: MetricsSpec = MetricsSpec()
    shared_networks: tuple[str, ...] = ()
    """The cluster's own addresses: all clients may come from one of them (RECOVERY, section 6)."""

    @classmethod
    def read(cls, fields: Fields) -> TunnelSpec:
        spec = cls(
            namespace=fields.text("namespace"),
            name=fields.text("name"),
            uid=fields.text("uid"),
            private_key=fields.key("privateKey"),
            addresses=fields.texts("addresses", check_address),
            interface=_interface(fields),
            listen_port=fields.number("listenPort", 1, 65535, 51820),
            mtu=_mtu(fields),
            routes=fields.texts("routes", check_network),
            forwarding=ForwardingSpec.read(fields.nested("forwarding")),
            recovery=RecoverySpec.read(fields.nested("recovery")),
            replicas=fields.number("replicas", 0, 1000, 1),
            metrics=MetricsSpec.read(fields.nested("metrics")),
            shared_networks=fields.texts("sharedNetworks", check_network),
        )
        fields.end()
        return spec

    def to_json(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "name": self.name,
            "uid": self.uid,
            "interface": self.interface,
            "listenPort": self.listen_port,
            "addresses": list(self.addresses),
            "privateKey": self.private_key,
            "mtu": self.mtu,
            "routes": list(self.routes),
            "forwarding": self.forwarding.to_json(),
            "recovery": self.recovery.to_json(),
            "replicas": self.replicas,
            "metrics": self.metrics.to_json(),
            "sharedNetworks": list(self.shared_networks),
        }


def _interface(fields: Fields) -> str:
    name = fields.text("interface", "wg0")
    if not _INTERFACE.fullmatch(name) or name in {".", ".."}:
        raise fields.wrong("interface", "it is not 1 to 15 letters, digits, or characters of _=+.-")
    return name


def _mtu(fields: Fields) -> int | None:
    value = fields.take("mtu", None)
    if value is not None and (type(value) is not int or not 576 <= value <= 65456):
        raise fields.wrong("mtu", "it is neither null nor a whole number from 576 to 65456")
    return value


@dataclass(frozen=True, slots=True)
class PeerSpec:
    public_key: str
    preshared_key: str | None = field(default=None, repr=False)
    allowed_ips: tuple[str, ...] = ()
    endpoint: str | None = None
    """Address and port; a peer that roams keeps where it was heard until this changes."""
    persistent_keepalive: int = 0
    name: str = ""

    @classmethod
    def read(cls, value: object, where: str = "peer") -> PeerSpec:
        fields = Fields(value, where)
        public_key = fields.key("publicKey")
        fields.where = f"peer {public_key}"
        peer = cls(
            public_key,
            fields.key_or_none("presharedKey"),
            fields.texts("allowedIPs", check_network),
            read_endpoint(fields),
            fields.number("persistentKeepalive", 0, 65535, 0),
            fields.text("name", ""),
        )
        fields.end()
        return peer

    def to_json(self) -> dict[str, Any]:
        return {
            "publicKey": self.public_key,
            "presharedKey": self.preshared_key,
            "allowedIPs": list(self.allowed_ips),
            "endpoint": self.endpoint,
            "persistentKeepalive": self.persistent_keepalive,
            "name": self.name,
        }


def read_endpoint(fields: Fields) -> str | None:
    """`192.0.2.1:51820`, `[2001:db8::1]:51820` or null; never a name."""
    value = fields.take("endpoint", None)
    if value is None:
        return None
    match = _ENDPOINT.fullmatch(value) if type(value) is str else None
    try:
        if match is None or not 0 < int(match[2]) < 65536:
            raise ValueError
        host = match[1].strip("[]")
        check_address(f"{host}/{128 if ':' in host else 32}")
    except ValueError:
        why = "it is not an address and port such as 192.0.2.1:51820 or [2001:db8::1]:51820"
        raise fields.wrong("endpoint", why) from None
    return cast(str, value)


@dataclass(frozen=True, slots=True)
class Configuration:
    """One generation of everything. `peers` by public key."""

    generation: int
    tunnel: TunnelSpec
    peers: Mapping[str, PeerSpec]
    _owners: dict[str, str] = field(init=False, repr=False, compare=False)
    """Of allowed IPs, by public key; once `check` has looked."""

    @classmethod
    def of(cls, generation: int, tunnel: TunnelSpec, peers: Iterable[PeerSpec]) -> Configuration:
        return cls(generation, tunnel, {p.public_key: p for p in sorted(peers, key=lambda p: p.public_key)})

    @classmethod
    def parse(cls, data: bytes) -> Configuration:
        """Packed or not; raises DocumentError."""
        head, lines = read_lines(data, KIND)
        outline = cls._of_head(head)
        generation, tunnel = outline.generation, outline.tunnel
        peers = [PeerSpec.read(parse_json(text, f"line {n}"), f"line {n}") for n, text in lines]
        configuration = cls.of(generation, tunnel, peers)
        configuration.check()
        if len(configuration.peers) != len(peers):
            raise DocumentError(KIND, "a public key comes twice")
        return configuration

    @classmethod
    def outline(cls, data: bytes) -> Configuration:
        """The same without its peers, which nobody has looked at; raises DocumentError."""
        return cls._of_head(read_head(first_line(data), KIND))

    @classmethod
    def _of_head(cls, head: Fields) -> Configuration:
        outline = cls(
            head.number("generation", 0, GENERATION_LIMIT), TunnelSpec.read(head.nested("tunnel")), {}
        )
        head.end()
        return outline

    def check(self) -> None:
        """What no peer shows alone: each allowed IP has one owner."""
        owners: dict[str, str] = {}
        _own(owners, self.peers.values())
        object.__setattr__(self, "_owners", owners)

    def head(self) -> str:
        fields = {"kind": KIND, "version": 1, "generation": self.generation, "tunnel": self.tunnel.to_json()}
        return line(fields)

    def dump(self, *, compressed: bool = True) -> bytes:
        """The same content becomes the same bytes."""
        lines = [self.head(), *(line(peer.to_json()) for _, peer in sorted(self.peers.items()))]
        return pack(lines) if compressed else "".join(lines).encode()

    def patched(self, patch: Patch) -> Configuration:
        """Raises DocumentError where the result would not be a configuration; looks at what changes only."""
        if not hasattr(self, "_owners"):
            self.check()
        peers, owners = dict(self.peers), self._owners.copy()
        for key in (*patch.remove, *(peer.public_key for peer in patch.put)):
            if (former := peers.pop(key, None)) is not None:
                for prefix in former.allowed_ips:
                    owners.pop(prefix, None)
        peers.update((peer.public_key, peer) for peer in patch.put)
        _own(owners, patch.put)
        configuration = Configuration(patch.generation, self.tunnel, peers)
        object.__setattr__(configuration, "_owners", owners)
        return configuration

    def at(self, generation: int) -> Configuration:
        return replace(self, generation=generation)


def _own(owners: dict[str, str], peers: Iterable[PeerSpec]) -> None:
    """Adds what peers have; raises DocumentError where another has it."""
    for peer in peers:
        for prefix in peer.allowed_ips:
            owner = owners.setdefault(prefix, peer.public_key)
            if owner != peer.public_key:
                why = f"peer {owner} has {prefix} too"
                raise DocumentError(f"allowedIPs of peer {peer.public_key}", why)


@dataclass(frozen=True, slots=True)
class Patch:
    """Added, changed and removed peers: from one generation to another."""

    generation: int
    base_generation: int
    put: tuple[PeerSpec, ...] = ()
    remove: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes) -> Patch:
        fields = Fields(parse_json(data, "patch"), "patch")
        patch = cls(
            fields.number("generation", 0, GENERATION_LIMIT),
            fields.number("baseGeneration", 0, GENERATION_LIMIT),
            tuple(map(PeerSpec.read, _list(fields, "put"))),
            fields.texts("remove", partial(_check_key, fields)),
        )
        fields.end()
        keys = [*(peer.public_key for peer in patch.put), *patch.remove]
        if len(set(keys)) != len(keys):
            raise DocumentError("patch", "a public key comes twice")
        if patch.generation <= patch.base_generation:
            raise fields.wrong("generation", "it is not above baseGeneration")
        return patch

    def to_json(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "baseGeneration": self.base_generation,
            "put": [peer.to_json() for peer in self.put],
            "remove": list(self.remove),
        }

    @classmethod
    def between(cls, old: Configuration, new: Configuration) -> Patch:
        """What makes `new` of `old`, where their tunnels are the same."""
        put = tuple(
            peer
            for key, peer in new.peers.items()
            if (former := old.peers.get(key)) is not peer and former != peer
        )
        return cls(new.generation, old.generation, put, tuple(old.peers.keys() - new.peers.keys()))


def _list(fields: Fields, name: str) -> list[object]:
    value = fields.take(name, [])
    if not isinstance(value, list):
        raise fields.wrong(name, "it is not a list")
    return value


def _check_key(fields: Fields, text: str) -> None:
    Fields({"remove": text}, fields.where).key("remove")
