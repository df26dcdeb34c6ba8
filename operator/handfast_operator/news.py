"""What people are told by events: what has changed for the worse since a status was last written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from .resources import API_VERSION

_TUNNEL: Final = {"KeyAvailable": "False", "ForwardingReady": "False", "Degraded": "True"}
_PEER: Final = {"Accepted": "False", "ConfigReady": "False"}
"""By condition: what is bad."""
_KNOWN: Final = {"NoSecret", "EndpointUnknown", "TunnelNotFound"}
"""Of ConfigReady: what another condition says, or a Tunnel that has only begun."""

Conditions = Iterable[Mapping[str, Any]]


def subject(kind: str, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """Whom an event is about."""
    return {"apiVersion": API_VERSION, "kind": kind, "namespace": namespace, "name": name, "uid": uid}


def of_tunnel(former: Conditions, wanted: Conditions) -> list[tuple[str, str]]:
    """Reason and message of each event."""
    return _worse(_TUNNEL, former, wanted)


def of_peer(former: Conditions, wanted: Conditions) -> list[tuple[str, str]]:
    known = [each for each in wanted if each["type"] != "ConfigReady" or each["reason"] not in _KNOWN]
    return _worse(_PEER, former, known)


def _worse(bad: Mapping[str, str], former: Conditions, wanted: Conditions) -> list[tuple[str, str]]:
    before = {each["type"]: (each["status"], each["reason"]) for each in former}
    return [
        (each["reason"], each["message"])
        for each in wanted
        if bad.get(each["type"]) == each["status"]
        and before.get(each["type"]) != (each["status"], each["reason"])
    ]
