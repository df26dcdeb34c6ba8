"""kopf: events in, Tunnels marked for their workers out. No rule of the business is in here."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import kopf

from .leader import Operator
from .membership import PeerObject
from .names import TUNNEL_LABEL
from .resources import GROUP, VERSION
from .tunnel_state import PodObject, TunnelObject, has_tunnel

_TUNNELS = (GROUP, VERSION, "tunnels")
_PEERS = (GROUP, VERSION, "peers")
_OURS: dict[str, Any] = {"labels": {TUNNEL_LABEL: kopf.PRESENT}}


def registry(operator: Operator) -> kopf.OperatorRegistry:
    made = kopf.OperatorRegistry()
    _indices(made, operator)
    _events(made, operator)

    @kopf.on.login(registry=made)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await operator.connection()

    return made


def configure(settings: kopf.OperatorSettings) -> None:
    # A stranger's object could pause it, and equal priorities freeze both; the Lease does this.
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.queueing.worker_limit = None
    settings.queueing.idle_timeout = 1.0
    settings.persistence.finalizer = f"{GROUP}/unused"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"operator.{GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"operator.{GROUP}")
    for plural in ("pods", "services"):
        settings.watching.label_selectors[plural] = TUNNEL_LABEL


def _indices(made: kopf.OperatorRegistry, operator: Operator) -> None:
    @kopf.index(*_TUNNELS, id="tunnels", registry=made)
    async def tunnels(body: kopf.Body, namespace: str | None, name: str, **_: Any) -> Any:
        return {(namespace, name): TunnelObject.parse(body)}

    @kopf.index(*_PEERS, id="peers", registry=made)
    async def peers(body: kopf.Body, namespace: str | None, **_: Any) -> Any:
        return {(namespace, body["spec"]["tunnelRef"]["name"]): PeerObject.parse(body)}

    @kopf.index("pods", id="pods", registry=made, **_OURS)
    async def pods(body: kopf.Body, namespace: str | None, labels: Mapping[str, str], **_: Any) -> Any:
        return {(namespace, labels[TUNNEL_LABEL]): PodObject.parse(body)} if has_tunnel(body) else None

    @kopf.on.startup(registry=made)
    async def begin(settings: kopf.OperatorSettings, **indices: Any) -> None:
        configure(settings)
        operator.begin(indices["tunnels"], indices["peers"], indices["pods"])

    @kopf.on.cleanup(registry=made)
    async def end(**_: Any) -> None:
        await operator.end()


def _events(made: kopf.OperatorRegistry, operator: Operator) -> None:
    @kopf.on.event(*_TUNNELS, registry=made)
    async def tunnel_changed(namespace: str | None, name: str, **_: Any) -> None:
        operator.heard_at = time.monotonic()
        operator.worker((namespace or "", name)).mark()

    @kopf.on.event(*_PEERS, registry=made)
    async def peer_changed(namespace: str | None, spec: kopf.Spec, **_: Any) -> None:
        operator.heard_at = time.monotonic()
        operator.worker((namespace or "", spec["tunnelRef"]["name"])).mark()

    @kopf.on.event("pods", registry=made, **_OURS)
    async def pod_changed(namespace: str | None, labels: Mapping[str, str], **_: Any) -> None:
        operator.heard_at = time.monotonic()
        operator.worker((namespace or "", labels[TUNNEL_LABEL])).wake()

    @kopf.on.event("services", registry=made, **_OURS)
    async def service_changed(
        namespace: str | None, labels: Mapping[str, str], event: Mapping[str, Any], body: kopf.Body, **_: Any
    ) -> None:
        operator.heard_at = time.monotonic()
        there = None if event["type"] == "DELETED" else dict(body)
        operator.worker((namespace or "", labels[TUNNEL_LABEL])).see_service(there)
