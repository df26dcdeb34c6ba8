"""`kubectl handfast peers`: who the clients are, and how each came back the last time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import pods
from .api import Api
from .errors import Forbidden
from .kinds import Object, condition, is_ready
from .pods import Client
from .screen import NOTHING, Column, Screen, age, duration, table
from .status import yes

_COLUMNS: Final = (
    Column("NAMESPACE", least=9),
    Column("PEER", least=12),
    Column("TUNNEL", least=6, optional=True),
    Column("ADDRESS", least=10),
    Column("READY", colours={"yes": "green"}),
    Column("CONNECTED", colours={"yes": "green"}),
    Column("HEARD", right=True),
    Column("BACK BY", colours={"resumed": "green"}),
    Column("OUTAGE", right=True),
    Column("ENDPOINT", least=15, optional=True),
)
_LIVE: Final = ("HEARD", "BACK BY", "OUTAGE", "ENDPOINT")
Key = tuple[str, str]
"""Namespace and name of a Tunnel."""


@dataclass(frozen=True, slots=True)
class Report:
    peers: Sequence[Object]
    clients: Mapping[Key, Mapping[str, Client]]
    """By Tunnel and public key, as the active pod has them; a Tunnel whose pod was not asked is missing."""
    missing: Forbidden | None = None


def gather(api: Api, namespace: str | None, tunnel: str | None) -> Report:
    """Namespace None: of all; a Tunnel: of that one."""
    if tunnel is not None:
        tunnels = [api.get("tunnels", namespace, tunnel)]
        found = api.list("peers", namespace, fields=f"spec.tunnelRef.name={tunnel}")
    else:
        tunnels, found = api.list("tunnels", namespace), api.list("peers", namespace)
    clients: dict[Key, Mapping[str, Client]] = {}
    try:
        for tunnel_object in tunnels if found else ():
            key = _key(tunnel_object)
            if winner := pods.named(api, key[0], _active(tunnel_object)):
                clients[key] = pods.asked(api, winner).clients
    except Forbidden as missing:
        return Report(found, clients, missing)
    return Report(found, clients)


def _key(of: Object) -> Key:
    return of["metadata"]["namespace"], of["metadata"]["name"]


def _active(tunnel: Object) -> str:
    """The name of its active pod; empty where there is none."""
    return str(tunnel.get("status", {}).get("active", {}).get("pod", ""))


def _tunnel(peer: Object) -> Key:
    return peer["metadata"]["namespace"], peer["spec"]["tunnelRef"]["name"]


def client_of(report: Report, peer: Object) -> Client | None:
    return report.clients.get(_tunnel(peer), {}).get(peer.get("status", {}).get("publicKey", ""))


def show(report: Report, screen: Screen, *, everywhere: bool) -> list[str]:
    if not report.peers:
        return []
    hidden = set() if everywhere else {"NAMESPACE"}
    if len({_tunnel(peer) for peer in report.peers}) == 1:
        hidden.add("TUNNEL")
    if report.missing and not report.clients:
        hidden |= set(_LIVE)
    chosen = [i for i, column in enumerate(_COLUMNS) if column.title not in hidden]
    rows = [_row(peer, client_of(report, peer)) for peer in report.peers]
    return table([_COLUMNS[i] for i in chosen], [[row[i] for i in chosen] for row in rows], screen)


def _row(peer: Object, client: Client | None) -> list[str]:
    meta, status = peer["metadata"], peer.get("status", {})
    ready = "yes" if is_ready(peer) else condition(peer, "Ready").get("reason", "Pending")
    return [
        meta["namespace"],
        meta["name"],
        peer["spec"]["tunnelRef"]["name"],
        " ".join(address.partition("/")[0] for address in status.get("addresses", ())) or NOTHING,
        ready,
        yes(client.connected if client else status.get("connected", False)),
        age(client.received_age if client else None),
        (client.method if client else None) or NOTHING,
        duration(client.outage if client else None),
        (client.endpoint if client else None) or NOTHING,
    ]


def as_json(report: Report) -> Object:
    return {
        "peers": [_as_json(peer, client_of(report, peer)) for peer in report.peers],
        "missing": report.missing.missing if report.missing else None,
    }


def _as_json(peer: Object, client: Client | None) -> Object:
    status = peer.get("status", {})
    known: dict[str, Any] = {
        "namespace": peer["metadata"]["namespace"],
        "name": peer["metadata"]["name"],
        "tunnel": peer["spec"]["tunnelRef"]["name"],
        "publicKey": status.get("publicKey"),
        "addresses": status.get("addresses", []),
        "ready": is_ready(peer),
        "reason": condition(peer, "Ready").get("reason"),
        "connected": client.connected if client else status.get("connected", False),
    }
    if client is None:
        return known
    return known | {
        "endpoint": client.endpoint,
        "heardSecondsAgo": client.received_age,
        "method": client.method,
        "latencySeconds": client.latency,
        "outageSeconds": client.outage,
        "receivedBytes": client.received_bytes,
    }
