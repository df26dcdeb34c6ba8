"""Handovers that are cut off after a step, and what is checked after each: for tests, and for `make soak`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from .api import Api
from .cluster import Cluster
from .gateways import Gateway
from .insiders import Insider
from .outside import Outside
from .scene import BOUND, OWN_TIMERS, Scene
from .stepping import STEPS, Stepping

VICTIMS: Final = ("operator", "old pod", "new pod")
LATER: Final = ("commit", "new pod, once it was asked")
ALL: Final = [*((step, victim) for step in STEPS for victim in VICTIMS), LATER]


@contextmanager
def scene(cluster: Cluster, api: Api, outside: Outside) -> Iterator[Scene]:
    """Two clients of a gateway of three pods: where two die, nobody waits for a new one's start."""
    made = Scene(Gateway(api), cluster)
    made.gateway.start(gateway={"exposure": "NodePort", "replicas": 3})
    try:
        made.up(outside, "alice", "bob")
        yield made
    finally:
        made.close()


def complaint(scene: Scene, operator: Stepping, step: str, victim: str) -> str | None:
    """Kill `victim` after `step`; what was wrong with what came of it. Bounds count from when one leads."""
    scene.wait_calm()
    (old,) = scene.insiders.active()
    scene.insiders.wait_told(old)
    # To look for processes takes longer than clients need to go over to another pod.
    pods = {each.pod: each for each in scene.insiders.all()}
    handshakes = scene.handshakes()
    operator.stop_after(step)
    scene.gateway.api.delete("Pod", old)
    operator.wait_stopped()
    new = _successor(pods, old, step)
    if (step, victim) == LATER:
        operator.go_on()
        scene.wait_served()
        scene.insiders.wait_told(new)
    _kill(scene, operator, victim, pods[old if victim == "old pod" else new])

    began = time.monotonic()
    # To a pod that nobody could ask about them since: they are back by their own timers.
    gone_over = victim == "new pod" and scene.handshakes() != handshakes

    def untrue() -> str:
        return _untrue(scene.gateway.status, operator.answers(), scene.insiders.uids())

    seen = scene.watch(began, untrue)
    print(f"{victim} killed after {step}: {seen}{', clients had gone over' if gone_over else ''}")
    wrong = seen.complaint(BOUND + OWN_TIMERS if gone_over else BOUND)
    return f"{victim} killed after {step}: {wrong}" if wrong else None


def _successor(pods: Mapping[str, Insider], old: str, step: str) -> str:
    """The one that is active, or that would have been next."""
    wanted = "standby" if step == "drain" else "active"
    standings = {name: pod.standing() for name, pod in pods.items() if name != old}
    return next(name for name, standing in standings.items() if standing and standing["role"] == wanted)


def _kill(scene: Scene, operator: Stepping, victim: str, pod: Insider) -> None:
    if victim == "operator":
        operator.kill()
        operator.start()
        operator.wait_leading()
        return
    pod.kill()
    scene.gateway.api.delete("Pod", pod.pod, grace=0)
    operator.go_on()


def _untrue(status: Mapping[str, Any], answers: Iterable[Mapping[str, Any]], names: Mapping[str, str]) -> str:
    """What a Tunnel's status says that no pod had answered."""
    answers = list(answers)
    if claim := status.get("active"):
        said = {(names.get(each["pod_uid"]), each["role"], each["term"]) for each in answers}
        if (claim["pod"], "active", claim["term"]) not in said:
            return f"the status says that {claim['pod']} is active at term {claim['term']}"
    if status.get("appliedGeneration", 0) > max(each["generation"] for each in answers):
        return f"the status says that generation {status['appliedGeneration']} is applied"
    return ""
