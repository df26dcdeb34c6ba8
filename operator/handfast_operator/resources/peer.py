"""The Peer: one client of a Tunnel."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .fields import (
    AddressAndPort,
    Conditions,
    HostAddress,
    Keepalive,
    LocalReference,
    Model,
    Network,
    PublicKey,
    Resolver,
    SecretKey,
    rules,
)

_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
_FAMILY = "(isIP(a) ? ip(a).family() : isCIDR(a) ? cidr(a).ip().family() : 0)"


class PeerClient(Model):
    """What this client's configuration says; null for what the Tunnel says."""

    allowed_ips: Annotated[tuple[Network, ...], Field(max_length=64, json_schema_extra=_ATOMIC)] | None = (
        Field(default=None, alias="allowedIPs")
    )
    """What it sends into the tunnel."""
    dns: Annotated[tuple[Resolver, ...], Field(max_length=8, json_schema_extra=_ATOMIC)] | None = None
    """DNS servers that it uses while connected."""
    persistent_keepalive: Keepalive | None = None
    """Seconds between packets that keep a NAT open; 0 for none."""


class PeerSpec(Model):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!has(self.publicKey) || self.keyRotation == 0",
                "keyRotation is for generated keys: with a publicKey of your own, change that",
            ),
        )
    )

    tunnel_ref: Annotated[
        LocalReference,
        Field(
            json_schema_extra=rules(("self == oldSelf", "tunnelRef cannot change: make a new Peer instead"))
        ),
    ]
    """The Tunnel, in the same namespace."""
    public_key: PublicKey | None = None
    """The client's own; its private key then never is in the cluster. Else a pair is generated."""
    key_rotation: Annotated[
        int,
        Field(
            ge=0,
            json_schema_extra=rules(("self >= oldSelf", "keyRotation only rises: each number is a new key")),
        ),
    ] = 0
    """Raise it to have a new key generated."""
    preshared_key_secret_ref: SecretKey | None = None
    """A preshared key of your own, as `wg genpsk` prints it."""
    addresses: Annotated[
        tuple[HostAddress, ...],
        Field(
            max_length=2,
            json_schema_extra={
                **_ATOMIC,
                **rules(
                    (f"self.filter(a, {_FAMILY} == 4).size() <= 1", "at most one IPv4 address"),
                    (f"self.filter(a, {_FAMILY} == 6).size() <= 1", "at most one IPv6 address"),
                ),
            },
        ),
    ] = ()
    """Fixed ones; for each family without, one is taken from a pool."""
    routes: Annotated[tuple[Network, ...], Field(max_length=64, json_schema_extra=_ATOMIC)] = ()
    """Networks behind this client; within the Tunnel's allowedRoutes."""
    endpoint: AddressAndPort | None = None
    """Where the gateway reaches it, before it has said anything: for sites with a fixed address."""
    persistent_keepalive: Keepalive = 0
    """Seconds between packets that the gateway sends to it; 0 for none."""
    client: PeerClient = PeerClient()
    """What this client's configuration says."""
    disabled: bool = False
    """It is not served, and keeps its address and key."""
    expires_at: Annotated[str, Field(json_schema_extra={"format": "date-time"})] | None = None
    """From then on it is not served."""


class PeerStatus(Model):
    """What is."""

    observed_generation: int = 0
    """Of the spec that this tells about."""
    public_key: str = ""
    """The client's."""
    key_rotation: int = 0
    """That this key was generated for."""
    addresses: Annotated[tuple[str, ...], Field(json_schema_extra=_ATOMIC)] = ()
    """What it is reached at inside the tunnel."""
    secret_name: str = ""
    """Where its configuration is."""
    config_generation: int = 0
    """Of the Tunnel's configuration that first served it as it is."""
    connected: bool = False
    """Whether it was heard from in the last three minutes."""
    last_connected_time: str = ""
    """When that last became true."""
    conditions: Conditions = ()
    """Accepted, Programmed, ConfigReady, Ready."""


class Peer(Model):
    """One client of a Tunnel."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.size() <= 200",
                "a Peer's name is part of its Secret's: at most 200 characters",
            ),
        )
    )

    spec: PeerSpec
    """What is wanted."""
    status: PeerStatus = PeerStatus()
    """What is."""
