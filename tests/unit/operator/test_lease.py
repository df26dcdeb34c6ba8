"""One operator at a time, and each one's number."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from handfast_operator.lease import NAME, Lease, LeaseLostError

from .fake_store import FakeStore


def lease(store: FakeStore, identity: str, **times: float) -> Lease:
    options: dict[str, Any] = {"duration": 0.3, "deadline": 0.2, "retry": 0.01} | times
    return Lease(cast(Any, store), "handfast-system", identity, **options)


def test_the_first_one_leads_for_the_first_time() -> None:
    store = FakeStore()
    first = lease(store, "a")
    asyncio.run(first.acquire())
    spec = store.objects["Lease", NAME]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"], first.transitions) == ("a", 1, 1)


def test_another_waits_until_it_is_released() -> None:
    async def run() -> list[int]:
        store = FakeStore()
        first, second = lease(store, "a", duration=60), lease(store, "b", duration=60)
        await first.acquire()
        waiting = asyncio.create_task(second.acquire())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await first.release()
        await asyncio.wait_for(waiting, 5)
        return [first.transitions, second.transitions]

    assert asyncio.run(run()) == [1, 2]


def test_another_takes_over_what_is_not_renewed() -> None:
    async def run() -> None:
        store = FakeStore()
        first, second = lease(store, "a"), lease(store, "b")
        await first.acquire()
        await asyncio.wait_for(second.acquire(), 5)
        assert second.transitions == 2
        with pytest.raises(LeaseLostError, match="taken"):
            await first.hold()
        await first.release()
        assert store.objects["Lease", NAME]["spec"]["holderIdentity"] == "b"

    asyncio.run(run())


def test_whoever_renews_keeps_it() -> None:
    async def run() -> None:
        store = FakeStore()
        first, second = lease(store, "a", deadline=60), lease(store, "b", duration=5)
        await first.acquire()
        holding, waiting = asyncio.create_task(first.hold()), asyncio.create_task(second.acquire())
        await asyncio.sleep(0.3)
        assert store.calls["merge Lease"] >= 3
        assert not holding.done()
        assert not waiting.done()
        for task in (holding, waiting):
            task.cancel()

    asyncio.run(run())


def test_a_restarted_container_leads_anew() -> None:
    """Its pod's name is the same, but what it did before is not known to it."""
    store = FakeStore()
    for number in (1, 2):
        again = lease(store, "a")
        asyncio.run(again.acquire())
        assert again.transitions == number


def test_an_api_server_that_is_away_ends_it_after_the_deadline() -> None:
    class Away(FakeStore):
        away = False

        async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Any:
            if self.away:
                raise ConnectionError("away")
            return await super().get(api, kind, namespace, name)

    async def run() -> None:
        store = Away()
        only = lease(store, "a")
        await only.acquire()
        store.away = True
        with pytest.raises(LeaseLostError, match="could not be renewed"):
            await asyncio.wait_for(only.hold(), 5)

    asyncio.run(run())
