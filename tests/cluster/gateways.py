"""Tunnels and Peers on a cluster where the chart is installed, and the clients that belong to them."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.namespaces import wait_until
from tests.lab.network import Host

from . import objects
from .api import Api, ExecError, Object, condition, is_ready
from .built import program
from .cluster import Cluster
from .gateway_client import GatewayClient
from .settings import PODS
from .shared import IMAGES

CHART = Path(__file__).parents[2] / "charts" / "handfast"
VALUES = Path(__file__).with_name("values.yaml")
SYSTEM = "handfast-system"
OPERATORS = "app.kubernetes.io/name=handfast-operator"
"""Which pods of that namespace they are."""
API_VERSION = "handfast.dev/v1alpha1"
TUNNEL_LABEL = "handfast.dev/tunnel"
GATEWAY = "10.8.0.1"


def helm(kubeconfig: Path, *arguments: str, timeout: float = 180) -> str:
    command = [str(program("helm")), *arguments]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)
    assert done.returncode == 0, f"helm {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def install(cluster: Cluster) -> None:
    """Install the chart, once for each cluster, whoever of the workers comes first."""
    state = cluster.settings.state
    with (state / "installing").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (state / "installed").exists():
            return
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM, "labels": restricted}}
        api = Api(cluster.settings.kubeconfig)
        api.apply(system)
        api.close()
        release(cluster.settings.kubeconfig, "install", CHART)
        (state / "installed").touch()


def release(kubeconfig: Path, verb: str, chart: Path, *more: str, operator: int = 1, tunnel: int = 1) -> None:
    """Install or upgrade to a chart, with images of these tags, and wait for the operator."""
    helm(
        kubeconfig,
        *(verb, "handfast", str(chart), "--namespace", SYSTEM),
        *(*options(), *more),
        *("--set-string", f"image.operator.tag={operator},image.tunnel.tag={tunnel}"),
    )


def options() -> list[str]:
    images = [f"image.{kind}.repository={IMAGES}/{kind}" for kind in ("operator", "tunnel")]
    return ["--wait", "--timeout", "150s", "--values", str(VALUES), "--set", ",".join(images)]


def set_operators(cluster: Cluster, count: int) -> None:
    system = Api(cluster.settings.kubeconfig, SYSTEM)
    system.patch("Deployment", "handfast", {"spec": {"replicas": count}})
    if count:
        system.wait("Deployment", "handfast", lambda found: found["status"].get("availableReplicas") == count)
    else:
        wait_until(lambda: not system.list("Pod", OPERATORS), 60, "the operator's end")
    system.close()


@contextmanager
def without_operator(cluster: Cluster) -> Iterator[None]:
    """Nobody leads, until its end."""
    try:
        set_operators(cluster, 0)
        yield
    finally:
        set_operators(cluster, 2)


def peer(name: str, tunnel: str = "office", **spec: Any) -> Object:
    body = {"tunnelRef": {"name": tunnel}} | spec
    return {"apiVersion": API_VERSION, "kind": "Peer", "metadata": {"name": name}, "spec": body}


def tunnel(name: str = "office", gateway: Object | None = None, **spec: Any) -> Object:
    wanted = {
        "addresses": [f"{GATEWAY}/24"],
        "pools": [{"cidr": "10.8.0.0/24"}],
        "gateway": {"exposure": "NodePort"} | (gateway or {}),
    }
    return {"apiVersion": API_VERSION, "kind": "Tunnel", "metadata": {"name": name}, "spec": wanted | spec}


@dataclass
class Gateway:
    """One Tunnel in the test's namespace."""

    api: Api
    name: str = "office"

    def start(self, **spec: Any) -> None:
        self.api.apply(tunnel(self.name, **spec))

    def up(self, *peers: Object, timeout: float = 90, **spec: Any) -> None:
        self.api.apply(tunnel(self.name, **spec), *peers)
        self.wait_ready(timeout)
        for each in peers:
            self.wait_peer(each["metadata"]["name"])

    def wait_ready(self, timeout: float = 60) -> None:
        self.api.wait("Tunnel", self.name, is_ready, timeout, f"the Tunnel {self.name} to be Ready")
        standby = self.spec["gateway"]["replicas"] - 1
        self.api.wait(
            "Tunnel", self.name, lambda found: found["status"]["standbys"] >= standby, timeout, "standbys"
        )

    def wait_peer(self, name: str, timeout: float = 30) -> Object:
        return self.api.wait("Peer", name, is_ready, timeout, f"the Peer {name} to be Ready")

    def wait_peer_served(self, name: str, timeout: float = 30) -> None:
        def programmed(found: Object) -> bool:
            return condition(found, "Programmed") == "True"

        self.api.wait("Peer", name, programmed, timeout, f"the Peer {name} to be served")

    @property
    def spec(self) -> Object:
        found: Object = self.api.get("Tunnel", self.name)["spec"]
        return found

    @property
    def status(self) -> Object:
        found: Object = self.api.get("Tunnel", self.name).get("status", {})
        return found

    @property
    def active(self) -> str:
        return str(self.status["active"]["pod"])

    def evict(self, pod: str) -> None:
        """As `kubectl drain` does with each pod of a node."""
        eviction: Any = {"metadata": {"name": pod, "namespace": self.api.namespace}}
        self.api.core.create_namespaced_pod_eviction(pod, self.api.namespace, body=eviction)

    def put_behind(self) -> str:
        """A pod behind the gateway that echoes, and its address."""
        self.api.apply(objects.pod("echo"))
        self.api.wait_ready("echo")
        return str(self.api.get("Pod", "echo")["status"]["podIP"])

    def pods(self) -> list[Object]:
        return self.api.list("Pod", f"{TUNNEL_LABEL}={self.name}")

    def restarts(self) -> dict[str, int]:
        """Of each pod's container."""
        return {
            pod["metadata"]["uid"]: sum(each["restartCount"] for each in pod["status"]["containerStatuses"])
            for pod in self.pods()
        }

    def wait_active(self, other_than: str, timeout: float = 60) -> str:
        """Wait until another pod is active, and the Service leads to it."""

        def moved(found: Object) -> bool:
            return found["status"].get("active", {}).get("pod") not in {None, other_than}

        found = self.api.wait("Tunnel", self.name, moved, timeout, f"another active pod than {other_than}")
        new = str(found["status"]["active"]["pod"])
        self.api.wait(
            "Service", self.name, lambda found: found["spec"]["selector"]["handfast.dev/pod"] == new, timeout
        )
        return new

    def wait_pods(self, count: int, timeout: float = 60) -> None:
        wait_until(lambda: len(self.pods()) == count, timeout, f"{count} pods", interval=0.1)

    def wait_alone(self, pod: str, timeout: float = 60) -> None:
        """Wait until all other pods say that they are not active, by their own word."""

        def roles() -> dict[str, str]:
            found = {}
            for each in self.pods():
                name = each["metadata"]["name"]
                with suppress(ExecError):
                    status = self.api.exec(name, "handfast-tunnel", "status", "--json")
                    found[name] = str(json.loads(status)["role"])
            return found

        wait_until(
            lambda: [name for name, role in roles().items() if role == "active"] == [pod],
            timeout,
            f"{pod} alone to be active",
            interval=0.5,
        )

    def condition(self, kind: str) -> str | None:
        return condition(self.api.get("Tunnel", self.name), kind)

    def configuration(self, peer: str) -> str:
        secret = self.api.wait("Secret", f"{peer}-handfast", lambda found: "wg0.conf" in found["data"])
        return base64.b64decode(secret["data"]["wg0.conf"]).decode()

    def client(
        self, host: Host, peer: str, networks: tuple[str, ...] = ("10.8.0.0/24", PODS[0])
    ) -> GatewayClient:
        """The Peer's client, connected."""
        client = GatewayClient(host, self.configuration(peer), networks)
        client.up()
        client.wait_connected(GATEWAY)
        return client
