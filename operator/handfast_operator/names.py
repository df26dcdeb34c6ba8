"""Names and labels of everything that the operator makes."""

from __future__ import annotations

import re
from typing import Final

from .resources import GROUP

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")

MANAGER = "handfast"
"""Field manager of all that is applied; also the value of the label `app.kubernetes.io/managed-by`."""
ROLES = "handfast-roles"
"""Field manager of the Service's selector, which moves with roles and not with specs."""

TUNNEL_LABEL = f"{GROUP}/tunnel"
POD_LABEL = f"{GROUP}/pod"
STANDBY_LABEL = f"{GROUP}/standby"
"""On pods that share an injected Tunnel: "true" says that their apps may be without it."""
UPGRADES = f"{GROUP}/upgrades"
"""Annotation of a pod: "true" says that its sidecar gets new images from the operator. The injector gives it
to those that it puts there; whoever writes a sidecar by hand has also chosen its image."""
UPGRADING = f"{GROUP}/upgrading"
"""Annotation of a pod whose sidecar's image was replaced in its place: what it was like before."""
UPGRADE_FAILED = f"{GROUP}/upgrade-failed"
"""Annotation of a pod: the image that its sidecar could not be upgraded to, and why. Without it, it is tried
again."""
MANAGED_BY = {"app.kubernetes.io/managed-by": MANAGER}
NOBODY = "nobody"
"""What the Service selects while no pod is active; no pod has this name: theirs end in a dash and five
characters."""

UDP_PORT_NAME = "wireguard"
CONTROL_PORT = 9587
METRICS_PORT = 9586


def is_name(text: str) -> bool:
    """Whether an object can be called so. In a path, anything else could lead elsewhere."""
    return _NAME.fullmatch(text) is not None


def labels(tunnel: str) -> dict[str, str]:
    return {TUNNEL_LABEL: tunnel, "app.kubernetes.io/name": "handfast-tunnel", **MANAGED_BY}


def key_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-key"


def config_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-config"


def state_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-state"


def tls_secret(tunnel: str) -> str:
    return f"{tunnel}-handfast-tls"


def peer_secret(peer: str) -> str:
    return f"{peer}-handfast"
