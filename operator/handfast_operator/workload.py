"""What runs for a Tunnel: from its spec to Deployment, Service, disruption budget and network policy.

Nothing in here depends on Peers: adding one never touches a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from . import names, news
from .resources import API_VERSION, TunnelSpec
from .resources.tunnel import Gateway
from .settings import Settings

Object = dict[str, Any]

CONTAINER: Final = "tunnel"
RUN_DIRECTORY: Final = "/run/handfast"
OFFER_SECONDS: Final = 10
"""How long a pod that ends offers its sessions to a successor."""
ENDING_SECONDS: Final = 5
"""From SIGTERM to the end: freeze, store, close."""
SPARE_SECONDS: Final = 5
START_SECONDS: Final = 120
"""How long a container may take to be configured: the first pull of an image is before that."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The Tunnel that all of it belongs to."""

    namespace: str
    name: str
    uid: str

    @property
    def reference(self) -> Object:
        return owner_reference("Tunnel", self.name, self.uid)

    @property
    def subject(self) -> Object:
        """As events name it."""
        return news.subject("Tunnel", self.namespace, self.name, self.uid)

    def metadata(self, name: str) -> Object:
        return {
            "name": name,
            "namespace": self.namespace,
            "labels": names.labels(self.name),
            "ownerReferences": [self.reference],
        }


def owner_reference(kind: str, name: str, uid: str) -> Object:
    return {"apiVersion": API_VERSION, "kind": kind, "name": name, "uid": uid, "controller": True}


def grace_seconds() -> int:
    return OFFER_SECONDS + ENDING_SECONDS + SPARE_SECONDS


def has_service(gateway: Gateway) -> bool:
    return gateway.exposure in {"ClusterIP", "NodePort", "LoadBalancer"}


def objects(owner: Owner, spec: TunnelSpec, settings: Settings) -> list[Object]:
    """All that should be there; what is not in it, and was, should go."""
    gateway = spec.gateway
    if gateway is None:
        return []
    made = [network_policy(owner, spec, settings), deployment(owner, spec, gateway, settings)]
    if has_service(gateway):
        made.append(service(owner, spec, gateway))
    if gateway.replicas >= 2:
        made.append(disruption_budget(owner))
    return made


def deployment(owner: Owner, spec: TunnelSpec, gateway: Gateway, settings: Settings) -> Object:
    on_host = gateway.exposure in {"HostPort", "HostNetwork"}
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    labels = names.labels(owner.name)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": owner.metadata(owner.name),
        "spec": {
            "replicas": gateway.replicas,
            "revisionHistoryLimit": 2,
            # A node's port is free again only when its pod has ended.
            "strategy": {"type": "Recreate"} if on_host else rolling,
            "selector": {"matchLabels": {names.TUNNEL_LABEL: owner.name}},
            "template": {
                "metadata": {"labels": labels},
                "spec": _pod(owner, spec, gateway, settings),
            },
        },
    }


def _pod(owner: Owner, spec: TunnelSpec, gateway: Gateway, settings: Settings) -> Object:
    spread = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {names.TUNNEL_LABEL: owner.name}},
        }
    ]
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(),
        "containers": [_container(spec, gateway, settings)],
        "volumes": _volumes(owner, spec),
        "topologySpreadConstraints": list(gateway.topology_spread_constraints) or spread,
    }
    optional: Object = {
        "nodeSelector": dict(gateway.node_selector),
        "tolerations": list(gateway.tolerations),
        "priorityClassName": gateway.priority_class_name,
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
    }
    pod |= {name: value for name, value in optional.items() if value}
    if gateway.exposure == "HostNetwork":
        pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return pod


def _container(spec: TunnelSpec, gateway: Gateway, settings: Settings) -> Object:
    port: Object = {"name": names.UDP_PORT_NAME, "containerPort": spec.listen_port, "protocol": "UDP"}
    if gateway.exposure == "HostPort":
        port["hostPort"] = spec.listen_port
    resources = dict(spec.pod.resources)
    if name := spec.pod.tun_resource_name:
        resources["limits"] = {**resources.get("limits", {}), name: "1"}
    return {
        "name": CONTAINER,
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
            {"name": "control", "containerPort": names.CONTROL_PORT, "protocol": "TCP"},
            {"name": "metrics", "containerPort": names.METRICS_PORT, "protocol": "TCP"},
        ],
        "securityContext": _security(spec.listen_port),
        "resources": resources,
        "startupProbe": _probe("/startupz", period=1, failures=START_SECONDS),
        "readinessProbe": _probe("/readyz", period=2, failures=2),
        "lifecycle": {
            "preStop": {"exec": {"command": ["handfast-tunnel", "drain", "--offer"]}},
            "postStart": {"exec": {"command": ["handfast-tunnel", "handshake", "--no-wait"]}},
        },
        "volumeMounts": _mounts(spec),
    }


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


def _probe(path: str, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "metrics", "scheme": "HTTP"},
        "periodSeconds": period,
        "failureThreshold": failures,
        "timeoutSeconds": 2,
    }


def _mounts(spec: TunnelSpec) -> list[Object]:
    read = [
        {"name": name, "mountPath": f"/etc/handfast/{name}", "readOnly": True}
        for name in ("config", "state", "tls")
    ]
    device = [{"name": "tun", "mountPath": "/dev/net/tun"}] if spec.pod.tun_device == "HostPath" else []
    written = [
        {"name": "run", "mountPath": RUN_DIRECTORY},
        {"name": "run-wireguard", "mountPath": "/run/wireguard"},
    ]
    return [*read, *written, *device]


def _volumes(owner: Owner, spec: TunnelSpec) -> list[Object]:
    def secret(name: str, source: str, optional: bool = False) -> Object:
        volume: Object = {"secretName": source, "defaultMode": 0o400}
        return {"name": name, "secret": {**volume, "optional": True} if optional else volume}

    volumes = [
        secret("config", names.config_secret(owner.name)),
        secret("state", names.state_secret(owner.name), optional=True),
        secret("tls", names.tls_secret(owner.name)),
        # What outlives the container, and never touches a disk.
        {"name": "run", "emptyDir": {"medium": "Memory"}},
        # Where `wg` looks for the interface.
        {"name": "run-wireguard", "emptyDir": {"medium": "Memory"}},
    ]
    if spec.pod.tun_device == "HostPath":
        volumes.append({"name": "tun", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}})
    return volumes


def service(owner: Owner, spec: TunnelSpec, gateway: Gateway) -> Object:
    """Without its selector: that is the role's to say (`selector`)."""
    port: Object = {
        "name": names.UDP_PORT_NAME,
        "port": spec.listen_port,
        "targetPort": spec.listen_port,
        "protocol": "UDP",
    }
    if gateway.node_port is not None:
        port["nodePort"] = gateway.node_port
    made: Object = {"type": gateway.exposure, "ipFamilyPolicy": "PreferDualStack", "ports": [port]}
    if gateway.exposure != "ClusterIP":
        made["externalTrafficPolicy"] = gateway.external_traffic_policy
    if gateway.load_balancer_class is not None:
        made["loadBalancerClass"] = gateway.load_balancer_class
    metadata = owner.metadata(owner.name)
    if gateway.service_annotations:
        metadata["annotations"] = dict(gateway.service_annotations)
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": made}


def selector(tunnel: str, pod: str | None) -> dict[str, str]:
    return {names.TUNNEL_LABEL: tunnel, names.POD_LABEL: pod or names.NOBODY}


def disruption_budget(owner: Owner) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(owner.name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {names.TUNNEL_LABEL: owner.name}}},
    }


def network_policy(owner: Owner, spec: TunnelSpec, settings: Settings) -> Object:
    operator: Object = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": settings.namespace}},
        "podSelector": {"matchLabels": dict(settings.operator_labels)},
    }
    same: Object = {"podSelector": {"matchLabels": {names.TUNNEL_LABEL: owner.name}}}
    metrics: Object = {"namespaceSelector": dict(settings.metrics_namespaces)}

    def port(number: int, protocol: str) -> list[Object]:
        return [{"port": number, "protocol": protocol}]

    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owner.metadata(owner.name),
        "spec": {
            "podSelector": {"matchLabels": {names.TUNNEL_LABEL: owner.name}},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"ports": port(spec.listen_port, "UDP")},
                {"from": [operator, same], "ports": port(names.CONTROL_PORT, "TCP")},
                {"from": [metrics], "ports": port(names.METRICS_PORT, "TCP")},
            ],
        },
    }


def endpoint(
    spec: TunnelSpec, service: Mapping[str, Any] | None, host_address: str | None
) -> tuple[str | None, str]:
    """Where clients reach the gateway, or None; and where that was read, or why it is not known."""
    gateway = spec.gateway
    if spec.client.endpoint:
        return spec.client.endpoint, "spec.client.endpoint"
    if gateway is None:
        return None, "the Tunnel has no gateway: set spec.client.endpoint to where its pods are reached"
    if not has_service(gateway):
        return _joined(host_address, spec.listen_port), "no pod is active yet"
    if service is None:
        return None, "the Service is not there yet"
    return _of_service(gateway, service, host_address)


def _of_service(
    gateway: Gateway, service: Mapping[str, Any], host_address: str | None
) -> tuple[str | None, str]:
    (port,) = service["spec"]["ports"]
    if gateway.exposure == "ClusterIP":
        return _joined(service["spec"].get("clusterIP"), port["port"]), "the Service's address"
    if gateway.exposure == "NodePort":
        return _joined(host_address, port.get("nodePort")), "no pod is active yet"
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if not ingress:
        return None, "no load balancer has given the Service an address yet"
    return _joined(ingress[0].get("ip") or ingress[0].get("hostname"), port["port"]), "the load balancer"


def _joined(host: str | None, port: int | None) -> str | None:
    if not host or not port or host == "None":
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
