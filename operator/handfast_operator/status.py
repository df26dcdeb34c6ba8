"""What is said about a Tunnel and its Peers: pure functions from what is known to the statuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import names, roles
from .conditions import Finding, conditions
from .membership import Member, PeerObject
from .roles import PodView
from .tunnel_state import TunnelState

Object = dict[str, Any]


def tunnel(
    state: TunnelState, pods: Iterable[PodView], peers: int, ready: int, former: Mapping[str, Any], now: float
) -> Object:
    """`former` is the status that was last written: what is read lags behind."""
    pods = tuple(pods)
    tunnel = state.tunnel
    status: Object = {
        "observedGeneration": tunnel.generation,
        "configGeneration": state.config.generation if state.config else 0,
        "appliedGeneration": state.applied(),
        "standbys": len(roles.standbys(pods)),
        "peers": {"total": peers, "ready": ready, "connected": sum(state.connected.values())},
        "pools": [{"cidr": cidr, "free": free} for cidr, free in state.membership.free]
        if state.membership
        else [],
        "conditions": conditions(
            tunnel_findings(state, pods), former.get("conditions", ()), tunnel.generation, now
        ),
    }
    optional: Object = {
        "publicKey": state.key.public if state.key else tunnel.status.public_key,
        "endpoint": state.endpoint,
        "active": state.active,
        "lastHandover": state.last_handover,
        "outboundTimestampCeiling": state.ceiling,
    }
    return status | {name: value for name, value in optional.items() if value}


def tunnel_findings(state: TunnelState, pods: tuple[PodView, ...]) -> list[Finding]:
    spec = state.tunnel.spec
    found = dict(state.findings)
    found["EndpointReady"] = (
        Finding("EndpointReady", "True", "Known", f"clients reach it at {state.endpoint}")
        if state.endpoint
        else Finding(
            "EndpointReady", "False", "Unknown", f"{state.endpoint_reason}; clients get no configuration yet"
        )
    )
    winner = roles.active(pods)
    found["Active"] = (
        Finding("Active", "True", "PodActive", f"{winner.name} serves") if winner else _nobody(state, pods)
    )
    if spec.gateway is not None:
        found["StandbyReady"] = _standby(spec.gateway.replicas, pods)
    elif len(pods) > 1:
        found["StandbyReady"] = _standby(len(pods), pods)
    found["ForwardingReady"] = _forwarding(state, winner)
    found.setdefault("KeyAvailable", Finding("KeyAvailable", "Unknown", "NotRead"))
    found.setdefault("Degraded", Finding("Degraded", "False", "Fine"))
    needed = [name for name in ("KeyAvailable", "EndpointReady", "Active") if name in found]
    bad = next((found[name] for name in needed if found[name].status != "True"), None)
    ready = (
        Finding("Ready", "True", "Ready")
        if bad is None
        else Finding("Ready", "False", bad.reason, bad.message)
    )
    order = [
        "Ready",
        "KeyAvailable",
        "EndpointReady",
        "ForwardingReady",
        "Active",
        "StandbyReady",
        "Degraded",
    ]
    found["Ready"] = ready
    return [found[name] for name in order if name in found]


def _nobody(state: TunnelState, pods: tuple[PodView, ...]) -> Finding:
    """That an app which has the tunnel does not run is nobody's fault."""
    if not pods and state.tunnel.spec.gateway is None:
        label = f"{names.TUNNEL_LABEL}: {state.tunnel.owner.name}"
        message = f"it is in no pod now: put the label {label} on a pod template in this namespace"
        return Finding("Active", "Unknown", "NoPod", message)
    return Finding("Active", "False", "NoActivePod", _why_nobody(pods))


def _why_nobody(pods: tuple[PodView, ...]) -> str:
    if not pods:
        return "there is no pod yet: see the events of the Deployment"
    if any(pod.answer for pod in pods):
        return "no pod is ready to become active"
    return "no pod answers the operator: see their logs, and whether a network policy is in the way"


def _standby(replicas: int, pods: tuple[PodView, ...]) -> Finding:
    if replicas == 1:
        return Finding("StandbyReady", "False", "OneReplica", "with replicas: 1 there is none")
    count = len(roles.standbys(pods))
    message = "" if count else "no second pod is ready to take over: see the events of the Deployment"
    return Finding.of("StandbyReady", count > 0, "Standby" if count else "NoStandby", message)


def _forwarding(state: TunnelState, winner: PodView | None) -> Finding:
    seen = state.seen.get(winner.uid) if winner else None
    if seen is None or seen.status is None:
        return Finding("ForwardingReady", "Unknown", "NoActivePod")
    wanted = state.config.tunnel.forwarding if state.config else None
    forwarding = seen.status.forwarding
    for name, family, want in (
        ("IPv4", forwarding.ipv4, wanted is None or wanted.ipv4),
        ("IPv6", forwarding.ipv6, wanted is None or wanted.ipv6),
    ):
        if want and not family.ready:
            reason = family.reason or f"{name}ForwardingOff"
            return Finding(
                "ForwardingReady",
                "False",
                reason,
                f"no {name} packets are forwarded ({reason}); forwarding.{name.lower()}: Off accepts that",
            )
    return Finding("ForwardingReady", "True", "Forwarding")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a Peer besides what was decided about it."""

    public_key: str
    rotation: int
    served: int | None
    """The generation that serves it as it is, once the active pod has it."""
    connected: bool
    last_connected: str
    former: Mapping[str, Any]
    """The status that was last written: what is read lags behind."""


def peer(member: Member, known: Known, config_ready: Finding, now: float) -> Object:
    subject = member.peer
    accepted = (
        Finding("Accepted", "False", member.refusal.reason, member.refusal.message)
        if member.refusal
        else Finding("Accepted", "True", "Accepted")
    )
    programmed = _programmed(member, known.served)
    bad = next((each for each in (accepted, programmed, config_ready) if each.status != "True"), None)
    ready = (
        Finding("Ready", "True", "Ready")
        if bad is None
        else Finding("Ready", "False", bad.reason, bad.message)
    )
    status: Object = {
        "observedGeneration": subject.generation,
        "keyRotation": known.rotation,
        "configGeneration": known.served or 0,
        "connected": known.connected,
        "conditions": conditions(
            [accepted, programmed, config_ready, ready],
            known.former.get("conditions", ()),
            subject.generation,
            now,
        ),
    }
    optional: Object = {
        "publicKey": known.public_key,
        "addresses": [str(network) for network in member.addresses] or list(subject.status.addresses),
        "secretName": f"{subject.name}-handfast" if config_ready.reason != "NoSecret" else "",
        "lastConnectedTime": known.last_connected,
    }
    return status | {name: value for name, value in optional.items() if value}


def _programmed(member: Member, served: int | None) -> Finding:
    if member.refusal is not None:
        return Finding("Programmed", "False", member.refusal.reason, "it is not accepted")
    if member.dormant is not None:
        what = "spec.disabled" if member.dormant == "Disabled" else "spec.expiresAt"
        return Finding("Programmed", "False", member.dormant, f"it is not served, because of {what}")
    if served is None:
        return Finding("Programmed", "False", "Pending", "the active pod has not confirmed it yet")
    return Finding("Programmed", "True", "Programmed")


def tunnel_not_found(peer: PeerObject, now: float) -> Object:
    """The status of a Peer whose Tunnel is not there; what it was given stays its own."""
    message = f"there is no Tunnel {peer.spec.tunnel_ref.name} in this namespace"
    found = [
        Finding("Accepted", "False", "TunnelNotFound", message),
        Finding("Programmed", "False", "TunnelNotFound", message),
        Finding("ConfigReady", "False", "TunnelNotFound", message),
        Finding("Ready", "False", "TunnelNotFound", message),
    ]
    former = peer.status
    status: Object = {
        "observedGeneration": peer.generation,
        "keyRotation": former.key_rotation,
        "configGeneration": former.config_generation,
        "connected": False,
        "conditions": conditions(found, peer.raw_status.get("conditions", ()), peer.generation, now),
    }
    optional: Object = {
        "publicKey": former.public_key,
        "addresses": list(former.addresses),
        "secretName": former.secret_name,
        "lastConnectedTime": former.last_connected_time,
    }
    return status | {name: value for name, value in optional.items() if value}
