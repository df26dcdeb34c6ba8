"""Sidecars that get another image in their pods: in which order, what is looked at, and when it stops."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from kubernetes.aio.client.exceptions import ApiException

from handfast_operator import names, upgrades
from handfast_operator.conditions import Finding
from handfast_operator.tunnel_state import PodObject, Seen, Sidecar, TunnelState
from handfast_operator.upgrades import Begin, Begun, Check, Stop, Upgrader, failure, next_step
from handfast_tunnel.control import PeerStatus, Role, Status

from .fakes import FakePod, FakeWorld
from .objects import tunnel_object

OLD, NEW = "tunnel:1", "tunnel:2"


BEFORE = Sidecar(OLD, ready=True, restarts=0, after_app=True)


@dataclass
class InjectedPod(FakePod):
    """A pod that its API server changes, and whose container then restarts, for better or worse."""

    sidecar: Sidecar = BEFORE
    connected: int = 3

    def object(self) -> PodObject:
        return replace(super().object(), sidecar=self.sidecar)

    def answer(self) -> Status:
        return replace(super().answer(), connected=self.connected, pod_uid=f"uid-of-{self.name}")

    def restart(self, **changes: Any) -> None:
        self.sidecar = replace(self.sidecar, restarts=self.sidecar.restarts + 1, **changes)


@dataclass
class World(FakeWorld):
    told: list[tuple[str, str]] = field(default_factory=list)

    def pod(self, name: str) -> InjectedPod:
        return cast(InjectedPod, next(pod for pod in self.pods if pod.name == name))

    async def merge_lists(self, api: str, kind: str, namespace: str, name: str, patch: Any) -> None:
        pod = self.pod(name)
        notes = patch["metadata"]["annotations"]
        changes: dict[str, Any] = {}
        if names.UPGRADING in notes:
            changes["upgrading"] = notes[names.UPGRADING]
        if names.UPGRADE_FAILED in notes:
            changes["failed"] = notes[names.UPGRADE_FAILED] or ""
        for container in patch.get("spec", {}).get("initContainers", ()):
            assert container["name"] == "handfast-tunnel"
            changes["image"] = container["image"]
        pod.sidecar = replace(pod.sidecar, **changes)

    async def tell(self, type: str, reason: str, message: str) -> None:
        self.told.append((reason, message))


class Scene:
    def __init__(self, *pods: tuple[str, Role], image: str = NEW) -> None:
        self.world = World()
        for name, role in pods:
            self.world.pods.append(InjectedPod(name, self.world))
            self.world.pods[-1].standing = replace(self.world.pods[-1].standing, role=role, term=3, heard=3)
        self.state = TunnelState(tunnel_object(gateway=None))
        self.upgrader = self.operator(image)

    def operator(self, image: str = NEW) -> Upgrader:
        world = cast(Any, self.world)
        return Upgrader(world, world, self.state, image, self.world.tell)

    def look(self) -> None:
        pods = [pod.object() for pod in self.world.pods]
        for pod in self.world.pods:
            self.state.seen[f"uid-of-{pod.name}"] = Seen(pod.answer())
        asyncio.run(self.upgrader.tick(pods))

    def images(self) -> list[str]:
        return [pod.object().sidecar.image for pod in self.world.pods]  # type: ignore[union-attr]

    @property
    def degraded(self) -> str:
        found = self.state.findings.get("Degraded")
        return found.message if found else ""


@pytest.fixture
def scene() -> Scene:
    return Scene(("a", Role.ACTIVE), ("b", Role.STANDBY), ("c", Role.STANDBY))


def test_one_after_the_other_and_the_active_one_last(scene: Scene) -> None:
    order = []
    for _ in range(3):
        before = scene.images()
        scene.look()
        (name,) = [
            pod.name
            for pod, old, new in zip(scene.world.pods, before, scene.images(), strict=True)
            if old != new
        ]
        order.append(name)
        scene.look()
        assert scene.images().count(OLD) == 3 - len(order), "nothing else begins before it runs again"
        scene.world.pod(name).restart()
        scene.look()
    assert order == ["b", "c", "a"]
    assert [reason for reason, _ in scene.world.told] == ["Upgraded"] * 3
    assert "3 sessions went on" in scene.world.told[-1][1]
    scene.look()
    assert len(scene.world.told) == 3
    assert all(pod.object().sidecar.upgrading is None for pod in scene.world.pods)  # type: ignore[union-attr]


def test_what_has_the_image_is_let_be() -> None:
    scene = Scene(("a", Role.ACTIVE), image=OLD)
    scene.look()
    assert scene.world.pod("a").sidecar == BEFORE


@pytest.mark.parametrize(
    ("then", "why"),
    [
        ({"peers": (PeerStatus("k", method="answered"),)}, "had to shake hands anew (answered)"),
        ({"connected": 1}, "of 3 sessions 1 are left"),
        ({"role": Role.STANDBY}, "it was active, and is standby"),
    ],
)
def test_it_stops_where_sessions_did_not_go_on(
    monkeypatch: pytest.MonkeyPatch, then: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(upgrades, "RESUME_SECONDS", 0)
    scene = Scene(("a", Role.ACTIVE), ("b", Role.STANDBY))
    scene.world.pod("b").sidecar = replace(BEFORE, image=NEW)
    scene.look()
    pod = scene.world.pod("a")
    pod.restart()
    for name, value in then.items():
        if name == "role":
            pod.standing = replace(pod.standing, role=value)
        else:
            setattr(pod, name, value)
    scene.look()
    scene.world.pod("b").sidecar = replace(BEFORE, image=OLD)
    scene.look()
    assert why in scene.degraded
    assert names.UPGRADE_FAILED in scene.degraded
    assert pod.sidecar.image == NEW, "its tunnel runs"
    assert scene.images() == [NEW, OLD], "no further"


def test_sessions_are_waited_for(scene: Scene) -> None:
    begun = Begun(OLD, 0, "active", 3, 0.0)
    status = replace(scene.world.pod("a").answer(), connected=2)
    assert failure(begun, status, 1) == ""
    assert failure(begun, replace(status, connected=3), 1) is None
    resumed = replace(status, connected=3, peers=(PeerStatus("k", method="resumed"), PeerStatus("l")))
    assert failure(begun, resumed, 1) is None


def test_one_that_does_not_run_gets_its_image_back(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    monkeypatch.setattr(upgrades, "RESTART_SECONDS", 0)
    scene.look()
    pod = scene.world.pod("b")
    pod.sidecar = replace(pod.sidecar, ready=False, trouble="ErrImagePull")
    scene.look()
    assert pod.sidecar.image == OLD
    scene.look()
    assert "ErrImagePull" in scene.degraded
    assert scene.images() == [OLD] * 3


def test_another_image_is_tried_again(scene: Scene) -> None:
    pod = scene.world.pod("b")
    pod.sidecar = replace(pod.sidecar, failed=f"{NEW} it does not run")
    scene.look()
    assert "it does not run" in scene.degraded
    scene.upgrader = scene.operator("tunnel:3")
    scene.look()
    assert not scene.degraded
    assert "tunnel:3" in scene.images()


def test_the_next_operator_goes_on(scene: Scene) -> None:
    scene.look()
    scene.world.pod("b").restart()
    scene.upgrader = scene.operator()
    scene.look()
    assert scene.world.told[0][0] == "Upgraded"


@pytest.mark.parametrize(
    "text", ["soon", '{"image": "x", "restarts": 0, "role": "active", "connected": 0, "at": "now"}']
)
def test_what_somebody_else_wrote_into_the_annotation_is_removed(scene: Scene, text: str) -> None:
    pod = scene.world.pod("c")
    pod.sidecar = replace(pod.sidecar, upgrading=text)
    scene.look()
    assert pod.sidecar.upgrading is None
    assert pod.sidecar.image == OLD


def test_a_cluster_that_refuses_the_image_is_told_of_and_its_tunnel_goes_on(
    monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    async def refuse(*_: object) -> None:
        raise ApiException(status=403, reason="Forbidden")

    monkeypatch.setattr(scene.world, "merge_lists", refuse)
    scene.look()
    assert "403 Forbidden" in scene.degraded
    monkeypatch.undo()
    scene.look()
    assert not scene.degraded
    assert NEW in scene.images()


def test_another_trouble_of_the_tunnel_is_not_hidden(scene: Scene) -> None:
    scene.state.findings["Degraded"] = Finding("Degraded", "True", "NameTaken", "taken")
    scene.world.pod("b").sidecar = replace(BEFORE, failed=f"{NEW} why")
    scene.look()
    assert scene.degraded == "taken"


def test_a_pod_that_does_not_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    scene.look()
    pod = scene.world.pod("b")
    pod.restart()
    pod.reachable = False
    scene.look()
    assert pod.sidecar.upgrading is not None
    monkeypatch.setattr(upgrades, "RESUME_SECONDS", 0)
    scene.look()
    assert "does not answer" in pod.sidecar.failed


@pytest.mark.parametrize(
    "unfit", [{"terminating": True}, {"over": True}, {"ready": False}, {"sidecar": None}], ids=str
)
def test_which_pods_are_let_be(unfit: dict[str, Any]) -> None:
    pod = replace(Scene(("a", Role.ACTIVE)).world.pods[0].object(), **unfit)
    answered = Seen(Scene(("a", Role.ACTIVE)).world.pods[0].answer())
    assert next_step([pod], lambda _: answered, NEW) is None


def test_steps() -> None:
    scene = Scene(("a", Role.ACTIVE))
    pod = scene.world.pods[0].object()
    answered = Seen(scene.world.pods[0].answer())
    assert next_step([pod], lambda _: answered, NEW) == Begin(pod)
    assert next_step([pod], lambda _: Seen(), NEW) is None, "it does not answer now"
    begun = Begun(OLD, 0, "active", 3, 1.5)
    assert pod.sidecar is not None
    at_it = replace(pod, sidecar=replace(pod.sidecar, upgrading=begun.dump()))
    assert next_step([at_it], lambda _: answered, NEW) == Check(at_it, begun)
    failed = replace(pod, sidecar=replace(pod.sidecar, failed=f"{NEW} it is so"))
    assert next_step([failed], lambda _: answered, NEW) == Stop(failed, "it is so")
    assert next_step([failed], lambda _: answered, "tunnel:3") == Begin(failed)
