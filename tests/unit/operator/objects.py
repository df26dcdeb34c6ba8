"""Tunnels, Peers and pods for tests, as the API server would have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from handfast_operator import keys
from handfast_operator.membership import PeerObject
from handfast_operator.resources import TunnelSpec
from handfast_operator.roles import Answer, PodView
from handfast_operator.tunnel_state import TunnelObject
from handfast_operator.workload import Owner
from handfast_tunnel.control import Role

OWNER = Owner("vpn", "office", "uid-of-office")
SPEC: dict[str, Any] = {
    "addresses": ["10.8.0.1/24", "fd00:8::1/64"],
    "pools": [{"cidr": "10.8.0.0/24"}, {"cidr": "fd00:8::/64"}],
    "gateway": {},
}


def tunnel_spec(**changes: Any) -> TunnelSpec:
    return TunnelSpec.model_validate(SPEC | changes)


def tunnel_body(status: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "handfast.dev/v1alpha1",
        "kind": "Tunnel",
        "metadata": {"name": OWNER.name, "namespace": OWNER.namespace, "uid": OWNER.uid, "generation": 1},
        "spec": SPEC | changes,
        "status": dict(status or {}),
    }


def tunnel_object(status: Mapping[str, Any] | None = None, **changes: Any) -> TunnelObject:
    return TunnelObject.parse(tunnel_body(status, **changes))


def peer_body(
    name: str, age: int = 0, status: Mapping[str, Any] | None = None, **spec: Any
) -> dict[str, Any]:
    """`age` in seconds: older ones were made earlier."""
    created = 1_700_000_000 - age
    return {
        "apiVersion": "handfast.dev/v1alpha1",
        "kind": "Peer",
        "metadata": {
            "name": name,
            "namespace": OWNER.namespace,
            "uid": f"uid-of-{name}",
            "generation": 1,
            "creationTimestamp": f"{created:012d}",
        },
        "spec": {"tunnelRef": {"name": OWNER.name}} | spec,
        "status": dict(status or {}),
    }


def peer_object(name: str, age: int = 0, status: Mapping[str, Any] | None = None, **spec: Any) -> PeerObject:
    return PeerObject.parse(peer_body(name, age, status, **spec))


def public_keys(peers: Iterable[PeerObject]) -> dict[str, str]:
    return {peer.uid: peer.spec.public_key or keys.generate().public for peer in peers}


def pod(
    name: str,
    role: Role | None = None,
    term: int = 0,
    *,
    heard: int = 0,
    offering: bool = False,
    ready: bool = True,
    knows: bool = False,
    **more: Any,
) -> PodView:
    answer = Answer(role, term, max(heard, term), 1, offering, knows) if role else None
    return PodView(name, f"uid-of-{name}", ready=ready, answer=answer, **more)
