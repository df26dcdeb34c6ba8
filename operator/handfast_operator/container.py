"""The tunnel's container, in a gateway's pod and beside anybody's app: one builder for both.

What it names in a pod that is not its own (volumes, ports) says whose it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from . import names
from .resources import TunnelSpec
from .settings import Settings

Object = dict[str, Any]

RUN_DIRECTORY: Final = "/run/handfast"
OFFER_SECONDS: Final = 10
"""How long a pod that ends offers its sessions to a successor."""
ENDING_SECONDS: Final = 5
"""From SIGTERM to the end: freeze, store, close."""
SPARE_SECONDS: Final = 5
START_SECONDS: Final = 120
"""How long a container may take to be configured: the first pull of an image is before that."""
DEFAULT_GRACE_SECONDS: Final = 30
"""Of a pod that says nothing about it."""
AFTER_APP: Final = "--after-app"
"""The option that tells a sidecar, and whoever looks at its pod, that it offers at its end only."""


@dataclass(frozen=True, slots=True)
class Naming:
    """Names in the pod, which must not be those of anybody else's things there."""

    container: str
    volume: str
    """In front of a volume's name."""
    port: str
    """In front of a port's; those have at most 15 characters."""


GATEWAY: Final = Naming("tunnel", "", "")
SIDECAR: Final = Naming("handfast-tunnel", "handfast-", "tunnel-")


def of_gateway(spec: TunnelSpec, settings: Settings, *, host_port: bool) -> Object:
    made = _container(spec, settings, GATEWAY)
    if host_port:
        made["ports"][0]["hostPort"] = spec.listen_port
    made["lifecycle"]["preStop"] = _offer()
    return made


def of_sidecar(spec: TunnelSpec, settings: Settings, *, grace: int, alone: bool) -> Object:
    """A native sidecar. `grace` is its pod's; `alone`: no other pod has the same Tunnel."""
    made = _container(spec, settings, SIDECAR) | {"restartPolicy": "Always"}
    seconds = max(0, min(OFFER_SECONDS, grace - ENDING_SECONDS))
    made["env"].append({"name": "HANDFAST_BESIDE_APP", "value": "1"})
    if not alone:
        made["args"].append("--not-alone")
    if spec.hands_over == "AfterApp":
        # A sidecar's SIGTERM comes when its app has ended; its hook would run beside the app's.
        made["args"].append(f"{AFTER_APP}={seconds}")
    elif spec.hands_over == "Auto":
        made["lifecycle"]["preStop"] = _offer(f"--seconds={seconds}")
    # A pod's own settings hold for all of its containers.
    made["securityContext"] |= {"runAsNonRoot": False, "runAsGroup": 0}
    return made


def volumes(tunnel: str, spec: TunnelSpec, naming: Naming) -> list[Object]:
    def secret(name: str, source: str, optional: bool = False) -> Object:
        volume: Object = {"secretName": source, "defaultMode": 0o400}
        return {
            "name": naming.volume + name,
            "secret": {**volume, "optional": True} if optional else volume,
        }

    made = [
        secret("config", names.config_secret(tunnel)),
        secret("state", names.state_secret(tunnel), optional=True),
        secret("tls", names.tls_secret(tunnel)),
        # What outlives the container, and never touches a disk.
        {"name": naming.volume + "run", "emptyDir": {"medium": "Memory"}},
        # Where `wg` looks for the interface.
        {"name": naming.volume + "run-wireguard", "emptyDir": {"medium": "Memory"}},
    ]
    if spec.pod.tun_device == "HostPath":
        device = {"path": "/dev/net/tun", "type": "CharDevice"}
        made.append({"name": naming.volume + "tun", "hostPath": device})
    return made


def _container(spec: TunnelSpec, settings: Settings, naming: Naming) -> Object:
    port: Object = {"name": names.UDP_PORT_NAME, "containerPort": spec.listen_port, "protocol": "UDP"}
    metrics = naming.port + "metrics"
    resources = dict(spec.pod.resources)
    if name := spec.pod.tun_resource_name:
        resources["limits"] = {**resources.get("limits", {}), name: "1"}
    return {
        "name": naming.container,
        "image": settings.tunnel_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["handfast-tunnel"],
        "args": _arguments(),
        "env": [
            {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "HANDFAST_RUN_DIR", "value": RUN_DIRECTORY},
        ],
        "ports": [
            port,
            {"name": naming.port + "control", "containerPort": names.CONTROL_PORT, "protocol": "TCP"},
            {"name": metrics, "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "securityContext": _security(spec.listen_port),
        "resources": resources,
        "lifecycle": {"postStart": {"exec": {"command": ["handfast-tunnel", "handshake", "--no-wait"]}}},
        "startupProbe": _probe("/startupz", metrics, period=1, failures=START_SECONDS),
        "readinessProbe": _probe("/readyz", metrics, period=2, failures=2),
        "volumeMounts": _mounts(spec, naming),
    }


def _offer(*options: str) -> Object:
    return {"exec": {"command": ["handfast-tunnel", "drain", "--offer", *options]}}


def _arguments() -> list[str]:
    options = {
        "config": "/etc/handfast/config",
        "state-secret": "/etc/handfast/state",
        "tls": "/etc/handfast/tls",
        "state": f"{RUN_DIRECTORY}/state",
        "run-dir": RUN_DIRECTORY,
        "control": f"[::]:{names.CONTROL_PORT}",
        "metrics": f"[::]:{names.METRICS_PORT}",
        "pod-uid": "$(POD_UID)",
    }
    return ["run", *(f"--{name}={value}" for name, value in options.items()), "--standby"]


def _security(listen_port: int) -> Object:
    # Added capabilities reach a user other than root only in the bounding set.
    capabilities = ["NET_ADMIN", *(["NET_BIND_SERVICE"] if listen_port < 1024 else [])]
    return {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": capabilities},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _probe(path: str, port: str, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": port, "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def _mounts(spec: TunnelSpec, naming: Naming) -> list[Object]:
    read = [
        {"name": naming.volume + name, "mountPath": f"/etc/handfast/{name}", "readOnly": True}
        for name in ("config", "state", "tls")
    ]
    written = [
        {"name": naming.volume + "run", "mountPath": RUN_DIRECTORY},
        {"name": naming.volume + "run-wireguard", "mountPath": "/run/wireguard"},
    ]
    from_node = spec.pod.tun_device == "HostPath"
    device = [{"name": naming.volume + "tun", "mountPath": "/dev/net/tun"}] if from_node else []
    return [*read, *written, *device]
