"""What the cluster asks the operator: whether it is alive, and its figures. Also one that waits for the Lease
answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from .leader import Operator

SILENCE_LIMIT: Final = 300.0
"""A leader that has heard of no event for so long, bookmarks of the watches not counted, is not dead: it is
reported
as a figure only. A loop that does not turn cannot answer at all."""


@contextlib.asynccontextmanager
async def served(operator: Operator) -> AsyncIterator[None]:
    app = web.Application()

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def figures(_: web.Request) -> web.Response:
        return web.Response(text=render(operator, time.monotonic()), content_type="text/plain")

    app.router.add_get("/healthz", alive)
    app.router.add_get("/metrics", figures)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    settings = operator.settings
    for port in {settings.health_port, settings.metrics_port}:
        await web.TCPSite(runner, None, port).start()
    try:
        yield
    finally:
        await runner.cleanup()


def render(operator: Operator, now: float) -> str:
    """In the form that Prometheus reads."""
    figures = {
        "handfast_operator_leading": ("gauge", int(operator.transitions > 0)),
        "handfast_operator_tunnels": ("gauge", len(operator.workers)),
        "handfast_operator_api_calls_total": ("counter", operator.store.calls),
        "handfast_operator_api_errors_total": ("counter", operator.store.errors),
        "handfast_operator_last_event_age_seconds": ("gauge", round(now - operator.heard_at, 1)),
    }
    return "".join(f"# TYPE {name} {kind}\n{name} {value}\n" for name, (kind, value) in figures.items())
