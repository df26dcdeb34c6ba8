"""The preStop hook: offers the pod's tunnel to a successor, and waits while there is hope for one.

It freezes nothing. Whatever happens it succeeds: a hook that fails helps nobody, and the container gets
its SIGTERM all the same.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from ..adapters.control_client import ControlError, ask
from ..commands import interface_named
from ..control.roles import Role

SILENCE: Final = 2.0
"""Seconds without a call of the operator's: it is not there, so nobody will take over."""
POLL: Final = 0.1


def offer(name: str | None, seconds: float) -> int:
    """Always 0. Prints how it ended."""
    deadline = time.monotonic() + seconds
    try:
        interface = interface_named(name)
        answer = ask(interface, {"call": "offer"})
        while (end := _end(answer)) is None:
            if time.monotonic() >= deadline:
                end = f"nobody took over within {seconds:g} s"
                break
            time.sleep(POLL)
            answer = ask(interface, {"call": "role"})
    except ControlError as error:
        print(f"handfast-tunnel: {error}", file=sys.stderr)
        return 0
    print(f"{interface}: {end}")
    return 0


def _end(answer: dict[str, object]) -> str | None:
    """Why there is nothing to wait for any more; None while there is."""
    role, silence = answer["role"], answer["silence"]
    if role == Role.COMMITTED:
        return "another pod took over"
    if role == Role.STANDBY:
        return "this pod stands by: there is nothing to hand over"
    if role == Role.DRAINING:
        return None
    if not answer["offering"]:
        return "there is no successor"
    return "the operator does not call" if isinstance(silence, float) and silence >= SILENCE else None
