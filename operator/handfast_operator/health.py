"""What the cluster asks the operator: whether it is alive, and its figures. Also one that waits for the Lease
answers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aiohttp import web

from .measured import PREFIX

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


@dataclass(frozen=True)
class Figure:
    name: str
    kind: str
    meaning: str
    value: Callable[[Operator, float], float | Mapping[tuple[str, ...], float]]
    """At a time of the monotonic clock. A mapping has one for the values of each set of `labels`."""
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> str:
        """As docs show it."""
        return PREFIX + self.name + (f"{{{','.join(self.labels)}}}" if self.labels else "")


FIGURES: Final = (
    Figure(
        "leading",
        "gauge",
        "Whether this operator is the one that acts.",
        lambda operator, _: int(operator.transitions > 0),
    ),
    Figure("tunnels", "gauge", "Tunnels that it has heard of.", lambda operator, _: len(operator.workers)),
    Figure(
        "queue_depth",
        "gauge",
        "Tunnels that something has changed for since they were last looked at.",
        lambda operator, _: operator.waiting(),
    ),
    Figure(
        "api_calls_total",
        "counter",
        "Calls to the API server; watches are not counted.",
        lambda operator, _: operator.store.calls,
    ),
    Figure("api_errors_total", "counter", "Those that failed.", lambda operator, _: operator.store.errors),
    Figure(
        "last_event_age_seconds",
        "gauge",
        "Since it last heard of a change.",
        lambda operator, now: round(now - operator.heard_at, 1),
    ),
    Figure(
        "certificate_expiry_timestamp_seconds",
        "gauge",
        "When the first certificate of each kind ends, in Unix time.",
        lambda operator, _: operator.certificate_expiries(),
        labels=("of",),
    ),
    Figure(
        "tunnel_generation",
        "gauge",
        "Of the configuration that a Tunnel's pods are to have.",
        lambda operator, _: operator.generations(),
        labels=("namespace", "tunnel"),
    ),
    Figure(
        "tunnel_condition",
        "gauge",
        "1 where a Tunnel's condition is True, 0 where it is False.",
        lambda operator, _: operator.conditions(),
        labels=("namespace", "tunnel", "type"),
    ),
)
"""docs/kubernetes.md shows them."""


def render(operator: Operator, now: float) -> str:
    """In the form that Prometheus reads."""
    lines = []
    for figure in FIGURES:
        name, value = PREFIX + figure.name, figure.value(operator, now)
        lines += [f"# HELP {name} {figure.meaning}", f"# TYPE {name} {figure.kind}"]
        if isinstance(value, Mapping):
            lines += [f"{name}{{{_labels(figure, which)}}} {each:.0f}" for which, each in value.items()]
        else:
            lines.append(f"{name} {value}")
    return "\n".join([*lines, operator.measured.render()])


def _labels(figure: Figure, values: tuple[str, ...]) -> str:
    """None of them needs an escape: they are names in Kubernetes, or ours."""
    return ",".join(f'{label}="{value}"' for label, value in zip(figure.labels, values, strict=True))
