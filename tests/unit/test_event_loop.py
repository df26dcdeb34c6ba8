"""Timers of the event loop: in order, not early, and whatever else goes on."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from handfast_tunnel.adapters.event_loop import EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.close()


def test_timers_come_in_order_and_not_early(loop: EventLoop) -> None:
    began = loop.now
    called: list[tuple[str, float]] = []

    def at(name: str, seconds: float) -> None:
        loop.call_at(began + seconds, lambda: called.append((name, loop.now - began)))

    at("b", 0.02)
    at("a", 0.01)
    at("c", 0.02)
    loop.call_at(began + 0.03, loop.stop)
    assert loop.run(lambda: math.inf) == 0
    assert [name for name, _ in called] == ["a", "b", "c"]
    assert [seconds >= due for (_, seconds), due in zip(called, (0.01, 0.02, 0.02), strict=True)] == [
        True
    ] * 3


def test_a_timer_may_set_another(loop: EventLoop) -> None:
    turns: list[float] = []

    def tick() -> None:
        turns.append(loop.now)
        if len(turns) < 3:
            loop.call_at(loop.now, tick)
        else:
            loop.stop(7)

    loop.call_at(loop.now, tick)
    assert loop.run(lambda: math.inf) == 7
    assert len(turns) == 3


def test_a_job_does_not_hold_timers_up(loop: EventLoop) -> None:
    def job() -> Iterator[None]:
        while True:
            yield

    loop.spawn(job())
    loop.call_at(loop.now + 0.01, loop.stop)
    assert loop.run(lambda: math.inf) == 0
