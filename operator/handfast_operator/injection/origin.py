"""What makes a pod, and how many of its kind there are to be: read from the API server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Object = dict[str, Any]


class Reader(Protocol):
    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Object | None: ...

    async def list(self, api: str, kind: str, namespace: str, labels: str) -> list[Object]: ...


class Once:
    """Reads each object once, for all who ask for it: what makes a pod is asked for by several, at the same
    time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._read: dict[tuple[str, str, str | None, str], asyncio.Task[Object | None]] = {}

    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Object | None:
        what = api, kind, namespace, name
        if what not in self._read:
            self._read[what] = asyncio.ensure_future(self._reader.get(*what))
        return await self._read[what]

    async def list(self, api: str, kind: str, namespace: str, labels: str) -> list[Object]:
        return await self._reader.list(api, kind, namespace, labels)


@dataclass(frozen=True, slots=True)
class Origin:
    kind: str
    name: str
    replicas: int | None
    """None: as many as there are nodes."""

    @property
    def several(self) -> bool:
        return self.replicas is None or self.replicas > 1

    def __str__(self) -> str:
        many = "a pod on each node" if self.replicas is None else f"{self.replicas} pods"
        return f"{self.kind} {self.name} has {many}"


async def origin_of(pod: Mapping[str, Any], namespace: str, reader: Reader) -> Origin | None:
    """None where nobody makes it, or something of an unknown kind does."""
    owner = controller(pod)
    if owner is None:
        return None
    kind, name = owner["kind"], owner["name"]
    match owner["apiVersion"], kind:
        case "apps/v1", "DaemonSet":
            return Origin(kind, name, None)
        case "apps/v1", "ReplicaSet":
            return await _of_replica_set(name, namespace, reader)
        case "apps/v1", "StatefulSet":
            return _counted(kind, name, await reader.get("apps/v1", kind, namespace, name), "replicas")
        case "batch/v1", "Job":
            return _counted(kind, name, await reader.get("batch/v1", kind, namespace, name), "parallelism")
    return None


async def _of_replica_set(name: str, namespace: str, reader: Reader) -> Origin | None:
    """In a rollout it has fewer pods than its Deployment is to have."""
    found = await reader.get("apps/v1", "ReplicaSet", namespace, name)
    owner = controller(found) if found is not None else None
    if owner is None or (owner["apiVersion"], owner["kind"]) != ("apps/v1", "Deployment"):
        return _counted("ReplicaSet", name, found, "replicas")
    deployment = await reader.get("apps/v1", "Deployment", namespace, owner["name"])
    return _counted("Deployment", owner["name"], deployment, "replicas")


def _counted(kind: str, name: str, body: Mapping[str, Any] | None, field: str) -> Origin | None:
    return None if body is None else Origin(kind, name, body["spec"].get(field, 1))


def controller(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The owner that makes it and takes it away."""
    owners = body["metadata"].get("ownerReferences") or ()
    return next((each for each in owners if each.get("controller")), None)
