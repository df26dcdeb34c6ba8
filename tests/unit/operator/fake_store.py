"""An API server in memory, as `Store` shows it: objects by kind and name, versions, and counts of calls."""

from __future__ import annotations

import copy
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, cast

from handfast_operator.store import Conflict

Object = dict[str, Any]


class _Conflicting(Conflict):
    def __init__(self) -> None:
        Exception.__init__(self, "conflict")
        self.status, self.reason, self.body = 409, "Conflict", ""

    def __str__(self) -> str:
        return "409 Conflict"


@dataclass
class FakeStore:
    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    statuses: dict[tuple[str, str], Object] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    history: list[str] = field(default_factory=list)
    _version: int = 0

    def secret(self, name: str) -> Object | None:
        return self.objects.get(("Secret", name))

    def forget_calls(self) -> None:
        self.calls.clear()
        self.history.clear()

    def writes(self) -> list[str]:
        return [each for each in self.history if not each.startswith("get ")]

    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Object | None:
        self._count("get", kind, name)
        return copy.deepcopy(self.objects.get((kind, name)))

    async def create(self, body: Object) -> Object:
        key = body["kind"], body["metadata"]["name"]
        self._count("create", *key)
        if key in self.objects:
            raise _Conflicting
        return self._keep(key, body)

    async def apply(self, body: Object, manager: str = "") -> Object:
        key = body["kind"], body["metadata"]["name"]
        self._count("apply", *key)
        return self._keep(key, _merged(self.objects.get(key, {}), body))

    async def merge(
        self, api: str, kind: str, namespace: str, name: str, patch: Object, manager: str = ""
    ) -> Object | None:
        self._count("merge", kind, name)
        former = self.objects.get((kind, name))
        if former is None:
            return None
        wanted = patch.get("metadata", {}).get("resourceVersion")
        if wanted not in {None, former["metadata"]["resourceVersion"]}:
            raise _Conflicting
        return self._keep((kind, name), _merged(former, patch))

    async def merge_large(
        self, api: str, kind: str, namespace: str, name: str, patch: Object
    ) -> Object | None:
        written = await self.merge(api, kind, namespace, name, patch)
        return written and {"metadata": written["metadata"]}

    async def delete(self, api: str, kind: str, namespace: str, name: str) -> None:
        self._count("delete", kind, name)
        self.objects.pop((kind, name), None)

    async def apply_status(self, kind: str, namespace: str, name: str, status: Object) -> Object:
        self._count("status", kind, name)
        self.statuses[kind, name] = status
        return status

    def edit(self, kind: str, name: str, **changes: Any) -> None:
        """As a person does, with kubectl."""
        self._keep((kind, name), _merged(self.objects[kind, name], changes))

    def _count(self, verb: str, kind: str, name: str) -> None:
        self.calls[f"{verb} {kind}"] += 1
        self.history.append(f"{verb} {kind} {name}")

    def _keep(self, key: tuple[str, str], body: Object) -> Object:
        self._version += 1
        kept = copy.deepcopy(body)
        kept["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = kept
        return copy.deepcopy(kept)


def _merged(old: Object, new: Object) -> Object:
    made = dict(old)
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(made.get(name), dict):
            made[name] = _merged(cast(Object, made[name]), value)
        else:
            made[name] = value
    return made
