"""Timers of the event loop: in order, not early, and whatever else goes on."""

from __future__ import annotations

import math
import os
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


class Pipe:
    """Something to be ready."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def put(self, count: int = 1) -> None:
        os.write(self.writer, bytes(count))

    def take(self) -> bool:
        return bool(os.read(self.reader, 1))


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def test_a_turn_goes_on_while_all_that_comes_goes_a_short_way(loop: EventLoop, pipe: Pipe) -> None:
    called: list[str] = []

    def short_way() -> bool:
        called.append("short")
        return pipe.take()

    def end_turn() -> float:
        called.append("end")
        if called.count("end") == 1:
            pipe.put(3)
        else:
            loop.stop()
        return math.inf

    loop.watch(pipe.reader, lambda _: called.append("long"), short_way=short_way)
    loop.run(end_turn, lambda: called.append("go long"))
    assert called == ["go long", "end", "short", "short", "short", "go long", "end"]


def test_what_cannot_go_the_short_way_is_called_after_all_was_settled(loop: EventLoop, pipe: Pipe) -> None:
    called: list[str] = []

    def long_way(_events: int) -> None:
        called.append("long")
        pipe.take()
        loop.stop()

    def refuse() -> bool:
        called.append("short")
        return False

    loop.watch(pipe.reader, long_way, short_way=refuse)
    pipe.put()
    loop.run(lambda: math.inf, lambda: called.append("go long"))
    assert called == ["short", "go long", "long"]


def test_nothing_goes_a_short_way_beside_what_has_none(loop: EventLoop, pipe: Pipe) -> None:
    """That may change what was expected."""
    called: list[str] = []

    def refuse() -> bool:
        called.append("short")
        return False

    loop.watch(pipe.reader, lambda _: called.append("long"), short_way=refuse)
    pipe.put()
    loop.call_soon_threadsafe(lambda: called.append("posted"))
    loop.call_soon_threadsafe(loop.stop)
    loop.run(lambda: math.inf, lambda: called.append("go long"))
    assert called.index("go long") < min(called.index("long"), called.index("posted"))


def test_the_end_of_a_turn_waits_no_longer_than_it_would(loop: EventLoop, pipe: Pipe) -> None:
    """A turn that is due at once ends after what is ready, however much more would come."""
    called: list[str] = []

    def short_way() -> bool:
        called.append("short")
        pipe.take()
        return True

    def job() -> Iterator[None]:
        called.append("job")
        loop.stop()
        yield

    loop.watch(pipe.reader, lambda _: None, short_way=short_way)
    pipe.put()
    loop.spawn(job())
    loop.run(lambda: math.inf)
    assert called == ["short", "job"]
