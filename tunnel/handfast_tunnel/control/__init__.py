"""The control API's words: documents, calls, the table of roles, and a client.

The operator imports only this of the tunnel; nothing here needs cryptography. Each name is loaded when it is
first asked for: a pod's first packets wait for what its start imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .account import News, SealedAccount
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

_HOMES: Final = {
    "Configuration": "configuration",
    "ControlClient": "client",
    "ControlError": "errors",
    "DocumentError": "errors",
    "Export": "export",
    "FamilyStatus": "status",
    "ForwardingSpec": "configuration",
    "ForwardingStatus": "status",
    "MetricsSpec": "configuration",
    "News": "account",
    "OPERATOR_URI": "trust",
    "Patch": "configuration",
    "PeerSpec": "configuration",
    "PeerState": "state",
    "PeerStatus": "status",
    "RecoveryProgress": "status",
    "RecoverySpec": "configuration",
    "Refused": "errors",
    "Role": "roles",
    "SealedAccount": "account",
    "State": "state",
    "Status": "status",
    "TlsFiles": "trust",
    "TunnelSpec": "configuration",
    "sidecar_uri": "trust",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


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
    "News",
    "Patch",
    "PeerSpec",
    "PeerState",
    "PeerStatus",
    "RecoveryProgress",
    "RecoverySpec",
    "Refused",
    "Role",
    "SealedAccount",
    "State",
    "Status",
    "TlsFiles",
    "TunnelSpec",
    "sidecar_uri",
]
