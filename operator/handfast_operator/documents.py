"""From specs to the documents that the pods read; their form is the control API's."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Final, Literal

from handfast_tunnel.control import (
    Configuration,
    ForwardingSpec,
    MetricsSpec,
    Patch,
    PeerSpec,
    RecoverySpec,
    TunnelSpec,
)

from . import resources
from .workload import Owner

CONFIG_KEY: Final = "config.jsonl.gz"
STATE_KEY: Final = "state.jsonl.gz"
MOST_BYTES: Final = 1_000_000
"""Of a gzipped document: the API server refuses a Secret above 1 MiB. 10,000 peers with preshared keys have
788 kB."""


def tunnel(
    owner: Owner, spec: resources.TunnelSpec, private_key: str, shared_networks: Iterable[str]
) -> TunnelSpec:
    forwarding, recovery = spec.forwarding, spec.recovery
    return TunnelSpec(
        namespace=owner.namespace,
        name=owner.name,
        uid=owner.uid,
        private_key=private_key,
        addresses=spec.addresses,
        listen_port=spec.listen_port,
        mtu=spec.mtu,
        routes=spec.allowed_routes,
        forwarding=ForwardingSpec(
            ipv4=forwarding.ipv4 == "Auto" and any("." in address for address in spec.addresses),
            ipv6=forwarding.ipv6 == "Auto" and any(":" in address for address in spec.addresses),
            masquerade=forwarding.masquerade,
            clamp_mss=forwarding.clamp_mss,
        ),
        recovery=RecoverySpec(
            announce=_announce(spec),
            timers="strict" if recovery.timers == "Strict" else "recovery",
            burst_per_second=recovery.burst_per_second,
        ),
        replicas=spec.gateway.replicas if spec.gateway else 1,
        metrics=MetricsSpec(spec.metrics.per_peer, spec.metrics.per_peer_limit),
        shared_networks=tuple(sorted(shared_networks)),
    )


def peer(
    spec: resources.PeerSpec,
    name: str,
    public_key: str,
    preshared_key: str | None,
    allowed_ips: Iterable[object],
) -> PeerSpec:
    return PeerSpec(
        public_key,
        preshared_key,
        tuple(map(str, allowed_ips)),
        spec.endpoint,
        spec.persistent_keepalive,
        name,
    )


def same(one: Configuration | None, other: Configuration) -> bool:
    """Whether both say the same, whatever their generations are."""
    return one is not None and one.tunnel == other.tunnel and one.peers == other.peers


def difference(old: Configuration | None, new: Configuration) -> Patch | None:
    """What turns one into the other; None if more than peers has changed."""
    if old is None or old.tunnel != new.tunnel:
        return None
    return Patch.between(old, new)


def encode(document: bytes) -> str:
    """As a Secret's data."""
    return base64.b64encode(document).decode()


def _announce(spec: resources.TunnelSpec) -> Literal["always", "never"]:
    """Never from an address that clients do not know, as a pod's behind a Service: they would follow it."""
    if spec.recovery.announce != "Auto":
        return "always" if spec.recovery.announce == "Always" else "never"
    host_network = spec.gateway is not None and spec.gateway.exposure == "HostNetwork"
    return "always" if host_network else "never"
