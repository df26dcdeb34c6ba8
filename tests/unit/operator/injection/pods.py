"""Pods that want a tunnel, what they are made by, and an API server that knows it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from handfast_operator.resources import API_VERSION
from handfast_operator.settings import Settings

SETTINGS = Settings(tunnel_image="tunnel:1")
SPEC: dict[str, Any] = {"addresses": ["10.8.0.1/24"]}


def pod(labels: dict[str, str] | None = None, owner: tuple[str, str] | None = None, **spec: Any) -> Any:
    metadata: dict[str, Any] = {
        "generateName": "shop-",
        "labels": {"handfast.dev/tunnel": "office"} | (labels or {}),
    }
    if owner is not None:
        kind, name = owner
        api = "batch/v1" if kind == "Job" else "apps/v1"
        metadata["ownerReferences"] = [{"apiVersion": api, "kind": kind, "name": name, "controller": True}]
    containers = [{"name": "app", "image": "app:1"}]
    return {"metadata": metadata, "spec": {"containers": containers} | spec}


def review(pod: Any, namespace: str = "vpn") -> dict[str, Any]:
    request = {"uid": "uid-of-request", "operation": "CREATE", "namespace": namespace, "object": pod}
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


@dataclass
class FakeReader:
    objects: dict[tuple[str, str, str | None, str], Any] = field(default_factory=dict)
    broken: bool = False
    read: list[tuple[str, str]] = field(default_factory=list)
    """Kinds and names, in order."""

    def add(self, api: str, kind: str, name: str, spec: Any, **metadata: Any) -> None:
        namespace = None if kind == "Namespace" else "vpn"
        self.objects[api, kind, namespace, name] = {"metadata": {"name": name} | metadata, "spec": spec}

    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        self.read.append((kind, name))
        if self.broken:
            raise ConnectionError("nobody listens")
        return copy.deepcopy(self.objects.get((api, kind, namespace, name)))

    async def list(self, api: str, kind: str, namespace: str, labels: str) -> list[dict[str, Any]]:
        if self.broken:
            raise ConnectionError("nobody listens")
        name, _, value = labels.partition("=")
        found = [body for (*where, _), body in self.objects.items() if tuple(where) == (api, kind, namespace)]
        return [copy.deepcopy(body) for body in found if body["metadata"]["labels"].get(name) == value]


def reader(**tunnel: Any) -> FakeReader:
    made = FakeReader()
    made.add(API_VERSION, "Tunnel", "office", SPEC | tunnel)
    made.add("v1", "Namespace", "vpn", {})
    return made
