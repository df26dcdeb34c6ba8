"""An operator that ends finishes what clients wait for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import pytest

from handfast_operator import leader
from handfast_operator.leader import Operator
from handfast_operator.worker import Worker


@dataclass
class FakeWorker:
    left: int
    """So often it says that something is pending."""

    @property
    def pending(self) -> bool:
        self.left -= 1
        return self.left >= 0


def operator(*workers: FakeWorker) -> Operator:
    made = Operator(cast(Any, None), cast(Any, None), cast(Any, None))
    made.workers = {("vpn", str(number)): cast(Worker, worker) for number, worker in enumerate(workers)}
    return made


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "TOGETHER_SECONDS", 0.0)


def test_it_waits_for_every_tunnel() -> None:
    workers = FakeWorker(0), FakeWorker(2)
    asyncio.run(operator(*workers).finish())
    assert workers[1].left == -1


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leader, "FINISH_SECONDS", 0.2)
    endless = FakeWorker(1_000_000)
    asyncio.run(operator(endless).finish())
    assert endless.left > 0
