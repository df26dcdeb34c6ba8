"""Ways for a node to fail; each is a context, at whose end the node is well and Ready again."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from tests.lab.namespaces import wait_until

from . import network, node
from .cluster import Cluster
from .machines import Machine


@contextmanager
def kubelet_stopped(cluster: Cluster, name: str) -> Iterator[None]:
    """The node's pods go on, but nobody hears of them."""
    machine = cluster.machines[name]
    machine.stop("kubelet", signal.SIGKILL)
    try:
        yield
    finally:
        node.start_kubelet(machine)
        _wait_well(cluster, machine)


@contextmanager
def frozen(cluster: Cluster, name: str) -> Iterator[None]:
    """Nothing on the node runs, pods included, and nothing passes its cable: a machine that is suspended."""
    machine = cluster.machines[name]
    with cut_off(cluster, name):
        machine.freeze()
        try:
            yield
        finally:
            machine.thaw()


@contextmanager
def cut_off(cluster: Cluster, name: str) -> Iterator[None]:
    """Everything on the node runs, and nobody else can reach it, nor it them."""
    network.set_cable(cluster.router, name, connected=False)
    try:
        yield
    finally:
        network.set_cable(cluster.router, name, connected=True)
        _wait_well(cluster, cluster.machines[name])


@contextmanager
def drained(cluster: Cluster, name: str, selector: str) -> Iterator[None]:
    """No new pods; those that the selector finds, in all namespaces, are evicted and have ended."""
    options = ["--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--pod-selector={selector}"]
    try:
        cluster.kubectl("drain", name, *options, "--timeout=90s", timeout=100)
        yield
    finally:
        cluster.kubectl("uncordon", name)


def _wait_well(cluster: Cluster, machine: Machine) -> None:
    wait_until(lambda: cluster.node_status(machine.name) == "True", 60, f"{machine.name} to be Ready", 0.2)
