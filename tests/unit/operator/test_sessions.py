"""What the next active pod knows of the sessions of one that was lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from handfast_operator import conductor
from handfast_operator.conductor import Conductor
from handfast_operator.tunnel_state import TunnelState
from handfast_tunnel.control import Refused, Role

from .fakes import FakeClient, FakePod, FakeWorld
from .test_conductor import begun

Operator = tuple[Conductor, TunnelState]


@pytest.fixture(autouse=True)
def _proxies_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", 0.0)


async def fail_over(world: FakeWorld, operator: Operator) -> None:
    """Until somebody else is active."""
    for _ in range(4):
        await world.tick(*operator)


def test_a_standby_is_told_while_the_active_pod_serves() -> None:
    world = begun()
    old, new = world.pods

    async def run() -> None:
        operator = world.operator()
        old.sessions = ["alice"]
        await world.tick(*operator)
        assert new.learned == ["alice"]
        old.sessions.append("bob")
        await world.tick(*operator)
        assert new.learned == ["alice", "bob"]

    asyncio.run(run())


def test_only_what_is_new_is_asked_for_and_told() -> None:
    world = begun()
    old, new = world.pods
    said: list[str] = []

    async def run() -> None:
        operator = world.operator()
        old.sessions = ["alice"]
        await world.tick(*operator)
        told = operator[0]._chronicle._accounts
        for _ in range(3):
            await world.tick(*operator)
        old.sessions.append("bob")
        await world.tick(*operator)
        said.extend(each.sealed.body.decode() for each in told)

    asyncio.run(run())
    assert [json.loads(each) for each in said] == [["alice"], ["bob"]]
    assert new.learned == ["alice", "bob"]


def test_the_successor_of_a_lost_pod_knows_its_sessions() -> None:
    world = begun()
    old, new = world.pods

    async def run() -> None:
        operator = world.operator()
        old.sessions = ["alice"]
        await world.tick(*operator)
        world.lose_node_of(old)
        await fail_over(world, operator)

    asyncio.run(run())
    assert new.standing.role is Role.ACTIVE
    assert new.learned == ["alice"]


def test_a_pod_that_is_made_when_the_only_one_is_lost_knows_them_before_it_serves() -> None:
    world = FakeWorld()
    old = world.add("old")

    async def run() -> None:
        operator = world.operator()
        await world.tick(*operator)
        old.sessions = ["alice"]
        await world.tick(*operator)
        world.pods.remove(old)
        await world.tick(*operator)
        world.add("next")
        await world.tick(*operator)

    asyncio.run(run())
    (new,) = world.pods
    assert (new.standing.role, new.learned) == (Role.ACTIVE, ["alice"])


def test_what_is_too_old_for_a_session_to_live_is_told_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is refused would take the others with it."""
    world = FakeWorld()
    old = world.add("old")
    clock = SimpleNamespace(**vars(time), now=time.monotonic())
    clock.monotonic = lambda: clock.now

    async def run() -> None:
        operator = world.operator()
        await world.tick(*operator)
        old.sessions = ["alice"]
        await world.tick(*operator)
        monkeypatch.setattr(conductor, "time", clock)
        clock.now += 150
        old.sessions += ["bob"]
        await world.tick(*operator)
        world.pods.remove(old)
        await world.tick(*operator)
        clock.now += 100
        world.add("next")
        await world.tick(*operator)

    asyncio.run(run())
    assert world.pods[0].learned == ["bob"]


def pod_that_stood_by(meanwhile: Callable[[FakeWorld], object] = lambda _: None) -> FakePod:
    """The active pod is lost, and the operator that told this one of its sessions; then another leads."""
    world = begun()
    old, new = world.pods

    async def run() -> None:
        old.sessions = ["alice"]
        await world.tick(*world.operator())
        world.lose_node_of(old)
        meanwhile(world)
        await fail_over(world, world.operator())

    asyncio.run(run())
    return new


def test_a_standby_knows_them_though_the_operator_died_with_the_active_pod() -> None:
    new = pod_that_stood_by()
    assert (new.standing.role, new.learned) == (Role.ACTIVE, ["alice"])


def test_a_pod_that_came_when_nobody_could_tell_it_does_not_succeed_before_one_that_knows() -> None:
    """It is of a newer template, too: what clients wait for comes first."""
    new = pod_that_stood_by(lambda world: world.add("third", created="3", template="b", node="n2"))
    assert (new.standing.role, new.learned) == (Role.ACTIVE, ["alice"])


def test_what_a_standby_knows_counts_as_soon_as_it_was_told() -> None:
    """It is asked every five seconds only."""
    world = begun()
    old, _ = world.pods

    async def run() -> None:
        operator = world.operator()
        await world.tick(*operator)
        old.sessions = ["alice"]
        await world.tick(*operator)
        knows = {pod.name: pod.knows for pod in operator[0].view([each.object() for each in world.pods]).pods}
        assert knows == {"old": False, "new": True}

    asyncio.run(run())


def test_a_new_leader_asks_for_all_of_it() -> None:
    world = begun()
    old = world.pods[0]

    async def run() -> None:
        old.sessions = ["alice"]
        await world.tick(*world.operator())
        third = world.add("third", created="3")
        await world.tick(*world.operator())
        assert third.learned == ["alice"]

    asyncio.run(run())


def test_whoever_follows_the_successor_knows_the_sessions_of_both() -> None:
    """Also of clients that have not gone over: they come with what was handed to the successor."""
    world = begun()
    old, new = world.pods

    async def run() -> None:
        operator = world.operator()
        old.sessions = ["alice", "bob"]
        await world.tick(*operator)
        third = world.add("another")
        old.terminating = True
        await world.tick(*operator)
        assert (new.standing.role, old.standing.role) == (Role.ACTIVE, Role.COMMITTED)
        new.sessions = ["alice again"]
        await world.tick(*operator)
        world.pods = [third]
        await world.tick(*operator)
        assert third.standing.role is Role.ACTIVE
        assert set(third.learned) == {"alice", "bob", "alice again"}

    asyncio.run(run())


def test_a_fourth_that_never_met_either_knows_them_too() -> None:
    world = begun()
    old, new = world.pods

    async def run() -> None:
        operator = world.operator()
        old.sessions = ["alice", "bob"]
        old.terminating = True
        await world.tick(*operator)
        new.sessions = ["alice again"]
        await world.tick(*operator)
        world.pods = []
        await world.tick(*operator)
        fourth = world.add("fourth", created="4")
        await world.tick(*operator)
        assert set(fourth.learned) == {"alice", "bob", "alice again"}

    asyncio.run(run())


def test_a_third_that_hangs_does_not_hold_up_a_handover(monkeypatch: pytest.MonkeyPatch) -> None:
    """An offer lasts ten seconds."""
    world = begun()
    old, new = world.pods
    third = world.add("another")
    tell, commit = FakeClient.tell_sessions, FakeClient.commit

    async def run() -> None:
        operator = world.operator()
        await world.tick(*operator)
        committed = asyncio.Event()

        async def hang(client: FakeClient, accounts: Any) -> Any:
            if client.pod is third:
                await committed.wait()
            return await tell(client, accounts)

        async def note(client: FakeClient, *, term: int) -> Any:
            committed.set()
            return await commit(client, term=term)

        monkeypatch.setattr(conductor, "PROBE_SECONDS", 60)
        monkeypatch.setattr(FakeClient, "tell_sessions", hang)
        monkeypatch.setattr(FakeClient, "commit", note)
        old.sessions, old.terminating = ["alice"], True
        await asyncio.wait_for(world.tick(*operator), 30)

    asyncio.run(run())
    assert world.active() == [new.name]
    assert third.learned == ["alice"]


def test_a_pod_that_cannot_tell_is_handed_over_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a release before this one."""

    async def sessions(*_: object) -> None:
        raise Refused(404, "GET /v1/sessions", "Not Found")

    monkeypatch.setattr(FakeClient, "sessions", sessions)
    world = begun()
    old, new = world.pods
    old.terminating = True
    asyncio.run(world.tick(*world.operator()))
    assert (old.standing.role, new.standing.role) == (Role.COMMITTED, Role.ACTIVE)
