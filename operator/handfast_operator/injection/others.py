"""Who else has a Tunnel: pods of another owner, by what the API server knows at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import names
from .origin import Reader, controller
from .pod import shares, sidecar_of


@dataclass(frozen=True, slots=True)
class Owner:
    """Whatever decides that there is such a pod, and how many."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Other:
    owner: Owner
    shares: bool
    """Its pods say that their apps may be without the tunnel."""


async def others_with(
    tunnel: str, pod: Mapping[str, Any], namespace: str, reader: Reader
) -> tuple[Other, ...]:
    """Pods that end are not among them: the tunnel may go on in the next one."""
    found = await reader.list("v1", "Pod", namespace, f"{names.TUNNEL_LABEL}={tunnel}")
    mine = _maker(pod)
    # Of pods that one controller makes, one tells of them all; what makes this one makes no other owner's.
    there = {
        (maker, shares(each)): each for each in found if _has_it(each) and (maker := _maker(each)) != mine
    }
    if not there:
        return ()
    own, *owners = await asyncio.gather(
        *(owner_of(each, namespace, reader) for each in (pod, *there.values()))
    )
    pairs = zip(owners, there.values(), strict=True)
    return tuple(Other(owner, shares(each)) for owner, each in pairs if owner != own)


async def owner_of(pod: Mapping[str, Any], namespace: str, reader: Reader) -> Owner:
    """Of a pod that nobody makes, itself. A ReplicaSet is another one after each rollout of what makes it."""
    kind, name = _maker(pod)
    if kind == "ReplicaSet":
        replica_set = await reader.get("apps/v1", kind, namespace, name)
        above = controller(replica_set) if replica_set is not None else None
        if above is not None:
            kind, name = above["kind"], above["name"]
    return Owner(kind, name)


def _maker(pod: Mapping[str, Any]) -> tuple[str, str]:
    found, metadata = controller(pod), pod["metadata"]
    if found is not None:
        return found["kind"], found["name"]
    return "Pod", metadata.get("name") or metadata.get("generateName", "")


def _has_it(pod: Mapping[str, Any]) -> bool:
    over = (pod.get("status") or {}).get("phase") in {"Succeeded", "Failed"}
    return sidecar_of(pod["spec"]) is not None and not over and "deletionTimestamp" not in pod["metadata"]
