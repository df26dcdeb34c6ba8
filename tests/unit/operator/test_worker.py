"""When a Tunnel's worker looks at its pods."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from handfast_operator import worker
from handfast_operator.worker import PAUSE_SECONDS, TICK_SECONDS, Worker


@pytest.mark.parametrize("takes", [0.0, 0.3, 1.0, 5.0])
def test_looks_begin_a_second_apart(takes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that wait for a lost pod's answer: else it would be asked every other second only."""
    now, begun = 1000.0, list[float]()

    async def wait(_: asyncio.Event, seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    async def tick(*_: object, **__: object) -> None:
        nonlocal now
        begun.append(now)
        now += takes

    async def nothing(*_: object) -> None:
        pass

    monkeypatch.setattr(worker, "_wait", wait)
    monkeypatch.setattr(worker, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: now))
    monkeypatch.setattr(Worker, "_tick", tick)
    monkeypatch.setattr(Worker, "_write_status", nothing)
    subject = Worker(cast(Any, None), ("vpn", "office"))
    subject._state = cast(Any, SimpleNamespace(config=object(), confirmed=0, connected={}))

    async def looks() -> None:
        for _ in range(3):
            await subject._tick_when_due()

    asyncio.run(looks())
    apart = [later - earlier for earlier, later in pairwise(begun)]
    assert apart == pytest.approx([max(TICK_SECONDS, takes + PAUSE_SECONDS)] * 2)


def test_what_clients_wait_for_is_tried_again_every_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the API server has failed; what is only written down may wait."""
    slept: dict[str, list[float]] = {"reconcile": [], "conduct": []}

    async def fails(*_: object) -> None:
        raise ConnectionError("the API server")

    async def sleep(seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        found = slept[task.get_name().partition(" ")[0]]
        found.append(seconds)
        if len(found) == 12:
            raise asyncio.CancelledError

    monkeypatch.setattr(Worker, "_tick_when_due", fails)
    monkeypatch.setattr(Worker, "_reconcile_when_due", fails)
    monkeypatch.setattr(worker, "asyncio", SimpleNamespace(**vars(asyncio) | {"sleep": sleep}))

    async def run() -> None:
        subject = Worker(cast(Any, None), ("vpn", "office"))
        subject.start()
        await asyncio.wait(subject._tasks)

    asyncio.run(run())
    assert max(slept["conduct"]) == worker.LONGEST_RETRY_OF_ROLES
    assert max(slept["reconcile"]) == worker.LONGEST_RETRY
