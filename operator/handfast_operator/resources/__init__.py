"""The kinds of the API group handfast.dev, as typed models; everything else about them is generated."""

from __future__ import annotations

from .peer import Peer, PeerSpec, PeerStatus
from .tunnel import Tunnel, TunnelSpec, TunnelStatus

GROUP = "handfast.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Peer",
    "PeerSpec",
    "PeerStatus",
    "Tunnel",
    "TunnelSpec",
    "TunnelStatus",
]
