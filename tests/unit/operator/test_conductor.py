"""The calls of a handover, cut off after each of them, and what becomes of clients then."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio.client.exceptions import ApiException

from handfast_operator import roles
from handfast_operator.conductor import RESERVED_NS, Conductor
from handfast_operator.roles import FREEZE_SECONDS
from handfast_operator.store import Failure
from handfast_operator.tunnel_state import TunnelState
from handfast_tunnel.control import ControlError, PeerStatus, Role, Status, stamps
from handfast_tunnel.control.roles import Call, Event
from handfast_tunnel.control.status import Listed

from .fakes import FakeClient, FakePod, FakeWorld, KilledError, of_two_pods
from .test_documents import configuration


@pytest.fixture(autouse=True)
def _proxies_are_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", 0.0)


def settled(world: FakeWorld) -> None:
    """One pod is active, and clients are led to it."""
    assert len(world.active()) == 1, {pod.name: pod.standing for pod in world.pods}
    assert world.active() == [world.selected]


async def _begun() -> FakeWorld:
    """`old` is active, `new` stands by."""
    world = FakeWorld()
    world.add("old")
    await world.tick(*world.operator())
    world.add("new", created="2")
    await world.tick(*world.operator())
    assert world.active() == ["old"]
    settled(world)
    return world


def begun() -> FakeWorld:
    return asyncio.run(_begun())


def test_the_first_pod() -> None:
    world = of_two_pods()
    asyncio.run(world.tick(*world.operator()))
    settled(world)
    assert world.events == ["Activated"]


def test_a_handover() -> None:
    world = begun()
    old, new = world.pods
    term = old.standing.term
    old.terminating = True
    asyncio.run(world.tick(*world.operator()))
    settled(world)
    assert world.active() == ["new"]
    assert (old.standing.role, old.standing.heard) == (Role.COMMITTED, new.standing.term)
    assert new.standing.term > term
    assert new.took == ["export of old for uid-of-new"]
    assert world.events[-1] == "HandedOver"


def test_a_handover_waits_until_proxies_are_done_with_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the old pod serves meanwhile: nothing is asked of it but what it is."""
    world = begun()
    old, _ = world.pods
    before = old.standing
    old.terminating = True
    operator = world.operator()
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", math.inf)
    asyncio.run(world.tick(*operator))
    assert (old.standing, world.selected) == (before, "old")
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", 0.0)
    asyncio.run(world.tick(*operator))
    settled(world)
    assert world.active() == ["new"]


def test_a_frozen_pod_waits_for_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clients are in the dark already."""
    world = begun()
    old, new = world.pods
    old.terminating = True
    old.apply(Call(Event.DRAIN, old.standing.term + 1, digest="d", successor="uid-of-new", seconds=5))
    assert old.standing.role is Role.DRAINING
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", math.inf)
    asyncio.run(world.tick(*world.operator()))
    settled(world)
    assert world.active() == [new.name]


CALLS = 24
"""More than a handover and the looks around it make."""


@pytest.mark.parametrize("waits", [0.0, 1.0, FREEZE_SECONDS + 1])
@pytest.mark.parametrize("calls", range(CALLS))
def test_an_operator_that_ends_in_a_handover(calls: int, waits: float) -> None:
    """After any of its calls; the next one comes at once, or when the old pod has thawed."""
    world = begun()
    world.pods[0].terminating = True
    asyncio.run(_killed_after(world, calls))
    world.pass_time(waits)
    assert len(world.active()) <= 2
    asyncio.run(world.tick(*world.operator()))
    asyncio.run(world.tick(*world.operator()))
    settled(world)
    assert world.active() == ["new"]


async def _killed_after(world: FakeWorld, calls: int) -> None:
    conductor, state = world.operator()
    world.operators.left = calls
    with suppress(KilledError):
        await world.tick(conductor, state)


@pytest.mark.parametrize("calls", range(CALLS))
def test_nobody_comes_after_an_operator_that_ends(calls: int) -> None:
    """Then the old pod thaws, or the new one is active already: somebody serves."""
    world = begun()
    world.pods[0].terminating = True
    asyncio.run(_killed_after(world, calls))
    world.pass_time(FREEZE_SECONDS + 1)
    assert world.active()


@pytest.mark.parametrize("calls", range(CALLS))
@pytest.mark.parametrize("dies", ["old", "new"])
def test_a_pod_that_dies_in_a_handover(calls: int, dies: str) -> None:
    world = begun()
    world.pods[0].terminating = True
    asyncio.run(_killed_after(world, calls))
    world.pods = [pod for pod in world.pods if pod.name != dies]
    if dies == "new":
        world.add("third", created="3")
    world.pass_time(FREEZE_SECONDS + 1)
    for _ in range(3):
        asyncio.run(world.tick(*world.operator()))
    settled(world)


def test_the_old_pod_serves_on_where_the_new_one_dies_before_the_commit() -> None:
    """A commit could not be taken back, and clients have sessions with the old one."""
    world = begun()
    old, new = world.pods
    old.terminating, new.dies_when_selected = True, True
    asyncio.run(world.tick(*world.operator()))
    settled(world)
    assert world.active() == ["old"]


def test_a_new_pod_that_falls_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """All clients are in the dark meanwhile, and the old pod can serve on."""
    world = begun()
    old, new = world.pods
    old.terminating = True
    ask = FakeClient.status

    async def status(client: FakeClient, *, peers: Listed = "all") -> Status:
        if client.pod is new and world.selected == new.name:
            new.reachable = False
            await asyncio.Event().wait()
        return await ask(client, peers=peers)

    monkeypatch.setattr(FakeClient, "status", status)
    monkeypatch.setattr("handfast_operator.conductor.PROBE_SECONDS", 0.01)

    async def run() -> None:
        async with asyncio.timeout(20):
            await world.tick(*world.operator())

    asyncio.run(run())
    assert (old.standing.role, world.selected) == (Role.ACTIVE, "old")


def test_a_pod_on_a_lost_node_is_replaced_after_three_questions() -> None:
    world = begun()
    world.pods[0].reachable = False
    world.pods[0].node = "lost"

    async def seen() -> list[list[str]]:
        conductor, state = world.operator()
        history = []
        for number in range(4):
            if number == 1:
                world.lost_nodes.add("lost")
            await world.tick(conductor, state)
            history.append([pod.name for pod in world.pods if pod.reachable and pod.name in world.active()])
        return history

    assert asyncio.run(seen()) == [[], [], ["new"], ["new"]]
    assert world.selected == "new"


@pytest.mark.parametrize("writes", [True, False], ids=["written", "cut off"])
def test_no_pod_begins_below_what_the_one_before_may_have_stamped(*, writes: bool) -> None:
    """Clients would refuse its initiations. The leader that activated that one may have written nothing."""
    world = begun()
    new = world.pods[1]

    async def fail_over(pods: list[FakePod], *, writes: bool) -> None:
        world.pods = pods
        conductor, state = world.operator()
        await conductor.tick([pod.object() for pod in world.pods], woken=True)
        if writes:
            world.note(state)

    async def run() -> None:
        await fail_over([new], writes=writes)
        await fail_over([world.add("third", created="3")], writes=True)

    asyncio.run(run())
    floors = [stamps.from_text(pod.stamped_above[-1] or "") for pod in (new, world.pods[0])]
    assert floors[1] - floors[0] >= RESERVED_NS
    assert stamps.from_text(world.status["outboundTimestampCeiling"]) - floors[1] >= RESERVED_NS


def test_a_container_that_restarts_keeps_its_place() -> None:
    world = begun()
    world.pods[0].reachable = False

    async def restart() -> None:
        conductor, state = world.operator()
        for _ in range(10):
            await world.tick(conductor, state)
        assert world.pods[1].standing.role is Role.STANDBY
        world.pods[0].reachable = True
        await world.tick(conductor, state)

    asyncio.run(restart())
    settled(world)
    assert world.active() == ["old"]


def test_after_a_partition_one_is_left() -> None:
    world = begun()
    old = world.pods[0]
    world.lose_node_of(old)

    async def parted() -> None:
        conductor, state = world.operator()
        for _ in range(4):
            await world.tick(conductor, state)
        assert world.active() == ["old", "new"]
        old.reachable = True
        state.config = configuration()
        await world.tick(conductor, state)

    asyncio.run(parted())
    settled(world)
    assert old.standing.role is Role.STANDBY


def test_a_pod_that_may_not_be_marked_stops_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is nobody's successor: the Service finds pods by that mark."""
    world = begun()
    old, new = world.pods
    refused = world.add("refused", labelled=False, created="3", template="newest")
    merge = world.merge

    async def refuse(api: str, kind: str, namespace: str, name: str, *more: Any) -> Any:
        if name == refused.name:
            raise Failure(ApiException(status=403, reason="Forbidden"))  # type: ignore[no-untyped-call]
        return await merge(api, kind, namespace, name, *more)

    monkeypatch.setattr(world, "merge", refuse)
    old.terminating = True
    operator = world.operator()
    asyncio.run(world.tick(*operator))
    settled(world)
    assert world.active() == [new.name]
    monkeypatch.undo()
    new.terminating, refused.labelled = True, True
    monkeypatch.setattr("handfast_operator.conductor.PROXY_SECONDS", 0.0)
    asyncio.run(world.tick(*operator))
    assert world.active() == [refused.name]


def test_a_stale_operator_changes_nothing() -> None:
    """It has lost the Lease and does not know: what it was about to do, somebody else has done."""
    world = begun()

    async def late() -> None:
        stale, state = world.operator()
        await world.tick(stale, state)
        world.pods[0].terminating = True
        pods = [pod.object() for pod in world.pods]
        (action,) = roles.plan(stale.view(pods))
        await world.tick(*world.operator())
        settled(world)
        before = [pod.standing for pod in world.pods], world.selected
        await stale._act(action, pods)
        assert ([pod.standing for pod in world.pods], world.selected) == before

    asyncio.run(late())
    assert world.active() == ["new"]


def test_what_a_handover_was_like_is_told_when_clients_are_back() -> None:
    world = begun()
    old, new = world.pods

    async def handed_over() -> tuple[Conductor, TunnelState]:
        conductor, state = world.operator()
        await world.tick(conductor, state)
        old.terminating = True
        await world.tick(conductor, state)
        return conductor, state

    async def run() -> None:
        conductor, state = await handed_over()
        assert state.last_handover is not None
        assert "p99Seconds" not in state.last_handover
        for latency in (0.03, 0.2):
            # The next look at peers, without the pause before it.
            new.peers = (*new.peers, PeerStatus(str(latency), method="answered", latency=latency))
            conductor._peers_due = 0.0
            await world.tick(conductor, state)
            assert state.last_handover["p99Seconds"] == f"{latency:.2f}"
        assert state.last_handover["method"] == "answered"

    asyncio.run(run())


@pytest.mark.parametrize(("takes", "apart"), [(0.01, 5), (0.2, 10), (3.0, 30)])
def test_who_is_connected_is_asked_the_less_often_the_longer_it_takes(
    takes: float, apart: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, now, asked = begun(), 1000.0, list[float]()
    ask = FakeClient.status

    async def status(client: FakeClient, *, peers: Listed = "all") -> Status:
        nonlocal now
        if peers == "heard":
            asked.append(now)
            now += takes
        return await ask(client, peers=peers)

    async def look_for_two_minutes() -> None:
        nonlocal now
        conductor, state = world.operator()
        while now < 1120:
            await world.tick(conductor, state)
            now += 0.25

    clock = SimpleNamespace(monotonic=lambda: now, time=time.time, time_ns=time.time_ns)
    monkeypatch.setattr(FakeClient, "status", status)
    monkeypatch.setattr("handfast_operator.conductor.time", clock)
    asyncio.run(look_for_two_minutes())
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses
    assert all(apart <= pause <= apart + 0.5 + takes for pause in pauses)


def test_a_failover_is_told_as_one() -> None:
    world = begun()
    old = world.pods[0]
    world.lose_node_of(old)

    async def run() -> None:
        conductor, state = world.operator()
        for _ in range(4):
            await world.tick(conductor, state)

    asyncio.run(run())
    assert world.active() == ["old", "new"]
    assert world.events[-1] == "FailedOver"


def test_a_pod_is_not_taken_for_another_at_the_same_address() -> None:
    """As on a node's own network, where the former one still answers."""
    world = begun()
    old, new = world.pods

    async def run() -> None:
        conductor, _ = world.operator()
        pods = [old.object(), replace(new.object(), address=old.name)]
        await conductor.tick(pods, woken=True)
        answers = {view.name: view.answer for view in conductor.views(pods)}
        assert answers["old"] is not None
        assert answers["new"] is None

    asyncio.run(run())


def asking(world: FakeWorld, term: int) -> tuple[Conductor, TunnelState]:
    """The next leader of a Tunnel with that annotation."""
    conductor, state = world.operator()
    state.tunnel = replace(state.tunnel, hand_over_from=term)
    state.config = configuration()
    return conductor, state


def test_a_pod_that_is_asked_to_hand_over_stands_by_afterwards() -> None:
    world = begun()
    old, new = world.pods
    term = old.standing.term

    async def run() -> None:
        operator = asking(world, term)
        for _ in range(3):
            await world.tick(*operator)
        # Nor does the next leader do it again, or back.
        await world.tick(*asking(world, term))

    asyncio.run(run())
    settled(world)
    assert (old.standing.role, new.standing.role) == (Role.STANDBY, Role.ACTIVE)
    assert world.events.count("HandedOver") == 1


@pytest.mark.parametrize("calls", range(CALLS))
def test_a_request_outlives_the_operator_that_acts_on_it(calls: int) -> None:
    world = begun()
    term = world.pods[0].standing.term

    async def killed() -> None:
        operator = asking(world, term)
        world.operators.left = calls
        with suppress(KilledError):
            await world.tick(*operator)

    asyncio.run(killed())
    for _ in range(2):
        asyncio.run(world.tick(*asking(world, term)))
    settled(world)
    assert [pod.standing.role for pod in world.pods] == [Role.STANDBY, Role.ACTIVE]


def test_a_request_that_fails_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each attempt freezes clients."""
    world = begun()
    old, _ = world.pods
    term = old.standing.term
    attempts = []

    async def refuses(*_: object) -> None:
        attempts.append(term)
        raise ControlError("no")

    monkeypatch.setattr(Conductor, "_drain", refuses)

    async def run() -> None:
        operator = asking(world, term)
        for _ in range(3):
            await world.tick(*operator)

    asyncio.run(run())
    settled(world)
    assert world.active() == ["old"]
    assert (attempts, world.events.count("HandoverFailed")) == ([term], 1)
