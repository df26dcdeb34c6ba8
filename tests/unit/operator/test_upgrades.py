"""Sidecars that get another image in their pods: in which order, what is looked at, and when it stops."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from kubernetes.aio.client.exceptions import ApiException

from handfast_operator import names, upgrades, witnesses
from handfast_operator.conditions import Finding, timestamp
from handfast_operator.tunnel_state import PodObject, Seen, Sidecar, TunnelState
from handfast_operator.upgrades import (
    Begin,
    Begun,
    Check,
    Stop,
    Upgrader,
    next_step,
    obstacle,
    verdict,
)
from handfast_operator.witnesses import Witness
from handfast_tunnel.control import PeerStatus, Role, Status

from .fakes import FakePod, FakeWorld
from .objects import tunnel_object

OLD, NEW = "tunnel:1", "tunnel:2"
NOW = 1_750_000_000.0

BEFORE = Sidecar(OLD, ready=True, restarts=0, after_app=True, upgrades=True)


def client(key: str, *, age: float = 30, heard: float = 60, **more: Any) -> PeerStatus:
    """With a session that is `age` seconds old, and `heard` seconds ago."""
    now = time.time()
    return PeerStatus(key, connected=True, last_handshake=now - age, last_received=now - heard, **more)


@dataclass
class InjectedPod(FakePod):
    """A pod that its API server changes, and whose container then restarts, for better or worse."""

    sidecar: Sidecar = BEFORE
    peers: tuple[PeerStatus, ...] = field(default_factory=lambda: tuple(map(client, "klm")))

    def object(self) -> PodObject:
        return replace(super().object(), sidecar=self.sidecar)

    def answer(self) -> Status:
        return replace(super().answer(), connected=sum(peer.connected for peer in self.peers))

    def restart(self, **changes: Any) -> None:
        self.sidecar = replace(self.sidecar, restarts=self.sidecar.restarts + 1, **changes)


@dataclass
class World(FakeWorld):
    told: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[dict[str, str]] = field(default_factory=list)

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

    async def list(self, api: str, kind: str, namespace: str, labels: str = "", fields: str = "") -> Any:
        assert kind == "Event"
        assert fields.startswith("involvedObject.uid=uid-of-")
        return self.warnings

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
        ({"peers": (client("k", age=0, method="answered"),)}, "had to shake hands anew (answered)"),
        (
            {"peers": (client("k"), PeerStatus("l"), PeerStatus("m"))},
            "of 3 clients with a session 2 have lost",
        ),
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


def begun(*sessions: Witness, role: Role = Role.ACTIVE) -> Begun:
    return Begun(OLD, 0, role, NOW, sessions)


def status(*peers: PeerStatus) -> Status:
    return replace(Scene(("a", Role.ACTIVE)).world.pod("a").answer(), peers=peers)


def peer(key: str, born: float | None = NOW, method: str | None = None) -> PeerStatus:
    return PeerStatus(key, connected=born is not None, last_handshake=born, method=method)


YOUNG = Witness("k", NOW - 30, lively=False)
LIVELY = replace(YOUNG, lively=True)
RESUMED = peer("k", YOUNG.born, "resumed")


def test_who_had_no_session_is_not_looked_at() -> None:
    """A phone that wakes exactly then, and one that was taken away."""
    wakes = peer("phone", NOW + 2, "waited")
    found = verdict(begun(YOUNG, replace(YOUNG, key="gone")), status(RESUMED, wakes), 1, 1, NOW + 3)
    assert (found.failure, found.settled, found.went_on) == ("", True, 1)


def test_a_session_that_was_to_be_renewed_may_be() -> None:
    old = Witness("k", NOW - 119, lively=True)
    assert not verdict(begun(old), status(peer("k", NOW + 2, "waited")), 1, 1, NOW + 2).failure
    assert verdict(begun(YOUNG), status(peer("k", NOW + 2, "waited")), 1, 1, NOW + 2).failure
    over = Witness("k", NOW - 170, lively=False)
    assert not verdict(begun(over), status(peer("k", None)), 1, 100, NOW + 11).failure
    assert verdict(begun(over), status(peer("k", None)), 1, 100, NOW + 9).failure


def test_one_whose_image_was_slow_to_come_is_not_blamed_for_it() -> None:
    """Its clients shake hands of their own accord meanwhile."""
    by_itself = status(peer("k", NOW + 40, "waited"))
    assert verdict(begun(YOUNG), by_itself, 2, 1, NOW + 41).failure
    assert not verdict(begun(YOUNG), by_itself, 40, 1, NOW + 41).failure


def test_sessions_are_waited_for() -> None:
    lost = status(peer("k", None))
    assert not verdict(begun(YOUNG), lost, 1, 1, NOW).settled
    assert verdict(begun(YOUNG), lost, 1, 1e3, NOW).failure


def test_whoever_was_sending_is_waited_for_until_it_is_heard() -> None:
    """One whose packets are not understood shakes hands within that time."""
    unheard = status(peer("k", YOUNG.born))
    assert not verdict(begun(LIVELY), unheard, 1, 1, NOW).settled
    assert verdict(begun(LIVELY), status(RESUMED), 1, 1, NOW).settled
    assert verdict(begun(LIVELY), unheard, 1, upgrades.RESUME_SECONDS, NOW).settled, (
        "it may have gone to sleep"
    )
    assert verdict(begun(YOUNG), unheard, 1, 1, NOW).settled, "it says nothing for long"


def test_where_nobody_is_served_nobody_is_looked_at() -> None:
    standby = replace(status(peer("k", None)), role=Role.STANDBY)
    assert verdict(begun(YOUNG, role=Role.STANDBY), standby, 1, 1e3, NOW).went_on == 0


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("ErrImagePull", "its image cannot be pulled (ErrImagePull)"),
        ("ImagePullBackOff", "its image cannot be pulled (ImagePullBackOff)"),
        ("CrashLoopBackOff", "its container does not start (CrashLoopBackOff)"),
    ],
)
def test_one_that_does_not_run_gets_its_image_back_at_once(scene: Scene, trouble: str, says: str) -> None:
    scene.look()
    pod = scene.world.pod("b")
    pod.sidecar = replace(pod.sidecar, ready=False, trouble=trouble)
    scene.look()
    assert pod.sidecar.image == OLD
    scene.look()
    assert f"{says}: it has its former image again" in scene.degraded
    assert scene.images() == [OLD] * 3


def test_what_events_say_of_its_pull_counts(scene: Scene) -> None:
    """Where the former container has ended well, nothing else tells."""

    def event(message: str, at: float) -> dict[str, str]:
        return {"message": message, "lastTimestamp": timestamp(at)}

    scene.look()
    pod, now, failed = scene.world.pod("b"), time.time(), f'Failed to pull image "{NEW}": not found'
    pod.sidecar = replace(pod.sidecar, ready=False)
    scene.world.warnings = [event(failed, now - 600), event('Failed to pull image "other"', now)]
    scene.look()
    assert pod.sidecar.image == NEW, "it is an earlier attempt's, or the app's"
    scene.world.warnings.append(event(failed, now))
    scene.look()
    assert pod.sidecar.image == OLD
    scene.look()
    assert f"its image cannot be pulled ({failed})" in scene.degraded


def test_who_may_not_read_events_waits(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise ApiException(status=403, reason="Forbidden")

    monkeypatch.setattr(scene.world, "list", refuse)
    scene.look()
    scene.look()
    assert scene.world.pod("b").sidecar.upgrading is not None
    assert not scene.degraded


def test_the_time_for_a_pull_and_the_time_for_a_start_are_two() -> None:
    before = begun()
    pulling, starting = replace(BEFORE, ready=False), replace(BEFORE, ready=False, restarts=1)
    assert not obstacle(pulling, before, "", upgrades.PULL_SECONDS - 1, 0)
    assert "image is not there" in obstacle(pulling, before, "", upgrades.PULL_SECONDS, 0)
    assert not obstacle(starting, before, "", upgrades.PULL_SECONDS, upgrades.START_SECONDS - 1)
    assert "is not ready" in obstacle(starting, before, "", upgrades.PULL_SECONDS, upgrades.START_SECONDS)
    assert not obstacle(replace(starting, ready=True), before, "", 1e3, 1e3)


def test_time_runs_from_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(("a", Role.ACTIVE))
    clock = FakeTime(time.time())
    monkeypatch.setattr(upgrades, "time", clock)
    monkeypatch.setattr("handfast_operator.witnesses.REJECT_AFTER_TIME", 1e6)
    pod = scene.world.pod("a")
    scene.look()
    clock.now += upgrades.PULL_SECONDS - 1
    scene.look()
    pod.restart(ready=False)
    pod.peers = tuple(map(PeerStatus, "klm"))
    scene.look()
    clock.now += upgrades.START_SECONDS - 1
    scene.look()
    pod.sidecar = replace(pod.sidecar, ready=True)
    scene.look()
    clock.now += upgrades.RESUME_SECONDS - 1
    scene.look()
    assert not pod.sidecar.failed
    clock.now += 1
    scene.look()
    assert "3 have lost it" in pod.sidecar.failed


@dataclass
class FakeTime:
    now: float

    def time(self) -> float:
        return self.now


def test_how_long_there_was_no_container_stands_in_its_pods_status() -> None:
    status = {
        "name": "handfast-tunnel",
        "restartCount": 1,
        "ready": True,
        "state": {"running": {"startedAt": "2026-11-28T04:00:42Z"}},
        "lastState": {"terminated": {"finishedAt": "2026-11-28T04:00:02Z"}},
    }
    spec = {"initContainers": [{"name": "handfast-tunnel", "image": NEW}]}
    pod = {"metadata": {}, "spec": spec, "status": {"initContainerStatuses": [status]}}
    found = Sidecar.of(pod)
    assert found is not None
    assert (found.silence, found.trouble) == (40, "")
    status |= {"state": {"waiting": {"reason": "ErrImagePull"}}}
    found = Sidecar.of(pod)
    assert found is not None
    assert (found.silence, found.trouble) == (0, "ErrImagePull")


def test_what_is_noted_of_a_pod_fits_into_an_annotation(scene: Scene) -> None:
    """With as many clients as a Tunnel can have: the last ones that were heard."""
    crowd = tuple(client(f"{n:044}", heard=10_000 - n) for n in range(10_000))
    scene.world.pod("a").peers = crowd
    for name in "bc":
        scene.world.pod(name).sidecar = replace(BEFORE, image=NEW)
    scene.look()
    noted = scene.world.pod("a").sidecar.upgrading
    assert noted is not None
    assert len(noted) < 64 * 1024
    read = Begun.parse(noted)
    assert read is not None
    assert {each.key for each in read.sessions} == {peer.public_key for peer in crowd[-witnesses.MOST :]}
    assert (read.sessions[0].lively, read.sessions[-1].lively) == (True, False)


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
    "text",
    [
        "soon",
        "[]",
        '{"image": "x", "restarts": 0, "role": "active", "at": 1.0}',
        '{"image": "x", "restarts": 0, "role": "active", "at": "now", "sessions": []}',
        '{"image": "x", "restarts": 0, "role": "active", "at": 1.0, "sessions": [["k", "1", true]]}',
    ],
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
    "unfit",
    [
        {"terminating": True},
        {"over": True},
        {"ready": False},
        {"sidecar": None},
        {"sidecar": replace(BEFORE, upgrades=False)},
    ],
    ids=str,
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
    noted = begun(YOUNG, LIVELY)
    assert pod.sidecar is not None
    at_it = replace(pod, sidecar=replace(pod.sidecar, upgrading=noted.dump()))
    assert next_step([at_it], lambda _: answered, NEW) == Check(at_it, noted)
    failed = replace(pod, sidecar=replace(pod.sidecar, failed=f"{NEW} it is so"))
    assert next_step([failed], lambda _: answered, NEW) == Stop(failed, "it is so")
    assert next_step([failed], lambda _: answered, "tunnel:3") == Begin(failed)
