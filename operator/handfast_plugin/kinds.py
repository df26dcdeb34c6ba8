"""Names that the plugin shares with operator and tunnel, and where the API server has each kind.

The operator's own are not imported: that takes pydantic, and longer than an answer may take to begin.
"""

from __future__ import annotations

from typing import Any, Final

Object = dict[str, Any]
"""As the API server has it."""

GROUP: Final = "handfast.dev"
VERSION: Final = "v1alpha1"
TUNNEL_LABEL: Final = f"{GROUP}/tunnel"
FROM_TERM: Final = f"{GROUP}/hand-over-from-term"
"""Annotation of a Tunnel: the operator hands over from the activation of this term."""
MANAGED_BY: Final = {"app.kubernetes.io/managed-by": "handfast"}
"""Labels of what the operator makes."""
CONTAINERS: Final = ("tunnel", "handfast-tunnel")
"""A tunnel's in a gateway's pod, and beside an app."""
OPERATOR_SELECTOR: Final = "app.kubernetes.io/name=handfast-operator"
PART_OF: Final = "app.kubernetes.io/part-of=handfast"
AUTHORITY_SECRET: Final = "handfast-ca"  # noqa: S105  a Secret's name
LEASE: Final = "handfast-operator"

_OURS: Final = f"/apis/{GROUP}/{VERSION}"
_ROOTS: Final = {
    "tunnels": _OURS,
    "peers": _OURS,
    "events": "/api/v1",
    "namespaces": "/api/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "deployments": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "customresourcedefinitions": "/apis/apiextensions.k8s.io/v1",
    "mutatingwebhookconfigurations": "/apis/admissionregistration.k8s.io/v1",
}


def path(plural: str, namespace: str | None = None, name: str = "") -> str:
    """Of one object, or of all; namespace None: of all namespaces, or of a kind that has none."""
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{_ROOTS[plural]}{inside}/{plural}" + (f"/{name}" if name else "")


def tls_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-tls"


def key_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-key"


def condition(of: Object, kind: str) -> Object:
    """Empty where it is not there."""
    found = of.get("status", {}).get("conditions") or ()
    return next((each for each in found if each["type"] == kind), {})


def is_ready(of: Object) -> bool:
    return condition(of, "Ready").get("status") == "True"
