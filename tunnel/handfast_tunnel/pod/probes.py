"""/metrics, and what kubelet asks: /healthz, /readyz, /startupz (KUBERNETES, section 4).

Ready means alive and configured. It never depends on handshakes, load or role: an unready pod's flows are
flushed, and a sidecar's readiness is its whole pod's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ..adapters.metrics import SnapshotCollector, take_snapshot
from .bridge import run, run_job
from .metrics import PodCollector, PodNumbers

if TYPE_CHECKING:
    from .gateway import Gateway

ANSWER_TIME: Final = 2.0


class Probes:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._loop = gateway.tunnel.loop

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/healthz", self.healthz),
            web.get("/readyz", self.readyz),
            web.get("/startupz", self.readyz),
        ]

    async def healthz(self, _request: web.Request) -> web.Response:
        """The event loop turns."""
        try:
            async with asyncio.timeout(ANSWER_TIME):
                await run(self._loop, lambda: None)
        except TimeoutError:
            return web.Response(status=503, text="the event loop does not answer\n")
        return web.Response(text="ok\n")

    async def readyz(self, request: web.Request) -> web.Response:
        """And the interface is configured and up."""
        alive = await self.healthz(request)
        if alive.status == 200 and not self._gateway.tunnel.device.is_up:
            return web.Response(status=503, text="the interface is not up\n")
        return alive

    async def metrics(self, _request: web.Request) -> web.Response:
        configuration = self._gateway.configuration
        spec = configuration.tunnel.metrics
        per_peer = spec.per_peer and spec.per_peer_limit > 0
        names = {key: peer.name for key, peer in configuration.peers.items()} if per_peer else {}
        job = take_snapshot(self._gateway.tunnel, per_peer=per_peer, limit=spec.per_peer_limit, names=names)
        try:
            async with asyncio.timeout(ANSWER_TIME):
                snapshot = await run_job(self._loop, job)
        except TimeoutError:
            return web.Response(status=503, text="the event loop does not answer\n")
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(SnapshotCollector(snapshot, per_peer=per_peer))
        registry.register(PodCollector(PodNumbers.of(self._gateway)))
        body = generate_latest(registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
