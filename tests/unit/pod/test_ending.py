"""The end of a sidecar: it serves on while there is hope for a successor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from handfast_tunnel.control import Role
from handfast_tunnel.control.roles import ALONE_AFTER, Call, Event, Standing
from handfast_tunnel.pod.accepted import Accepted
from handfast_tunnel.pod.ending import POLL, SILENCE, LastOffer
from handfast_tunnel.pod.gateway import Gateway

from .conftest import ACTIVE, CONFIGURATION, SILENT, PodTunnel


@dataclass
class Clock:
    """In place of the event loop: calls come when a test says so."""

    now: float = 100.0
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self.due.append((when, callback))

    def spawn(self, job: Iterator[None]) -> None:
        for _ in job:
            pass

    def to(self, time: float) -> None:
        while self.due and min(when for when, _ in self.due) <= time:
            self.due.sort(key=lambda each: each[0])
            self.now, callback = self.due.pop(0)
            callback()
        self.now = time


@dataclass
class End:
    at: list[float] = field(default_factory=list)


@pytest.fixture
def tunnel() -> PodTunnel:
    tunnel = PodTunnel()
    tunnel.loop = Clock()  # type: ignore[assignment]
    return tunnel


@pytest.fixture
def gateway(tunnel: PodTunnel, tmp_path: Path) -> Gateway:
    gateway = Gateway(tunnel.as_tunnel, Accepted(tmp_path), CONFIGURATION, ACTIVE, "a")
    gateway.boot({}, 0)
    gateway.note_control_call()
    return gateway


def begin(gateway: Gateway, seconds: float = 10) -> End:
    end = End()
    LastOffer(gateway, seconds).begin(lambda: end.at.append(gateway.tunnel.loop.now))
    return end


def pass_time(gateway: Gateway, seconds: float, *, called: bool = True) -> None:
    clock = gateway.tunnel.loop
    assert isinstance(clock, Clock)
    for _ in range(round(seconds / POLL)):
        if called:
            gateway.note_control_call()
        clock.to(clock.now + POLL)


def test_it_serves_on_while_the_operator_may_find_a_successor(gateway: Gateway) -> None:
    end = begin(gateway)
    pass_time(gateway, 9)
    assert gateway.offering
    assert not gateway.tunnel.device.frozen
    assert not end.at


def test_it_ends_as_soon_as_another_pod_has_taken_over(gateway: Gateway) -> None:
    end = begin(gateway)
    pass_time(gateway, 1)
    gateway.drain(Call(Event.DRAIN, 4, now=gateway.tunnel.loop.now, seconds=5, successor="b"), 5)
    pass_time(gateway, 1)
    assert not end.at, "the handover may still be taken back"
    gateway.commit(4)
    pass_time(gateway, 2 * POLL)
    assert len(end.at) == 1


def test_it_ends_when_the_operator_says_that_nobody_comes(gateway: Gateway) -> None:
    end = begin(gateway)
    pass_time(gateway, 1)
    gateway.thaw(3)
    pass_time(gateway, 2 * POLL)
    assert len(end.at) == 1


def test_it_ends_when_nobody_calls(gateway: Gateway) -> None:
    end, began = begin(gateway), gateway.tunnel.loop.now
    pass_time(gateway, SILENCE + 1, called=False)
    assert end.at == [pytest.approx(began + SILENCE, abs=2 * POLL)]


def test_it_ends_when_its_time_is_over(gateway: Gateway) -> None:
    end, began = begin(gateway, seconds=3), gateway.tunnel.loop.now
    pass_time(gateway, 4)
    assert end.at == [pytest.approx(began + 3, abs=2 * POLL)]


def test_a_standby_ends_at_once(tunnel: PodTunnel, tmp_path: Path) -> None:
    gateway = Gateway(tunnel.as_tunnel, Accepted(tmp_path), CONFIGURATION, Standing(), "a")
    gateway.boot({}, 0)
    assert begin(gateway).at == [tunnel.loop.now]


@pytest.mark.parametrize("alone", [True, False])
def test_one_of_several_never_begins_by_itself(tunnel: PodTunnel, tmp_path: Path, alone: bool) -> None:
    single = replace(SILENT, tunnel=replace(SILENT.tunnel, replicas=1))
    gateway = Gateway(tunnel.as_tunnel, Accepted(tmp_path), single, Standing(), "a", alone=alone)
    gateway.boot({}, 0)
    pass_time(gateway, ALONE_AFTER + 2, called=False)
    assert gateway.standing.role is (Role.ACTIVE if alone else Role.STANDBY)
