"""Tunnels in pods of apps: what asks for one, and the app in it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from signal import Signals
from tempfile import TemporaryFile
from typing import Any

from tests.lab.probes import Probes

from . import objects
from .api import Api, Object, is_ready
from .built import program
from .gateway_client import GatewayClient
from .gateways import API_VERSION, GATEWAY, TUNNEL_LABEL, Gateway, peer
from .outside import Outside

SIDECAR = "handfast-tunnel"
STANDBY_LABEL = "handfast.dev/standby"
WEBHOOK = "handfast-injector"
_LAST = re.compile(r"^\S+ (asked|lost)=(\d+)$", re.MULTILINE)
ALICE = "10.8.0.2"
"""What she has in the tunnel."""


def tunnel(name: str = "office", **spec: Any) -> Object:
    """Without a gateway, and reached from outside."""
    wanted = {
        "addresses": [f"{GATEWAY}/24"],
        "pools": [{"cidr": "10.8.0.0/24"}],
        "injection": {"exposure": "NodePort"},
    }
    return {"apiVersion": API_VERSION, "kind": "Tunnel", "metadata": {"name": name}, "spec": wanted | spec}


def asking(address: str, linger: float = 0, **more: Any) -> Object:
    """An app that asks through the tunnel, to its last moment."""
    return objects.container("asks", args=["ask", address], linger=linger, **more)


def labels(app: str, tunnel: str = "office") -> dict[str, str]:
    return {"app": app, TUNNEL_LABEL: tunnel}


def pod(name: str, *containers: Object, tunnel: str = "office", grace: int = 30, **spec: Any) -> Object:
    return objects.pod(name, *containers, labels=labels(name, tunnel), grace=grace, **spec)


def deployment(name: str, *containers: Object, grace: int = 30, **more: Any) -> Object:
    made = objects.deployment(name, *containers, grace=grace, **more)
    made["spec"]["template"]["metadata"]["labels"] = labels(name)
    return made


def job(name: str, *containers: Object) -> Object:
    made = pod(name, *containers, restartPolicy="Never")
    template = {"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template},
    }


def daemon_set(name: str, *containers: Object) -> Object:
    made = deployment(name, *containers)
    del made["spec"]["strategy"], made["spec"]["replicas"]
    return made | {"kind": "DaemonSet"}


def stateful_set(name: str, *containers: Object) -> Object:
    made = deployment(name, *containers)
    del made["spec"]["strategy"]
    return made | {"kind": "StatefulSet", "spec": made["spec"] | {"serviceName": name}}


def sharing(workload: Object) -> Object:
    """With the word that its apps may be without the tunnel."""
    workload["spec"]["template"]["metadata"]["labels"][STANDBY_LABEL] = "true"
    return workload


@dataclass
class Injected(Gateway):
    """One Tunnel in pods of the test's namespace."""

    def start(self, **spec: Any) -> None:
        self.api.apply(tunnel(self.name, **spec))

    def wait_ready(self, timeout: float = 90) -> None:
        self.api.wait("Tunnel", self.name, is_ready, timeout, f"the Tunnel {self.name} to be Ready")

    def begin(self, *workloads: Object, **spec: Any) -> None:
        """The Tunnel, alice and the apps; ready when one of those has it."""
        self.prepare(**spec)
        self.api.apply(*workloads)
        self.wait_ready()

    def prepare(self, **spec: Any) -> None:
        """The Tunnel and alice: it is in no pod yet."""
        self.api.apply(tunnel(self.name, **spec), peer("alice", self.name, addresses=[ALICE]))
        self.api.wait("Tunnel", self.name, lambda found: found.get("status", {}).get("configGeneration"))

    def alice(self, outside: Outside, probes: Probes) -> GatewayClient:
        """Connected, and echoing what comes through the tunnel."""
        self.wait_peer("alice")
        host = outside.add("alice", nat=True)
        probes.answer(host.node)
        return self.client(host, "alice")

    def only(self) -> str:
        (found,) = self.pods()
        return str(found["metadata"]["name"])


def app_of(api: Api, pod: str) -> Mapping[str, Any]:
    """Identity and restarts of what is not ours in a pod."""
    statuses = api.get("Pod", pod)["status"]["containerStatuses"]
    return {each["name"]: (each["containerID"], each["restartCount"]) for each in statuses}


def count_from_now(api: Api, pod: str) -> None:
    """What an app asks: its last words are about that then."""
    count = f"import os, signal; os.kill(1, signal.{Signals.SIGUSR1.name})"
    api.exec(pod, "python3", "-c", count, container="asks")


@contextmanager
def last_words(api: Api, pod: str) -> Iterator[dict[str, int]]:
    """How much an app asks after its SIGTERM, and how much of it is lost: known at the end."""
    where = ("--kubeconfig", str(api.kubeconfig), "--namespace", api.namespace)
    found: dict[str, int] = {}
    with TemporaryFile("w+") as log:
        command = [str(program("kubectl")), *where, "logs", "--follow", pod, "--container=asks"]
        following = subprocess.Popen(command, stdout=log)
        try:
            yield found
            following.wait(60)
        finally:
            following.kill()
            following.wait()
        log.seek(0)
        found.update((word, int(count)) for word, count in _LAST.findall(log.read()))
    assert len(found) == 2, "the app has not told what became of its questions"


def complaints(api: Api) -> str:
    """Of all events."""
    return "\n".join(each["message"] for each in api.list("Event"))


def image_of(pod: Object) -> str:
    return next(str(each["image"]) for each in pod["spec"]["initContainers"] if each["name"] == SIDECAR)


def restarts_of(pod: Object) -> int:
    statuses = pod["status"].get("initContainerStatuses", ())
    return next((int(each["restartCount"]) for each in statuses if each["name"] == SIDECAR), 0)
