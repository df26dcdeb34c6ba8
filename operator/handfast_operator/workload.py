"""What runs for a Tunnel: from its spec to Deployment, Service, disruption budget and network policy.

Nothing in here depends on Peers: adding one never touches a pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import container, names, news
from .resources import API_VERSION, TunnelSpec
from .resources.tunnel import Gateway, Injection
from .settings import Settings

Object = dict[str, Any]


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
    return container.OFFER_SECONDS + container.ENDING_SECONDS + container.SPARE_SECONDS


def has_service(exposed: Gateway | Injection) -> bool:
    return exposed.exposure in {"ClusterIP", "NodePort", "LoadBalancer"}


def objects(owner: Owner, spec: TunnelSpec, settings: Settings) -> list[Object]:
    """All that should be there; what is not in it, and was, should go."""
    gateway = spec.gateway
    if gateway is None:
        # The pods are somebody else's, and so is what may reach them, and when they may end.
        return [service(owner, spec)]
    made = [network_policy(owner, spec, settings), deployment(owner, spec, gateway, settings)]
    if has_service(gateway):
        made.append(service(owner, spec))
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
        "containers": [container.of_gateway(spec, settings, host_port=gateway.exposure == "HostPort")],
        "volumes": container.volumes(owner.name, spec, container.GATEWAY),
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


def service(owner: Owner, spec: TunnelSpec) -> Object:
    """Without its selector: that is the role's to say (`selector`)."""
    exposed = spec.exposed
    port: Object = {
        "name": names.UDP_PORT_NAME,
        "port": spec.listen_port,
        "targetPort": spec.listen_port,
        "protocol": "UDP",
    }
    if exposed.node_port is not None:
        port["nodePort"] = exposed.node_port
    made: Object = {"type": exposed.exposure, "ipFamilyPolicy": "PreferDualStack", "ports": [port]}
    if exposed.exposure != "ClusterIP":
        made["externalTrafficPolicy"] = exposed.external_traffic_policy
    if exposed.load_balancer_class is not None:
        made["loadBalancerClass"] = exposed.load_balancer_class
    if spec.gateway is None:
        # Whether the app is ready says nothing about its tunnel; it may need that to become so.
        made["publishNotReadyAddresses"] = True
    metadata = owner.metadata(owner.name)
    if exposed.service_annotations:
        metadata["annotations"] = dict(exposed.service_annotations)
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
    exposed = spec.exposed
    if spec.client.endpoint:
        return spec.client.endpoint, "spec.client.endpoint"
    if not has_service(exposed):
        return _joined(host_address, spec.listen_port), "no pod is active yet"
    if service is None:
        return None, "the Service is not there yet"
    return _of_service(exposed, service, host_address)


def _of_service(
    exposed: Gateway | Injection, service: Mapping[str, Any], host_address: str | None
) -> tuple[str | None, str]:
    (port,) = service["spec"]["ports"]
    if exposed.exposure == "ClusterIP":
        return _joined(service["spec"].get("clusterIP"), port["port"]), "the Service's address"
    if exposed.exposure == "NodePort":
        return _joined(host_address, port.get("nodePort")), "no pod is active yet"
    ingress = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    if not ingress:
        return None, "no load balancer has given the Service an address yet"
    return _joined(ingress[0].get("ip") or ingress[0].get("hostname"), port["port"]), "the load balancer"


def _joined(host: str | None, port: int | None) -> str | None:
    if not host or not port or host == "None":
        return None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
