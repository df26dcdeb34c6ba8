"""The control API's words: documents, calls, the table of roles, and a client.

The operator imports only this of the tunnel; nothing here needs cryptography, and only the client aiohttp.
"""

from __future__ import annotations

from .client import ControlClient
from .configuration import (
    Configuration,
    ForwardingSpec,
    MetricsSpec,
    Patch,
    PeerSpec,
    RecoverySpec,
    TunnelSpec,
)
from .errors import ControlError, DocumentError, Refused
from .export import Export
from .roles import Role
from .state import PeerState, State
from .status import FamilyStatus, ForwardingStatus, PeerStatus, RecoveryProgress, Status
from .trust import OPERATOR_URI, TlsFiles, sidecar_uri

__all__ = [
    "OPERATOR_URI",
    "Configuration",
    "ControlClient",
    "ControlError",
    "DocumentError",
    "Export",
    "FamilyStatus",
    "ForwardingSpec",
    "ForwardingStatus",
    "MetricsSpec",
    "Patch",
    "PeerSpec",
    "PeerState",
    "PeerStatus",
    "RecoveryProgress",
    "RecoverySpec",
    "Refused",
    "Role",
    "State",
    "Status",
    "TlsFiles",
    "TunnelSpec",
    "sidecar_uri",
]
