"""What the operator makes beside itself goes with it: its Lease, and its authority unless Tunnels stay.

Helm knows nothing of either. They belong to the operator's Deployment, so that whatever removes that removes
them, without the operator.
"""

from __future__ import annotations

from typing import Any, Final

from . import lease
from .settings import Settings
from .store import Store

AUTHORITY_SECRET: Final = "handfast-ca"  # noqa: S105  a Secret's name


async def claim(store: Store, settings: Settings) -> None:
    """Where there is no Deployment of our own, as outside of a cluster, nothing belongs to anything."""
    if not settings.deployment:
        return
    deployment = await store.get("apps/v1", "Deployment", settings.namespace, settings.deployment)
    if deployment is None:
        return
    ours: list[dict[str, Any]] = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": settings.deployment,
            "uid": deployment["metadata"]["uid"],
        }
    ]
    # Pods of Tunnels that stay know the authority: another operator is to find it.
    for api, kind, name, owners in (
        (*lease.API, lease.NAME, ours),
        ("v1", "Secret", AUTHORITY_SECRET, None if settings.tunnels_stay else ours),
    ):
        await store.merge(api, kind, settings.namespace, name, {"metadata": {"ownerReferences": owners}})
