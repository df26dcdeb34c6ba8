"""Tunnels, Peers and pods as the API server has them, and what pods say."""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]
NOW = 1_800_000_000.0
CREATED = "2027-01-14T08:00:00Z"
"""Three days before that, less a moment."""
POD = "office-6d5f9c7b8d-x2x4q"
OTHER = "office-6d5f9c7b8d-abcde"


def conditions(**statuses: str | tuple[str, str, str]) -> list[Object]:
    """By type: a status, or status, reason and message."""
    found = []
    for kind, status in statuses.items():
        state, reason, message = (status, kind, "") if isinstance(status, str) else status
        found.append({"type": kind, "status": state, "reason": reason, "message": message})
    return found


def tunnel(name: str = "office", namespace: str = "vpn", **status: Any) -> Object:
    standard = {
        "observedGeneration": 3,
        "endpoint": "203.0.113.5:51820",
        "active": {"pod": POD, "node": "node1", "term": 12, "since": CREATED},
        "standbys": 1,
        "peers": {"total": 3, "ready": 3, "connected": 2},
        "conditions": conditions(Ready="True", Active="True", StandbyReady="True", Degraded="False"),
    }
    return {
        "metadata": {"name": name, "namespace": namespace, "generation": 3, "creationTimestamp": CREATED},
        "spec": {"addresses": ["10.8.0.1/24"], "gateway": {"replicas": 2}},
        "status": standard | status,
    }


def peer(name: str, key: str = "", namespace: str = "vpn", **status: Any) -> Object:
    standard = {
        "publicKey": key or f"key-of-{name}",
        "addresses": ["10.8.0.7/32"],
        "secretName": f"{name}-handfast",
        "connected": True,
        "conditions": conditions(Ready="True"),
    }
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": CREATED},
        "spec": {"tunnelRef": {"name": "office"}},
        "status": standard | status,
    }


def pod(name: str = POD, namespace: str = "vpn", node: str = "node1", *, ready: bool = True) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-of-{name}",
            "creationTimestamp": CREATED,
            "labels": {"handfast.dev/tunnel": "office", "app.kubernetes.io/managed-by": "handfast"},
            "ownerReferences": [{"kind": "ReplicaSet", "name": name.rpartition("-")[0], "controller": True}],
        },
        "spec": {"nodeName": node, "containers": [{"name": "tunnel"}]},
        "status": {
            "conditions": conditions(Ready="True" if ready else "False"),
            "containerStatuses": [{"name": "tunnel", "restartCount": 1}],
        },
    }


def said(role: str = "active", *clients: Object, term: int = 12, incarnation: int = 3) -> Object:
    return {
        "role": role,
        "term": term,
        "generation": 42,
        "interface": "wg0",
        "version": "0.1.0",
        "incarnation": incarnation,
        "peers": list(clients),
    }


def client(name: str, **more: Any) -> Object:
    standard = {
        "public_key": f"key-of-{name}",
        "endpoint": "198.51.100.7:40000",
        "method": None,
        "latency": None,
        "outage": None,
        "handshake_age": 10.0,
        "received_age": 0.5,
        "received_bytes": 1000,
    }
    return standard | more


def operator(**more: Any) -> Object:
    labels = {"app.kubernetes.io/name": "handfast-operator", "app.kubernetes.io/version": "0.1.0"}
    meta = {"name": "handfast", "namespace": "handfast-system", "labels": labels}
    return {"metadata": meta, "status": {"availableReplicas": 2}} | more
