"""`make soak`: fifty rounds of what can happen to an app with a tunnel, on a cluster made for that.

It loses nothing that it could have kept.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median

from tests.lab.namespaces import LabError, wait_until
from tests.lab.probes import Log, Probes
from tests.soak import document

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
from .settings import Settings

ROUNDS, SEED = 50, int(os.environ.get("SEED", "7"))
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

    @property
    def wrong(self) -> list[str]:
        bound = BOUND if self.lost is None else NEXT_BOUND
        late = [f"alice had no answer for {self.silence:.1f} s"] if self.silence > bound else []
        return [*late, *([f"{self.lost} questions of the app were lost"] if self.lost else [])]


@dataclass
class Scene:
    app: Injected
    cluster: Cluster
    log: Log
    insiders: Insiders

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


_TEXT = """\
{count} rounds with seed {seed} on an app in a Deployment with RollingUpdate, on a cluster of two nodes. The
app answers a client outside, behind NAT, that asks 20 times a second, and asks it as often, until
{linger:.0f} s after its SIGTERM. {date}, commit {commit}, load average {load:.1f} on
{processors} processors. *Silence* is the longest time in which the client had no answer, in seconds: where
the pod ends, that is mostly the next one's beginning, and of a drained node all pods begin elsewhere at the
same time, operators and injectors among them. *Lost* is what the app asked between its SIGTERM and its end,
and was not answered.

| event | rounds | silence: median | max | required | lost |
|---|---|---|---|---|---|
{rows}

{wrong}. Where the pod stays, the app was not restarted, and after each end of the sidecar's container all
sessions were resumed.
"""


def run() -> list[str]:
    """What was wrong. Whoever interrupts it gets the result of the rounds that were done."""
    cluster = Cluster(Settings("injected", 2))
    cluster.up(owner=os.getpid())
    done, failure = list[Round](), list[str]()
    try:
        api = Api(cluster.settings.kubeconfig, "soak")
        api.create_namespace()
        with Outside(cluster) as outside, scene(api, cluster, outside) as each, suppress(KeyboardInterrupt):
            for result in rounds(each, ROUNDS, SEED):
                done.append(result)
                print(f"{len(done)}: {result}", flush=True)
        api.close()
    except (AssertionError, LabError) as error:
        print(cluster.report(), file=sys.stderr)
        failure = [f"round {len(done) + 1}: {error}"]
    finally:
        cluster.down()
    wrong = [f"round {n}, {each.event}: {what}" for n, each in enumerate(done, 1) for what in each.wrong]
    wrong += failure
    document.write("An app with a tunnel", _text(done, wrong))
    return wrong


def _text(done: list[Round], wrong: list[str]) -> str:
    return _TEXT.format(
        count=len(done),
        seed=SEED,
        linger=LINGER,
        date=datetime.now(UTC).date(),
        commit=document.commit(),
        load=os.getloadavg()[2],
        processors=os.cpu_count(),
        rows="\n".join(_row(event, [each for each in done if each.event == event]) for event in EVENTS),
        wrong=f"Not as required: {'; '.join(wrong)}" if wrong else "All were as required",
    )


def _row(event: str, seen: list[Round]) -> str:
    if not seen:
        return f"| {event} | 0 | | | | |"
    silences, losses = [each.silence for each in seen], [each.lost for each in seen if each.lost is not None]
    bound, lost = (NEXT_BOUND, str(sum(losses))) if losses else (BOUND, "")
    return f"| {event} | {len(seen)} | {median(silences):.1f} | {max(silences):.1f} | {bound:.0f} | {lost} |"
