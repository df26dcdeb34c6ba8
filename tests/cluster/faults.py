"""Rounds of a random fault each, on a gateway behind a load balancer: tests run some, `make soak` many."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from . import cgroups, control_plane, node
from .api import Api
from .cloud import Balancer
from .cluster import Cluster
from .gateways import Gateway
from .network import set_cable
from .outside import Outside
from .scene import BOUND, OWN_TIMERS, Recovery, Scene

LATE: Final = BOUND + OWN_TIMERS
"""Where the pod is gone before anybody leads again, from then on."""


@dataclass(frozen=True)
class Fault:
    name: str
    strike: Callable[[Scene, Random], None]
    """Returns when recovery may begin."""
    bound: float
    """Seconds without an answer, at most."""


@dataclass(frozen=True)
class Round:
    number: int
    fault: str
    recovery: Recovery
    wrong: tuple[str, ...]


@contextmanager
def scene(cluster: Cluster, api: Api, outside: Outside) -> Iterator[Scene]:
    """Three clients of a gateway behind a load balancer, which finds another node when one is lost."""
    gateway = Gateway(api)
    gateway.start(gateway={"exposure": "LoadBalancer"})
    api.wait("Service", gateway.name, bool)
    made = Scene(gateway, cluster)
    # Its own: one client of the API serves one thread.
    cloud = Api(cluster.settings.kubeconfig, api.namespace)
    try:
        with Balancer(cluster, cloud, gateway.name, keeps_flows=False) as balancer:
            balancer.wait_healthy(*cluster.settings.node_names)
            made.up(outside, "alice", "bob", "carol")
            yield made
    finally:
        made.close()
        cloud.close()


def rounds(scene: Scene, seed: int, count: int) -> Iterator[Round]:
    """What `seed` chooses, one after the other; each begins when all is calm."""
    random = Random(seed)
    heard: set[str] = set()
    for number in range(1, count + 1):
        fault = random.choice(FAULTS)
        scene.wait_calm()
        fault.strike(scene, random)
        recovery = scene.watch(time.monotonic())
        wrong = [found] if (found := recovery.complaint(fault.bound)) else []
        on_the_wire = set(scene.wrong_on_the_wire()) - heard
        heard |= on_the_wire
        yield Round(number, fault.name, recovery, (*wrong, *sorted(on_the_wire)))


def _active(scene: Scene) -> str:
    (active,) = scene.insiders.active()
    return active


def _kill_worker(scene: Scene, _: Random) -> None:
    scene.insiders.of(_active(scene)).kill_workers()


def _kill_container(scene: Scene, _: Random) -> None:
    scene.insiders.of(_active(scene)).kill()


def _stop_for_a_moment(scene: Scene, random: Random) -> None:
    """Longer than the operator waits for answers, and shorter than a node takes to be lost."""
    insider = scene.insiders.of(_active(scene))
    insider.signal(signal.SIGSTOP)
    time.sleep(random.uniform(0.5, 3))
    insider.signal(signal.SIGCONT)


def _delete_pod(scene: Scene, _: Random) -> None:
    scene.gateway.api.delete("Pod", _active(scene))


def _take_pod_away(scene: Scene, _: Random) -> None:
    pod = _active(scene)
    scene.insiders.wait_told(pod)
    scene.insiders.of(pod).kill()
    scene.gateway.api.delete("Pod", pod, grace=0)


def _take_standby_away(scene: Scene, _: Random) -> None:
    standby = next(pod for pod, role in scene.insiders.roles().items() if role == "standby")
    scene.gateway.api.delete("Pod", standby, grace=0)


def _evict(scene: Scene, _: Random) -> None:
    scene.gateway.evict(_active(scene))


def _roll_out(scene: Scene, random: Random) -> None:
    stamp = {"restarted": str(random.random())}
    change = {"spec": {"template": {"metadata": {"annotations": stamp}}}}
    scene.gateway.api.patch("Deployment", scene.gateway.name, change)


def _kill_operators(scene: Scene, _: Random) -> None:
    """Both replicas."""
    for pid in cgroups.processes(scene.cluster.settings.name):
        with suppress(OSError):
            if b"/handfast-operator\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)


def _kill_operators_in_a_handover(scene: Scene, random: Random) -> None:
    """The pod ends without them; who is to succeed it only an operator can say."""
    _delete_pod(scene, random)
    time.sleep(random.uniform(0, 0.5))
    _kill_operators(scene, random)
    scene.wait_led()


def _restart_api_server(scene: Scene, random: Random) -> None:
    control = scene.cluster.control
    control.stop("kube-apiserver", signal.SIGKILL)
    time.sleep(random.uniform(0, 3))
    control_plane.start_api_server(control)


def _restart_kubelet(scene: Scene, random: Random) -> None:
    machine = scene.cluster.machines[_node(scene)]
    machine.stop("kubelet", signal.SIGKILL)
    time.sleep(random.uniform(0, 2))
    node.start_kubelet(machine)


def _cut_off_for_a_moment(scene: Scene, random: Random) -> None:
    name = _node(scene)
    set_cable(scene.cluster.router, name, connected=False)
    time.sleep(random.uniform(0.2, 2))
    set_cable(scene.cluster.router, name, connected=True)


def _part(scene: Scene, _: Random) -> None:
    """Until another pod is active; then both are, until the operator reaches both."""
    old, name = _active(scene), _node(scene)
    scene.insiders.wait_told(old)
    set_cable(scene.cluster.router, name, connected=False)
    try:
        scene.gateway.wait_active(old, 60)
    finally:
        set_cable(scene.cluster.router, name, connected=True)


def _node(scene: Scene) -> str:
    """Of the active pod."""
    return str(scene.gateway.api.get("Pod", _active(scene))["spec"]["nodeName"])


FAULTS: Final = (
    Fault("worker killed", _kill_worker, BOUND),
    Fault("container killed", _kill_container, BOUND),
    Fault("container stopped for 0.5 to 3 s", _stop_for_a_moment, BOUND),
    Fault("pod deleted", _delete_pod, BOUND),
    Fault("pod killed and deleted at once", _take_pod_away, BOUND),
    Fault("standby deleted at once", _take_standby_away, BOUND),
    Fault("pod evicted", _evict, BOUND),
    Fault("rollout", _roll_out, BOUND),
    Fault("operators killed", _kill_operators, BOUND),
    Fault("operators killed in a handover", _kill_operators_in_a_handover, LATE),
    Fault("API server killed, back within 3 s", _restart_api_server, BOUND),
    Fault("kubelet killed, back within 2 s", _restart_kubelet, BOUND),
    Fault("node cut off for 0.2 to 2 s", _cut_off_for_a_moment, BOUND),
    Fault("node cut off until another pod is active", _part, BOUND),
)
