"""Kubernetes objects that tests are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .api import Object
from .shared import IMAGES

WORKLOAD = f"{IMAGES}/workload:1"
WORKLOAD_2 = f"{IMAGES}/workload:2"
TUNNEL = f"{IMAGES}/tunnel:1"
TUNNEL_2 = f"{IMAGES}/tunnel:2"
ECHO, WHO = 7, 8
"""UDP ports of the workload: one sends back what comes, the other tells who answers and who asked."""


def container(name: str = "main", image: str = WORKLOAD, linger: float = 0, **more: Any) -> Object:
    """The workload, serving; after SIGTERM for `linger` seconds more."""
    environment = [{"name": "LINGER", "value": str(linger)}]
    return {"name": name, "image": image, "imagePullPolicy": "IfNotPresent", "env": environment} | more


def pod_spec(*containers: Object, node: str = "", grace: int = 5, **more: Any) -> Object:
    where = {"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}
    spec = {"containers": list(containers or [container()]), "terminationGracePeriodSeconds": grace}
    return spec | where | {"automountServiceAccountToken": False} | more


def pod(name: str, *containers: Object, labels: Mapping[str, str] | None = None, **spec: Any) -> Object:
    """A pod that is found by `app: NAME`, unless it has other labels."""
    metadata = {"name": name, "labels": dict(labels or {"app": name})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec(*containers, **spec)}


def deployment(name: str, *containers: Object, replicas: int = 1, **spec: Any) -> Object:
    """Pods that are replaced one after the other, the new one first."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec(*containers, **spec)},
        },
    }


def service(name: str, kind: str = "ClusterIP", app: str = "", policy: str = "", **more: Any) -> Object:
    """The workload's UDP ports, under one address."""
    ports = [{"name": f"udp-{port}", "port": port, "protocol": "UDP"} for port in (ECHO, WHO)]
    spec = {"type": kind, "selector": {"app": app or name}, "ports": ports} | more
    if policy:
        spec["externalTrafficPolicy"] = policy
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def node_port(service: Object, port: int) -> int:
    """The port of each node that leads to this one of the Service."""
    return next(int(each["nodePort"]) for each in service["spec"]["ports"] if each["port"] == port)
