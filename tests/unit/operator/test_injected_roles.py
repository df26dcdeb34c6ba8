"""Who serves where the tunnel is beside somebody's app, and when its end waits for whom."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Any

import pytest

from handfast_operator.roles import VAIN_SECONDS, Handover, Thaw, View, pending, plan
from handfast_operator.tunnel_state import PodObject, Sidecar, has_tunnel
from handfast_tunnel.control import Role, Status
from handfast_tunnel.control.roles import Call, Event, Standing

from .fakes import FakePod, FakeWorld
from .objects import pod as view_of
from .test_roles import view


def active(**more: Any) -> Any:
    return view_of("old", Role.ACTIVE, 4, after_app=True, **more)


NEW = view_of("new", Role.STANDBY, after_app=True)


def planned(*pods: Any, **more: Any) -> Any:
    seen: View = view(*pods, selected="old", **more)
    return plan(seen)


def test_while_the_app_runs_nothing_moves() -> None:
    assert planned(active(terminating=True), NEW) == []


def test_when_the_app_has_ended_its_sessions_move() -> None:
    old = active(terminating=True, offering=True)
    assert planned(old, NEW) == [Handover(old, NEW, 5)]


def test_an_operator_that_ends_waits_for_an_app_that_ends() -> None:
    """Both are on a node that is drained, and the next operator would come too late."""
    old = active(terminating=True)
    assert pending(view(old, NEW, selected="old"))
    assert not pending(view(old, selected="old")), "nobody is there to take over"
    assert not pending(view(active(), NEW, selected="old"))


def test_an_offer_waits_for_a_pod_that_starts() -> None:
    starting = view_of("new", ready=False, after_app=True)
    assert planned(active(terminating=True, offering=True, offered=5), starting) == []


def test_an_offer_is_in_vain_where_no_other_pod_is() -> None:
    """As with Recreate, or a StatefulSet of one: the next pod begins when this one is gone."""
    old = active(terminating=True, offering=True, offered=VAIN_SECONDS, heard=6)
    assert planned(old) == [Thaw(old, 6)]
    assert planned(old, view_of("ends", Role.STANDBY, terminating=True)) == [Thaw(old, 6)]


def test_an_offer_is_in_vain_where_the_pod_has_done_its_work() -> None:
    """As a Job's: nobody deletes it."""
    old = active(offering=True, offered=VAIN_SECONDS)
    assert planned(old) == planned(old, NEW) == [Thaw(old, 4)]


def test_an_offer_is_not_in_vain_while_other_news_may_be_on_their_way() -> None:
    assert planned(active(offering=True, offered=VAIN_SECONDS / 2), NEW) == []
    assert planned(active(terminating=True, offering=True, offered=VAIN_SECONDS / 2)) == []


@pytest.mark.parametrize("after_app", [True, False])
def test_an_upgrade_in_place_moves_nothing(after_app: bool) -> None:
    old = view_of("old", Role.ACTIVE, 4, offering=True, stays=True, after_app=after_app)
    assert planned(old, NEW) == [Thaw(old, 4)]


def test_a_gateways_offer_is_never_in_vain() -> None:
    old = view_of("old", Role.ACTIVE, 4, terminating=True, offering=True, offered=60)
    assert planned(old) == []


def body(**changes: Any) -> dict[str, Any]:
    container = {
        "name": "handfast-tunnel",
        "image": "tunnel:1",
        "args": ["run", "--standby", "--after-app=10"],
        "restartPolicy": "Always",
    }
    ours = {"name": "handfast-tunnel", "ready": True, "restartCount": 2, "state": {"running": {}}}
    return {
        "metadata": {
            "name": "shop-1",
            "uid": "u",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {"handfast.dev/tunnel": "office", "controller-revision-hash": "r1"},
        },
        "spec": {"nodeName": "n1", "initContainers": [container], "containers": [{"name": "app"}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "initContainerStatuses": [ours],
            "podIP": "10.0.0.1",
        },
    } | changes


def test_a_pod_is_ready_for_roles_when_its_sidecar_is() -> None:
    """Its app may wait for the tunnel."""
    found = PodObject.parse(body())
    assert found.ready
    assert found.sidecar == Sidecar("tunnel:1", ready=True, restarts=2, after_app=True)
    assert found.template == "r1"


def test_a_sidecar_that_does_not_run() -> None:
    waiting = {
        "name": "handfast-tunnel",
        "ready": False,
        "restartCount": 0,
        "state": {"waiting": {"reason": "ErrImagePull"}},
    }
    found = PodObject.parse(body(status={"initContainerStatuses": [waiting]}))
    assert not found.ready
    assert found.sidecar is not None
    assert found.sidecar.trouble == "ErrImagePull"


def test_a_label_alone_is_no_tunnel() -> None:
    assert has_tunnel(body())
    labelled = body(spec={"containers": [{"name": "tunnel"}]})
    assert not has_tunnel(labelled)
    labelled["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "handfast"
    assert has_tunnel(labelled)


@dataclass
class Offering(FakePod):
    """A sidecar that was told to end, and serves on until its offer is taken or withdrawn."""

    offers: bool = True
    upgrading: str | None = None

    def object(self) -> PodObject:
        sidecar = Sidecar("tunnel:1", ready=True, restarts=0, after_app=True, upgrading=self.upgrading)
        return replace(super().object(), sidecar=sidecar)

    def answer(self) -> Status:
        return replace(super().answer(), offering=self.offers)

    def apply(self, call: Call) -> None:
        super().apply(call)
        self.offers = self.offers and call.event is not Event.THAW


@pytest.mark.parametrize("upgrading", [None, "noted"])
def test_the_operator_withdraws_an_offer_that_is_in_vain(
    monkeypatch: pytest.MonkeyPatch, upgrading: str | None
) -> None:
    """A Job's at its second look, a moment later; that of a container which is replaced at once."""
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    world = FakeWorld()
    pod = Offering("a", world, Standing(Role.ACTIVE, 3, 3), upgrading=upgrading)
    world.pods.append(pod)
    conductor, state = world.operator()
    asyncio.run(world.tick(conductor, state))
    assert pod.offers is (upgrading is None)
    now += VAIN_SECONDS
    asyncio.run(world.tick(conductor, state))
    assert not pod.offers
    assert world.active() == ["a"], "it serves to its end"
