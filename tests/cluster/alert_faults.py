"""For each alert a way to deserve it, on a gateway with clients: contexts, and well again at their ends."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

from tests.lab.namespaces import wait_until

from .api import Api
from .gateways import SYSTEM, peer, tunnel, without_operator
from .injected import WEBHOOK
from .network import set_cable
from .scene import Scene

_KEY: Final = "office-handfast-key"
_CONTROL: Final = 9587
_DEAF: Final = f"""
table inet deaf {{
    chain input {{ type filter hook input priority 0; tcp dport {_CONTROL} drop; }}
}}
"""


@dataclass(frozen=True)
class AlertFault:
    alerts: frozenset[str]
    """Which fire meanwhile."""
    make: Callable[[Scene], AbstractContextManager[None]]
    after: frozenset[str] = frozenset()
    """Which fire once it is over, and go on: what they are about has happened."""


@contextmanager
def _a_client_away_in_a_crash(scene: Scene) -> Iterator[None]:
    """One of three: it was sending until a moment before, and is back after some seconds."""
    alice, active = scene.clients["alice"].host, scene.insiders.of(scene.gateway.active)
    set_cable(scene.cluster.router, alice.name, connected=False)
    try:
        active.kill()
        yield
    finally:
        set_cable(scene.cluster.router, alice.name, connected=True)
        _wait_served(scene)


@contextmanager
def _no_key(scene: Scene) -> Iterator[None]:
    api = scene.gateway.api
    secret = api.get("Secret", _KEY)
    api.delete("Secret", _KEY)
    # Nobody watches Secrets: any change has the operator look.
    api.apply(peer("dave"))
    try:
        yield
    finally:
        names = ("name", "labels", "annotations", "ownerReferences")
        kept = {name: secret["metadata"][name] for name in names if name in secret["metadata"]}
        api.apply({**secret, "metadata": kept})
        api.delete("Peer", "dave")
        scene.wait_calm()


@contextmanager
def _a_standby_that_hears_nothing(scene: Scene) -> Iterator[None]:
    """The operator does not reach its control port, and a Peer is added."""
    roles = scene.insiders.roles()
    standby = next(pod for pod, role in roles.items() if role == "standby")
    into = ["nsenter", "--net", f"--target={scene.insiders.of(standby).pids[0]}", "--", "nft"]
    subprocess.run([*into, "-f", "-"], input=_DEAF, text=True, check=True)
    try:
        scene.gateway.api.apply(peer("erin"))
        yield
    finally:
        subprocess.run([*into, "delete", "table", "inet", "deaf"], check=True)
        scene.gateway.api.delete("Peer", "erin")


@contextmanager
def _no_operator(scene: Scene) -> Iterator[None]:
    with without_operator(scene.cluster):
        yield
    scene.wait_calm()


@contextmanager
def _no_operator_and_the_active_pod_gone(scene: Scene) -> Iterator[None]:
    """A standby does not begin by itself where there are others."""
    with without_operator(scene.cluster):
        pod = scene.gateway.active
        scene.insiders.of(pod).kill()
        scene.gateway.api.delete("Pod", pod, grace=0)
        yield
    scene.wait_calm()


@contextmanager
def _two_pods_of_one(scene: Scene) -> Iterator[None]:
    """A gateway of one pod is scaled by hand, and without an operator each pod begins alone, after 10 s."""
    gateway = scene.gateway
    gateway.start(gateway={"replicas": 1})
    scene.wait_calm()
    with without_operator(scene.cluster):
        gateway.api.patch("Deployment", gateway.name, {"spec": {"replicas": 2}})
        wait_until(lambda: len(scene.insiders.active()) == 2, 60, "two active pods", interval=0.2)
        yield
    gateway.start(gateway={"replicas": 2})
    scene.wait_calm()


@contextmanager
def _a_name_that_is_taken(scene: Scene) -> Iterator[None]:
    """Another Tunnel, which serves, and whose policy is somebody else's."""
    api = scene.gateway.api
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "taken"},
        "spec": {"podSelector": {"matchLabels": {"app": "nobody"}}},
    }
    api.apply(policy, tunnel("taken", gateway={"exposure": "ClusterIP", "replicas": 1}))
    try:
        yield
    finally:
        api.delete("Tunnel", "taken")
        api.delete("NetworkPolicy", "taken")


@contextmanager
def _no_injector(scene: Scene) -> Iterator[None]:
    system = Api(scene.cluster.settings.kubeconfig, SYSTEM)
    system.patch("Deployment", WEBHOOK, {"spec": {"replicas": 0}})
    try:
        yield
    finally:
        system.patch("Deployment", WEBHOOK, {"spec": {"replicas": 2}})
        system.wait("Deployment", WEBHOOK, lambda found: found["status"].get("availableReplicas") == 2)
        system.close()


def _wait_served(scene: Scene) -> None:
    began = time.monotonic()
    wait_until(
        lambda: all(log.settled(began) for log in scene.logs.values()), 60, "all clients", interval=0.1
    )


BUDGET: Final = frozenset(f"HandfastOutageBudget{how}" for how in ("Fast", "Slow", "Steady"))
FAULTS: Final = (
    AlertFault(frozenset({"HandfastClientsNotBack"}), _a_client_away_in_a_crash, after=BUDGET),
    AlertFault(frozenset({"HandfastKeyMissing"}), _no_key),
    AlertFault(frozenset({"HandfastConfigurationBehind"}), _a_standby_that_hears_nothing),
    AlertFault(frozenset({"HandfastDegraded"}), _a_name_that_is_taken),
    AlertFault(frozenset({"HandfastNoInjector"}), _no_injector),
    AlertFault(frozenset({"HandfastNoOperator"}), _no_operator),
    AlertFault(
        frozenset({"HandfastNoOperator", "HandfastNoActivePod"}), _no_operator_and_the_active_pod_gone
    ),
    AlertFault(frozenset({"HandfastNoOperator", "HandfastTwoActivePods"}), _two_pods_of_one),
)
UNMADE: Final = frozenset({"HandfastCertificateExpires", "HandfastInjectorCertificateExpires"})
"""They would take 23 days: promtool alone tests them, and here that their queries find the certificates."""
