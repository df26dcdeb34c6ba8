"""What the operator is told by its environment, which the chart fills in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class SettingsError(ValueError):
    """The environment is not as the chart makes it."""


@dataclass(frozen=True, slots=True)
class Settings:
    namespace: str = "handfast-system"
    """Where the operator runs, and keeps its Lease and its authority."""
    identity: str = "operator"
    """Its pod's name: who holds the Lease."""
    deployment: str = ""
    """Its Deployment, to which belongs what it makes beside itself."""
    tunnels_stay: bool = True
    """Whether they do when that is deleted."""
    watch_namespaces: tuple[str, ...] = ()
    """Which namespaces it serves; none means all."""
    tunnel_image: str = "handfast-tunnel:latest"
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    shared_networks: tuple[str, ...] = ()
    """Addresses that many clients may share: those of nodes and Services."""
    operator_labels: Mapping[str, str] = field(
        default_factory=lambda: {"app.kubernetes.io/name": "handfast-operator"}
    )
    """By which network policies know its pods."""
    metrics_namespaces: Mapping[str, Any] = field(default_factory=dict)
    """A selector of the namespaces that may read metrics; empty: any."""
    injector: str = "handfast-injector"
    """The injector's name: its Service, its webhook's configuration, and its Secret with -tls behind it."""
    injector_tls: str = ""
    """A folder with the injector's certificate, where something else keeps that, as cert-manager."""
    injector_port: int = 8443
    health_port: int = 8080
    metrics_port: int = 8081

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises SettingsError."""
        values: dict[str, Any] = {}
        for variable, (name, convert) in _VARIABLES.items():
            if text := environment.get(variable):
                try:
                    values[name] = convert(text)
                except (ValueError, TypeError) as error:
                    raise SettingsError(f"{variable}={text!r} cannot be read: {error}") from None
        return cls(**values)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


_VARIABLES: Mapping[str, tuple[str, Any]] = {
    "HANDFAST_NAMESPACE": ("namespace", str),
    "HANDFAST_IDENTITY": ("identity", str),
    "HANDFAST_DEPLOYMENT": ("deployment", str),
    "HANDFAST_TUNNELS_STAY": ("tunnels_stay", json.loads),
    "HANDFAST_WATCH_NAMESPACES": ("watch_namespaces", _words),
    "HANDFAST_TUNNEL_IMAGE": ("tunnel_image", str),
    "HANDFAST_IMAGE_PULL_POLICY": ("image_pull_policy", str),
    "HANDFAST_IMAGE_PULL_SECRETS": ("image_pull_secrets", _words),
    "HANDFAST_SHARED_NETWORKS": ("shared_networks", _words),
    "HANDFAST_OPERATOR_LABELS": ("operator_labels", json.loads),
    "HANDFAST_METRICS_NAMESPACES": ("metrics_namespaces", json.loads),
    "HANDFAST_INJECTOR": ("injector", str),
    "HANDFAST_INJECTOR_TLS": ("injector_tls", str),
    "HANDFAST_INJECTOR_PORT": ("injector_port", int),
    "HANDFAST_HEALTH_PORT": ("health_port", int),
    "HANDFAST_METRICS_PORT": ("metrics_port", int),
}
