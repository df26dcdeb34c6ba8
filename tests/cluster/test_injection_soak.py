"""Fifty rounds of what can happen to an app with a tunnel: it loses nothing that it could have kept."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import pytest

from tests.lab.namespaces import wait_until
from tests.lab.probes import Log, Probes

from .api import Api, is_ready
from .cluster import Cluster
from .gateways import GATEWAY, SYSTEM, install
from .injected import (
    ALICE,
    SIDECAR,
    WEBHOOK,
    Injected,
    app_of,
    asking,
    deployment,
    image_of,
    last_words,
    restarts_of,
)
from .insiders import Insiders
from .objects import TUNNEL, TUNNEL_2, container
from .outside import Outside

ROUNDS, SEED = 50, 7
LINGER = 2.0
BOUND = 10.0
"""Seconds without an answer of an app that goes on, at most;"""
NEXT_BOUND = 30.0
"""and of one that ends, until the next one has begun, has the tunnel and answers."""


@dataclass
class Round:
    event: str
    silence: float
    """The longest in which alice had no answer of the app, in seconds."""
    lost: int | None
    """Of what the app asked between its SIGTERM and its end; None where it did not end."""


@dataclass
class Scene:
    app: Injected
    cluster: Cluster
    log: Log
    insiders: Insiders
    done: list[Round] = field(default_factory=list)

    @property
    def api(self) -> Api:
        return self.app.api

    @property
    def only(self) -> str:
        """The pod that is not ending."""
        (name,) = [
            pod["metadata"]["name"] for pod in self.app.pods() if "deletionTimestamp" not in pod["metadata"]
        ]
        return str(name)

    def settle(self, since: float) -> None:
        wait_until(lambda: self.log.settled(since), 60, "answers of the app")
        self.app.wait_pods(1)
        self.api.wait_ready(self.only)

    # Ends of the pod

    def ends(self, begin: Callable[[str], object]) -> int:
        """How many questions of the app were not answered, from its SIGTERM to its last one."""
        old = self.only
        with last_words(self.api, old) as words:
            begin(old)
            self.app.wait_active(old, 90)
        return words["lost"]

    def deleted(self) -> int:
        return self.ends(lambda old: self.api.delete("Pod", old))

    def evicted(self) -> int:
        return self.ends(self.app.evict)

    def rolled_out(self) -> int:
        restart = ("rollout", "restart", "deployment/shop", f"--namespace={self.api.namespace}")
        return self.ends(lambda _: self.cluster.kubectl(*restart))

    def drained(self) -> int:
        node = str(self.api.get("Pod", self.only)["spec"]["nodeName"])

        options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s")
        try:
            return self.ends(lambda _: self.cluster.kubectl("drain", node, *options, timeout=100))
        finally:
            self.cluster.kubectl("uncordon", node)

    # What it lives through

    def stays(self, happen: Callable[[str], object]) -> None:
        name = self.only
        before = app_of(self.api, name)
        happen(name)
        assert app_of(self.api, name) == before, "the app was restarted"
        assert self.app.active == name

    def sidecar_killed(self) -> None:
        def kill(name: str) -> None:
            count = restarts_of(self.api.get("Pod", name))
            self.insiders.of(name).kill()
            self.api.wait("Pod", name, lambda found: restarts_of(found) > count)
            self.settle(time.monotonic())
            assert self.methods(name) == {"resumed"}

        self.stays(kill)

    def worker_killed(self) -> None:
        self.stays(lambda name: self.insiders.of(name).kill_workers())

    def upgraded(self) -> None:
        """From another image to the operator's, by the operator."""

        def patch(name: str) -> None:
            count = restarts_of(self.api.get("Pod", name))
            self.change(name, TUNNEL_2, f"{TUNNEL} not yet")
            self.api.wait("Pod", name, lambda found: restarts_of(found) == count + 1 and is_ready(found), 90)
            self.settle(time.monotonic())
            self.change(name, TUNNEL_2, None)
            self.api.wait(
                "Pod",
                name,
                lambda found: (
                    image_of(found) == TUNNEL
                    and restarts_of(found) == count + 2
                    and "handfast.dev/upgrading" not in found["metadata"].get("annotations", {})
                ),
                120,
            )
            self.settle(time.monotonic())
            assert self.app.condition("Degraded") == "False"
            assert self.methods(name) == {"resumed"}

        self.stays(patch)

    def change(self, name: str, image: str, held: str | None) -> None:
        """Give the sidecar an image; the operator replaces it unless that is said to have failed before."""
        note = {"handfast.dev/upgrade-failed": held}
        sidecar = {"name": SIDECAR, "image": image}
        self.api.patch(
            "Pod", name, {"metadata": {"annotations": note}, "spec": {"initContainers": [sidecar]}}
        )

    def injectors_replaced(self) -> None:
        options = (f"--namespace={SYSTEM}", f"deployment/{WEBHOOK}")

        def replace(_: str) -> None:
            self.cluster.kubectl("rollout", "restart", *options)
            self.cluster.kubectl("rollout", "status", *options, "--timeout=90s", timeout=100)

        self.stays(replace)

    def methods(self, name: str) -> set[str]:
        status = json.loads(self.api.exec(name, "handfast-tunnel", "status", "--json", container=SIDECAR))
        return {str(peer["method"]) for peer in status["peers"]}


EVENTS: dict[str, Callable[[Scene], int | None]] = {
    "pod deleted": Scene.deleted,
    "pod evicted": Scene.evicted,
    "rollout": Scene.rolled_out,
    "node drained": Scene.drained,
    "sidecar killed": Scene.sidecar_killed,
    "worker killed": Scene.worker_killed,
    "upgraded in place": Scene.upgraded,
    "injectors replaced": Scene.injectors_replaced,
}


@contextmanager
def scene(api: Api, cluster: Cluster, outside: Outside) -> Iterator[Scene]:
    install(cluster)
    app = Injected(api)
    with Probes() as probes:
        app.begin(deployment("shop", asking(ALICE, linger=LINGER), container(linger=LINGER)))
        client = app.alice(outside, probes)
        log = probes.ask(client.host.node, GATEWAY)
        made = Scene(app, cluster, log, Insiders(cluster, app))
        made.settle(time.monotonic())
        yield made


def rounds(scene: Scene, count: int, seed: int) -> Iterator[Round]:
    """Each event in turn, in an order that chance makes, as often as there is room."""
    order, chance = list[str](), random.Random(seed)
    while len(order) < count:
        order += chance.sample(sorted(EVENTS), len(EVENTS))
    for event in order[:count]:
        began = time.monotonic()
        lost = EVENTS[event](scene)
        scene.settle(time.monotonic())
        yield Round(event, scene.log.longest_silence(began), lost)


@pytest.mark.soak
@pytest.mark.disturbs_nodes
@pytest.mark.timeout(2400)
def test_an_app_loses_nothing_that_it_could_have_kept(api: Api, machines: Cluster, outside: Outside) -> None:
    done = list[Round]()
    with scene(api, machines, outside) as each:
        for result in rounds(each, ROUNDS, SEED):
            print(f"{len(done) + 1}: {result}", flush=True)
            done.append(result)
    for event in EVENTS:
        seen = [result for result in done if result.event == event]
        silences = [result.silence for result in seen]
        counts = [result.lost for result in seen if result.lost is not None]
        lost = sum(counts) if counts else ""
        print(f"| {event} | {len(seen)} | {median(silences):.1f} | {max(silences):.1f} | {lost} |")
    assert not [result for result in done if result.lost]
    for result in done:
        assert result.silence < (BOUND if result.lost is None else NEXT_BOUND), result
