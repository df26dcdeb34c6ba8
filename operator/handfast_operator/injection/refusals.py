"""Which pods the tunnel is not put into: the first reason, as a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .. import names
from ..resources import TunnelSpec
from .origin import Origin
from .others import Other
from .pod import shares

ENFORCE: Final = "pod-security.kubernetes.io/enforce"
_FORBIDDING: Final = {"baseline", "restricted"}
"""Levels of Pod Security that allow neither NET_ADMIN nor the node's /dev/net/tun."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A pod that wants a tunnel, and all that decides whether it gets it."""

    pod: Mapping[str, Any]
    namespace: str
    namespace_labels: Mapping[str, str]
    tunnel: str
    """As its label has it."""
    spec: TunnelSpec | None
    """None: there is no such Tunnel."""
    origin: Origin | None = None
    others: Sequence[Other] = ()
    """What has pods with the same Tunnel, besides."""


def refusal(asked: Asked) -> str | None:
    return next((reason for check in _CHECKS if (reason := check(asked))), None)


def _tunnel(asked: Asked) -> str | None:
    if not asked.tunnel:
        return f"the label {names.TUNNEL_LABEL} is empty: name a Tunnel of this namespace in it"
    if asked.spec is None:
        return (
            f"there is no Tunnel {asked.tunnel} in the namespace {asked.namespace}: make it, or name another"
            f" one in the label {names.TUNNEL_LABEL}"
        )
    if asked.spec.gateway is not None:
        return (
            f"the Tunnel {asked.tunnel} has pods of its own, by its spec.gateway: name a Tunnel without that"
            f" in the label {names.TUNNEL_LABEL}"
        )
    return None


def _shared_processes(asked: Asked) -> str | None:
    if asked.pod["spec"].get("shareProcessNamespace"):
        return (
            "with shareProcessNamespace: true the other containers could read the tunnel's keys: set it to"
            " false"
        )
    return None


def _host_network(asked: Asked) -> str | None:
    if asked.pod["spec"].get("hostNetwork"):
        return (
            "with hostNetwork: true the tunnel would be the whole node's: set it to false, or make a Tunnel"
            " with gateway.exposure: HostNetwork"
        )
    return None


def _pod_security(asked: Asked) -> str | None:
    level = asked.namespace_labels.get(ENFORCE, "")
    if level in _FORBIDDING:
        return (
            f"the namespace {asked.namespace} enforces the Pod Security level {level}, which forbids the"
            f" tunnel's NET_ADMIN: `kubectl label --overwrite namespace {asked.namespace}"
            f" {ENFORCE}=privileged`, or move the pod to another namespace"
        )
    return None


def _ports(asked: Asked) -> str | None:
    assert asked.spec is not None
    ours = {
        ("UDP", asked.spec.listen_port): "its spec.listenPort",
        ("TCP", names.CONTROL_PORT): "its control port",
        ("TCP", names.METRICS_PORT): "its metrics",
    }
    for container in asked.pod["spec"].get("containers") or ():
        for port in container.get("ports") or ():
            used = port.get("protocol", "TCP"), port["containerPort"]
            if used in ours:
                return (
                    f"the container {container['name']} has the {used[0]} port {used[1]}, and so has the"
                    f" tunnel, as {ours[used]}: let one of them use another port"
                )
    return None


def _replicas(asked: Asked) -> str | None:
    if asked.origin is None or not asked.origin.several or shares(asked.pod):
        return None
    return (
        f"{asked.origin}, and one of them at a time has the tunnel: the apps in the others would be without"
        f' it. Set replicas: 1, or the label {names.STANDBY_LABEL}: "true" on the pod template if they may be'
    )


def _other_owner(asked: Asked) -> str | None:
    alone = next((each for each in asked.others if not (each.shares and shares(asked.pod))), None)
    if alone is None:
        return None
    return (
        f"{alone.owner} has pods with the Tunnel {asked.tunnel} already, and one pod at a time has it: make a"
        f' Tunnel for each, or set the label {names.STANDBY_LABEL}: "true" on the pod templates of both if'
        " their apps may be without it"
    )


_CHECKS: Final[tuple[Callable[[Asked], str | None], ...]] = (
    _tunnel,
    _shared_processes,
    _host_network,
    _pod_security,
    _ports,
    _replicas,
    _other_owner,
)
