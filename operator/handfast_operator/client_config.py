"""What a client is given: a file that `wg-quick` reads as it is, and the keys in it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_network

from .addresses import Network
from .keys import KeyPair
from .resources import PeerSpec, TunnelSpec


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a client has to know about its gateway."""

    public_key: str
    endpoint: str
    tunnel: TunnelSpec


def render(
    title: str,
    peer: PeerSpec,
    addresses: Iterable[Network],
    own: KeyPair | None,
    preshared_key: str | None,
    gateway: Gateway,
) -> str:
    """`own` is None where the client keeps its private key to itself."""
    addresses = tuple(addresses)
    defaults, special = gateway.tunnel.client, peer.client
    families = {network.version for network in addresses}
    allowed = defaults.allowed_ips if special.allowed_ips is None else special.allowed_ips
    keepalive = defaults.persistent_keepalive
    if special.persistent_keepalive is not None:
        keepalive = special.persistent_keepalive
    resolvers = defaults.dns if special.dns is None else special.dns
    interface = [
        ("PrivateKey", own.private if own else None),
        ("Address", ", ".join(map(str, addresses))),
        ("DNS", ", ".join([*resolvers, *defaults.search_domains])),
        ("MTU", gateway.tunnel.mtu),
    ]
    peer_section = [
        ("PublicKey", gateway.public_key),
        ("PresharedKey", preshared_key),
        # A route of a family in which the client has no address would only swallow its packets.
        ("AllowedIPs", ", ".join(text for text in allowed if ip_network(text).version in families)),
        ("Endpoint", gateway.endpoint),
        ("PersistentKeepalive", keepalive),
    ]
    note = [] if own else ["# Add your own: PrivateKey = ..."]
    lines = [f"# {title}", "[Interface]", *note, *_lines(interface), "", "[Peer]", *_lines(peer_section)]
    return "\n".join(lines) + "\n"


def _lines(section: Iterable[tuple[str, object]]) -> list[str]:
    return [f"{name} = {value}" for name, value in section if value]
