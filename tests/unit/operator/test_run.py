"""Signals while kopf runs: it takes them for itself when it starts."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass, field
from typing import Any, cast

import kopf
import pytest

from handfast_operator import calm_toggles, handlers, run
from handfast_operator.holding import Holding
from handfast_operator.leader import Operator


@dataclass
class FakeSettings:
    watch_namespaces: tuple[str, ...] = ()
    identity: str = "me"


@dataclass
class FakeOperator:
    settings: FakeSettings = field(default_factory=FakeSettings)
    transitions: int = 0
    told: list[str] = field(default_factory=list)

    async def prepare(self) -> None:
        self.told.append("prepare")

    async def finish(self) -> None:
        self.told.append("finish")


@dataclass
class FakeHolding:
    async def acquired(self) -> int:
        return 1


def test_a_signal_is_for_us_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """kopf's own stop, and with it the end of its watches, comes when all is finished."""
    operator = FakeOperator()

    async def as_kopf(*, registry: kopf.OperatorRegistry, stop_flag: asyncio.Event, **_: Any) -> None:
        # As in its `spawn_tasks`: it listens, and runs what is to run at its start.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, operator.told.append, "kopf stops")
        for handler in registry._activities.get_all_handlers():
            await cast(Any, handler.fn)()
        os.kill(os.getpid(), signal.SIGTERM)
        await stop_flag.wait()
        operator.told.append("kopf stops")

    monkeypatch.setattr(kopf, "operator", as_kopf)
    monkeypatch.setattr(handlers, "registry", lambda _: kopf.OperatorRegistry())
    monkeypatch.setattr(calm_toggles, "install", lambda: None)

    async def lead() -> None:
        stop = asyncio.Event()
        await run._lead(cast(Operator, operator), cast(Holding, FakeHolding()), stop)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)

    asyncio.run(asyncio.wait_for(lead(), 20))
    assert operator.told == ["prepare", "finish", "kopf stops"]
