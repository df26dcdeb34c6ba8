"""A pod's last offer of its sessions: how long there is hope for somebody who takes them.

A gateway offers in its preStop hook. A sidecar whose app needs the tunnel until its own end offers later,
when it gets its SIGTERM: a native one gets that when the app has exited. Meanwhile the tunnel serves on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ..control.roles import Role

if TYPE_CHECKING:
    from .gateway import Gateway

SILENCE: Final = 2.0
"""Seconds without a call of the operator's: it is not there, so nobody will take over."""
POLL: Final = 0.1

log = logging.getLogger(__name__)


class LastOffer:
    def __init__(self, gateway: Gateway, seconds: float) -> None:
        self._gateway = gateway
        self._seconds = seconds
        self._deadline = 0.0

    def begin(self, end: Callable[[], None]) -> None:
        """Calls `end` when there is nothing to wait for, or no time left."""
        self._deadline = self._gateway.tunnel.loop.now + self._seconds
        self._gateway.offer()
        self._look(end)

    def _look(self, end: Callable[[], None]) -> None:
        loop = self._gateway.tunnel.loop
        over = why_over(self._gateway.stance())
        if over is None and loop.now >= self._deadline:
            over = nobody_within(self._seconds)
        if over is None:
            loop.call_at(loop.now + POLL, lambda: self._look(end))
            return
        log.info("the end: %s", over)
        end()


def why_over(stance: Mapping[str, object]) -> str | None:
    """Why there is nothing to wait for any more; None while there is."""
    role, silence = stance["role"], stance["silence"]
    if role == Role.COMMITTED:
        return "another pod took over"
    if role == Role.STANDBY:
        return "this pod stands by: there is nothing to hand over"
    if role == Role.DRAINING:
        return None
    if not stance["offering"]:
        return "there is no successor"
    return "the operator does not call" if isinstance(silence, float) and silence >= SILENCE else None


def nobody_within(seconds: float) -> str:
    return f"nobody took over within {seconds:g} s"
