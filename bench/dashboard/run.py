"""The drill: clients outside ask something behind a gateway of two pods, and faults befall it, one by one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Final

import yaml
from tests.cluster.api import Api
from tests.cluster.cluster import Cluster
from tests.cluster.faults import FAULTS
from tests.cluster.gateways import CHART, SYSTEM, Gateway, install
from tests.cluster.outside import Outside
from tests.cluster.prometheus import Prometheus
from tests.cluster.scene import Scene
from tests.cluster.settings import Settings

from .answers import gather
from .results import Mark, Seen

STEP: Final = 5
"""Seconds; Prometheus scrapes as often."""
CLIENTS: Final = 8
PAUSE: Final = 50.0
"""From a fault to the next; at most, what it takes until all is calm."""
DRILL: Final = (
    "worker killed",
    "container killed",
    "rollout",
    "operators killed",
    "pod evicted",
    "pod killed and deleted at once",
)
_SEED: Final = 1

Say = Callable[[str], None]


def run(say: Say) -> Seen:
    with ExitStack() as closing:
        cluster = Cluster(Settings(f"bench-{os.getpid()}", nodes=2))
        cluster.up(owner=os.getpid())
        closing.callback(cluster.down)
        install(cluster)
        api = Api(cluster.settings.kubeconfig, "vpn")
        closing.callback(api.close)
        api.create_namespace()
        outside = closing.enter_context(Outside(cluster))
        rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
        prometheus = closing.enter_context(Prometheus(cluster, ("vpn", SYSTEM), [rules], f"{STEP}s"))
        scene = Scene(Gateway(api), cluster)
        closing.callback(scene.close)
        scene.gateway.start()
        scene.up(outside, *(f"client{number}" for number in range(1, CLIENTS + 1)))
        say(f"{CLIENTS} clients ask; a fault every {PAUSE:.0f} s")
        began = time.time()
        faults = _drill(scene, began, say)
        return gather(prometheus, began, STEP, faults, namespace="vpn", tunnel="office")


def _drill(scene: Scene, began: float, say: Say) -> list[Mark]:
    random, done = Random(_SEED), []
    known = {fault.name: fault for fault in FAULTS}
    for number, name in enumerate(DRILL, 1):
        time.sleep(max(0.0, began + PAUSE * number - time.time()))
        scene.wait_calm()
        done.append(Mark(round(time.time() - began, 1), name))
        say(f"  {done[-1].at:.0f} s: {name}")
        known[name].strike(scene, random)
    scene.wait_calm()
    time.sleep(PAUSE)
    return done
