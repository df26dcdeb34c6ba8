"""How each event is brought about, at both gateways.

What befalls a node or the API server befalls both at once. Otherwise wireguard-go's turn is over before
Handfast's begins: kube-proxy makes one change a second, and would hold one up for the other.
An event is a context: it has happened once that is entered, and what it disturbed is mended at its end.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Final

from tests.cluster import cgroups, control_plane, failures, node
from tests.cluster.api import Api, ExecError, Object, is_ready
from tests.cluster.gateways import CHART, SYSTEM, helm
from tests.cluster.objects import TUNNEL, WORKLOAD, WORKLOAD_2
from tests.lab.namespaces import wait_until

from bench.results import Kind

from .results import HANDFAST, Event
from .site import STAYS, VICTIM, Site
from .stock import NAME as STOCK

_TUNNEL_2: Final = TUNNEL.rpartition(":")[0] + ":2"
_FROZEN: Final = 0.2
"""Four probes without an answer."""
_CALM: Final = 3.0
_ASKED: Final = 2.5
_PATIENCE: Final = 180.0
"""Until something has happened; a busy machine takes its time."""
_LEASE: Final = "handfast-operator"


def happening(event: Event, site: Site) -> AbstractContextManager[None]:
    """Preparations that disturb clients are over when this returns; nothing has happened yet."""
    if event in {Event.DRAIN, Event.NODE_PODS, Event.PARTITION}:
        _gather(site, VICTIM)
    if event is Event.DRAIN:
        _lead_from(site, VICTIM)
    if event is Event.PARTITION:
        _lead_from(site, STAYS)
    if event is Event.SCALE:
        _scale(site, 1)
    return _DO[event](site)


# Where pods are


def node_of(pod: Object) -> str:
    return str(pod["spec"]["nodeName"])


def _active(site: Site) -> Object:
    return site.api.get("Pod", site.gateway.active)


def _gather(site: Site, name: str) -> None:
    """Let both gateways serve from this node."""
    if node_of(site.stock.pod) != name:
        (other,) = [each for each in site.cluster.settings.node_names if each != name]
        site.cluster.kubectl("cordon", other)
        try:
            site.api.delete("Pod", site.stock.pod["metadata"]["name"], grace=1)
            wait_until(lambda: any(node_of(pod) == name for pod in site.stock.pods()), 60, "wireguard-go")
            site.stock.wait_ready()
        finally:
            site.cluster.kubectl("uncordon", other)
    while node_of(_active(site)) != name:
        old = site.gateway.active
        site.api.delete("Pod", old)
        site.gateway.wait_active(old, _PATIENCE)
        site.api.wait_gone("Pod", old, _PATIENCE)
        wait_ready(site)


def _lead_from(site: Site, name: str) -> None:
    """Let an operator on this node hold the Lease."""
    system = site.another_api(SYSTEM)

    def leader() -> Object | None:
        return system.find("Pod", _holder(system))

    def leads_there() -> bool:
        found = leader()
        if found is None or node_of(found) == name:
            return found is not None
        system.delete("Pod", found["metadata"]["name"])
        system.wait_gone("Pod", found["metadata"]["name"])
        return False

    wait_until(leads_there, 120, f"an operator on {name} to lead", interval=1)
    _wait_operators(system)
    wait_ready(site)


def _holder(system: Api) -> str:
    """The pod of the operator that leads."""
    return str(system.get("Lease", _LEASE)["spec"].get("holderIdentity") or "nobody")


def _wait_operators(system: Api) -> None:
    system.wait("Deployment", "handfast", lambda found: found["status"].get("availableReplicas") == 2, 120)


# What happens


@contextmanager
def _rollout(site: Site) -> Iterator[None]:
    old = site.gateway.active
    restart = _template({"metadata": {"annotations": {"restarted": str(time.time())}}})
    site.api.patch("Deployment", STOCK, restart)
    _wait_calm(site)
    site.api.patch("Deployment", site.gateway.name, restart)
    _wait_moved(site, old)
    yield


def _template(change: Object) -> Object:
    return {"spec": {"template": change}}


def _wait_calm(site: Site) -> None:
    """wireguard-go has replaced its pods, and kube-proxy knows them."""
    site.stock.wait_ready()
    time.sleep(_CALM)


def _wait_moved(site: Site, old: str) -> None:
    """Both gateways have replaced their pods."""
    site.gateway.wait_active(old, _PATIENCE)
    site.stock.wait_ready()
    site.api.wait_gone("Pod", old, _PATIENCE)


@contextmanager
def _image(site: Site) -> Iterator[None]:
    """As an upgrade brings it: by the chart's value, so that the operator is replaced on the way."""
    for machine in site.cluster.nodes:
        node.ctr(machine, "images", "tag", "--force", TUNNEL, _TUNNEL_2)
    old = site.gateway.active
    _change_images(site, _TUNNEL_2, WORKLOAD_2)
    _wait_moved(site, old)
    yield
    old = site.gateway.active
    _change_images(site, TUNNEL, WORKLOAD)
    _wait_moved(site, old)


def _change_images(site: Site, tunnel: str, stock: str) -> None:
    site.api.patch(
        "Deployment", STOCK, _template({"spec": {"containers": [{"name": "main", "image": stock}]}})
    )
    _wait_calm(site)
    tag = f"image.tunnel.tag={tunnel.rpartition(':')[2]}"
    options = ["--namespace", SYSTEM, "--reuse-values", "--set-string", tag, "--wait", "--timeout=150s"]
    helm(site.cluster.settings.kubeconfig, "upgrade", "handfast", str(CHART), *options)


@contextmanager
def _deletion(site: Site) -> Iterator[None]:
    old, stock = site.gateway.active, site.stock.pod["metadata"]["name"]
    site.api.delete("Pod", stock)
    site.api.wait_gone("Pod", stock, _PATIENCE)
    _wait_calm(site)
    site.api.delete("Pod", old)
    _wait_moved(site, old)
    yield


@contextmanager
def _eviction(site: Site) -> Iterator[None]:
    old, stock = site.gateway.active, site.stock.pod["metadata"]["name"]
    site.gateway.evict(stock)
    site.api.wait_gone("Pod", stock, _PATIENCE)
    _wait_calm(site)
    site.gateway.evict(old)
    _wait_moved(site, old)
    yield


@contextmanager
def _drain(site: Site) -> Iterator[None]:
    old = site.gateway.active
    options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=90s"]
    try:
        site.cluster.kubectl("drain", VICTIM, *options, timeout=100)
        _wait_moved(site, old)
        yield
    finally:
        site.cluster.kubectl("uncordon", VICTIM)


@contextmanager
def _worker(site: Site) -> Iterator[None]:
    # The keeper is the oldest; what it has begun is the worker.
    keeper = 'keeper=$(pgrep -o -f "handfast-tunnel run") && kill -KILL $(pgrep -P "$keeper")'
    site.cluster.machines[node_of(_active(site))].run("sh", "-c", keeper)
    yield


@contextmanager
def _container(site: Site) -> Iterator[None]:
    ours, theirs = node_of(_active(site)), node_of(site.stock.pod)
    site.cluster.machines[ours].run("pkill", "-KILL", "-f", "handfast-tunnel run")
    site.cluster.machines[theirs].run("pkill", "-KILL", "-f", "wireguard-go -f wg0")
    yield


@contextmanager
def _node_pods(site: Site) -> Iterator[None]:
    """All processes of all pods there, those that hold their networks too."""
    for pid in list(cgroups.processes(site.cluster.settings.name, f"{VICTIM}/kubepods")):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def _partition(site: Site) -> Iterator[None]:
    old = site.gateway.active
    with failures.cut_off(site.cluster, VICTIM):
        site.gateway.wait_active(old, _PATIENCE)
        yield


@contextmanager
def _up_and_down(site: Site) -> Iterator[None]:
    _scale(site, 2)
    _scale(site, 1)
    yield
    site.gateway.start(gateway={"exposure": "LoadBalancer", "replicas": 2}, presharedKeys="None")


def _scale(site: Site, replicas: int) -> None:
    site.gateway.start(gateway={"exposure": "LoadBalancer", "replicas": replicas}, presharedKeys="None")
    site.api.patch("Deployment", STOCK, {"spec": {"replicas": replicas}})
    wait_until(
        lambda: len(_settled_pods(site)) == len(site.gateway.pods()) == replicas,
        _PATIENCE,
        f"{replicas} pods of the gateway",
        interval=0.2,
    )
    wait_ready(site)
    site.stock.wait_ready(replicas)


def _settled_pods(site: Site) -> list[Object]:
    return [pod for pod in site.gateway.pods() if is_ready(pod)]


@contextmanager
def _operator(site: Site) -> Iterator[None]:
    """Killed with its pod as soon as clients notice that their gateway's pod is frozen."""
    system = site.another_api(SYSTEM)
    old, leader = site.gateway.active, _holder(system)
    asking = [way.log for way in site.ways if way.log and way.is_of(HANDFAST, Kind.SENDING)]
    site.api.delete("Pod", old)
    wait_until(lambda: any(time.monotonic() - log.arrived[-1] > _FROZEN for log in asking), 20, "a handover")
    system.delete("Pod", leader, grace=0)
    site.gateway.wait_active(old, _PATIENCE)
    site.api.wait_gone("Pod", old, _PATIENCE)
    yield
    _wait_operators(system)


@contextmanager
def _api_server(site: Site) -> Iterator[None]:
    # Told to end in peace it waits a minute for those who watch.
    site.cluster.control.stop("kube-apiserver", signal.SIGKILL)
    control_plane.start_api_server(site.cluster.control)
    yield


_DO: Final[dict[Event, Callable[[Site], AbstractContextManager[None]]]] = {
    Event.ROLLOUT: _rollout,
    Event.IMAGE: _image,
    Event.DELETION: _deletion,
    Event.EVICTION: _eviction,
    Event.DRAIN: _drain,
    Event.WORKER: _worker,
    Event.CONTAINER: _container,
    Event.NODE_PODS: _node_pods,
    Event.PARTITION: _partition,
    Event.SCALE: _up_and_down,
    Event.OPERATOR: _operator,
    Event.API_SERVER: _api_server,
}


def wait_ready(site: Site) -> None:
    """Both gateways and the operators are as they should be."""
    wanted: Any = site.gateway.spec["gateway"]["replicas"]

    def complete(found: Object) -> bool:
        status = found["status"]
        return bool(status.get("availableReplicas") == status.get("replicas") == wanted)

    site.api.wait("Deployment", site.gateway.name, complete, _PATIENCE, f"{wanted} pods of Handfast, ready")
    site.gateway.wait_ready(_PATIENCE)
    # An operator that holds the Lease since a moment ago leads nobody yet.
    wait_until(lambda: _led(site), 60, "an operator that asks the gateway's pods", interval=1)


def _led(site: Site) -> bool:
    with suppress(ExecError):
        status = json.loads(site.api.exec(site.gateway.active, "handfast-tunnel", "status", "--json"))
        return bool(status["silence"] < _ASKED)
    return False
