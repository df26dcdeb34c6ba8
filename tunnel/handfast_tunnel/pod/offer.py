"""The preStop hook: offers the pod's tunnel to a successor, and waits while there is hope for one.

It freezes nothing. Whatever happens it succeeds: a hook that fails helps nobody, and the container gets
its SIGTERM all the same.
"""

from __future__ import annotations

import sys
import time

from ..adapters.control_client import ControlError, ask
from ..commands import interface_named
from .ending import POLL, nobody_within, why_over


def offer(name: str | None, seconds: float) -> int:
    """Always 0. Prints how it ended."""
    deadline = time.monotonic() + seconds
    try:
        interface = interface_named(name)
        answer = ask(interface, {"call": "offer"})
        while (end := why_over(answer)) is None:
            if time.monotonic() >= deadline:
                end = nobody_within(seconds)
                break
            time.sleep(POLL)
            answer = ask(interface, {"call": "role"})
    except ControlError as error:
        print(f"handfast-tunnel: {error}", file=sys.stderr)
        return 0
    print(f"{interface}: {end}")
    return 0
