"""The Tunnel: one WireGuard interface, and the pods that serve it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from .fields import (
    Conditions,
    Domain,
    Endpoint,
    InterfaceAddress,
    Keepalive,
    Model,
    Network,
    Resolver,
    SecretKey,
    rules,
)

_ONE_EACH = "self.filter(a, isCIDR(a) && cidr(a).ip().family() == {family}).size() <= 1"
_APPEND_ONLY = (
    "!has(oldSelf.pools) || oldSelf.pools.all(p, has(self.pools) && self.pools.exists(q, q.cidr == p.cidr))"
)
_NODES_WAY_OUT = (
    "!has(self.gateway) || self.gateway.exposure != 'HostNetwork' || !has(self.allowedRoutes) ||"
    " self.allowedRoutes.all(route, !route.endsWith('/0'))"
)
_POOLS_HAVE_GATEWAYS = (
    "self.pools.all(p, !isCIDR(p.cidr) || self.addresses.exists(a,"
    " isCIDR(a) && cidr(a).ip().family() == cidr(p.cidr).ip().family()))"
)
_DISJOINT = (
    "self.all(p, !isCIDR(p.cidr) || self.filter(q, isCIDR(q.cidr)"
    " && (cidr(q.cidr).containsCIDR(p.cidr) || cidr(p.cidr).containsCIDR(q.cidr))).size() <= 1)"
)
_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}
_FREE: dict[str, Any] = {"x-kubernetes-preserve-unknown-fields": True}


class Pool(Model):
    """Addresses that Peers are given."""

    cidr: Network
    """The network; its first and last address and the gateway's own are never given away."""


class ClientDefaults(Model):
    """What the configuration of each client says, unless its Peer says otherwise."""

    endpoint: Endpoint | None = None
    """Where clients reach the gateway; found out from the exposure if not given."""
    dns: Annotated[tuple[Resolver, ...], Field(max_length=8, json_schema_extra=_ATOMIC)] = ()
    """DNS servers that clients use while connected."""
    search_domains: Annotated[tuple[Domain, ...], Field(max_length=16, json_schema_extra=_ATOMIC)] = ()
    """Domains in which clients complete short names."""
    allowed_ips: Annotated[
        tuple[Network, ...], Field(alias="allowedIPs", max_length=64, json_schema_extra=_ATOMIC)
    ] = ("0.0.0.0/0", "::/0")
    """What clients send into the tunnel."""
    persistent_keepalive: Keepalive = 25
    """Seconds between packets that keep a NAT open; 0 for none."""


class Recovery(Model):
    """How clients are brought back after a restart."""

    announce: Literal["Auto", "Always", "Never"] = "Auto"
    """Whether a gateway that starts sends handshakes to the last known addresses of its clients. Auto: only
    where
    they see it come from the published address."""
    timers: Literal["Recovery", "Strict"] = "Recovery"
    """Strict: no timers but those of the WireGuard paper."""
    burst_per_second: Annotated[int, Field(ge=1, le=100_000)] = 500
    """The most handshakes that are started in a second."""
    handover: Literal["Auto", "AfterApp", "Never"] | None = None
    """When a pod that ends hands its clients over. Auto: at once. AfterApp: when its application has ended,
    the default of a Tunnel without gateway."""


class Forwarding(Model):
    """What happens to packets between clients and everything else."""

    ipv4: Literal["Auto", "Off"] = "Auto"
    """Auto: switched on where it is off."""
    ipv6: Literal["Auto", "Off"] = "Auto"
    """Auto: used where the node allows it; ForwardingReady says so if it does not."""
    masquerade: bool = True
    """Packets of clients leave with the pod's address; without it, others need routes to the clients."""
    clamp_mss: Annotated[bool, Field(alias="clampMSS")] = True
    """TCP through the tunnel is told how large its segments may be."""


class PodSettings(Model):
    """How the tunnel's container gets its device and its share of a node."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "(self.tunDevice == 'Resource') == (has(self.tunResourceName) && self.tunResourceName != '')",
                "tunDevice: Resource needs tunResourceName, as its device plugin has it; HostPath none",
            )
        )
    )

    tun_device: Literal["HostPath", "Resource"] = "HostPath"
    """Where /dev/net/tun comes from: the node's own, or the resource of a device plugin."""
    tun_resource_name: Annotated[str, Field(max_length=253)] | None = None
    """The resource's name, as in example.com/tun."""
    resources: Annotated[dict[str, Any], Field(json_schema_extra=_FREE)] = Field(default_factory=dict)
    """Requests and limits of the container."""


_SERVICE_RULES = (
    (
        "!has(self.nodePort) || self.exposure in ['NodePort', 'LoadBalancer']",
        "nodePort applies to exposure NodePort and LoadBalancer only",
    ),
    (
        "self.externalTrafficPolicy == 'Cluster' || self.exposure in ['NodePort', 'LoadBalancer']",
        "externalTrafficPolicy: Local applies to exposure NodePort and LoadBalancer only",
    ),
    (
        "!has(self.loadBalancerClass) || self.exposure == 'LoadBalancer'",
        "loadBalancerClass applies to exposure LoadBalancer only",
    ),
)


class ServiceOptions(Model):
    """What the Service is like that leads to the active pod."""

    external_traffic_policy: Literal["Cluster", "Local"] = "Cluster"
    """Local: the gateway sees its clients' own addresses, and a handover waits for the load balancer to
    notice."""
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """A fixed port on the nodes; else one is chosen."""
    load_balancer_class: Annotated[str, Field(max_length=253)] | None = None
    """Which load balancer serves it; else the cluster's default."""
    service_annotations: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """For the Service, as load balancers ask for."""


class Gateway(ServiceOptions):
    """Pods of their own that serve the Tunnel."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "!(self.exposure in ['HostPort', 'HostNetwork']) || self.replicas == 1",
                "HostPort and HostNetwork need replicas: 1: two pods cannot share the port of one node",
            ),
            (
                "self.exposure != 'HostNetwork' || self.acceptHostNetwork",
                "HostNetwork gives the gateway the node's network: set acceptHostNetwork: true to agree",
            ),
            *_SERVICE_RULES,
        )
    )

    replicas: Annotated[int, Field(ge=1, le=5)] = 2
    """One is active, the others stand by."""
    exposure: Literal["ClusterIP", "NodePort", "LoadBalancer", "HostPort", "HostNetwork"] = "LoadBalancer"
    """How clients reach the active pod."""
    accept_host_network: bool = False
    """Agrees to what exposure: HostNetwork means for the node."""
    node_selector: Annotated[dict[str, str], Field(max_length=64)] = Field(default_factory=dict)
    """Labels of the nodes that may run it."""
    tolerations: Annotated[
        tuple[Annotated[dict[str, Any], Field(json_schema_extra=_FREE)], ...],
        Field(max_length=32, json_schema_extra=_ATOMIC),
    ] = ()
    """Taints of nodes that do not matter to it."""
    topology_spread_constraints: Annotated[
        tuple[Annotated[dict[str, Any], Field(json_schema_extra=_FREE)], ...],
        Field(max_length=16, json_schema_extra=_ATOMIC),
    ] = ()
    """How its pods are spread; without any, over nodes where possible."""
    priority_class_name: Annotated[str, Field(max_length=253)] = ""
    """Which pods give way to it."""


class Injection(ServiceOptions):
    """How the pods are reached that the tunnel is injected into."""

    model_config = ConfigDict(json_schema_extra=rules(*_SERVICE_RULES))

    exposure: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    """How clients reach the active pod."""


class Metrics(Model):
    """What is counted for each client."""

    per_peer: bool = False
    """Series for each Peer, under the names that WireGuard dashboards know."""
    per_peer_limit: Annotated[int, Field(ge=0, le=10_000)] = 500
    """For at most so many Peers."""


class TunnelSpec(Model):
    """What is wanted."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                _APPEND_ONLY,
                "pools are append-only: addresses of Peers lie in the ones that are there",
            ),
            (
                _POOLS_HAVE_GATEWAYS,
                "a pool needs an address of its family in addresses",
            ),
            (
                _NODES_WAY_OUT,
                "with HostNetwork a default route would be the node's: list networks in allowedRoutes",
            ),
            (
                "!has(self.gateway) || !has(self.injection)",
                "a Tunnel has pods of its own (gateway) or is injected into others (injection), not both",
            ),
        )
    )

    listen_port: Annotated[int, Field(ge=1, le=65535)] = 51820
    """The UDP port, of the pods and of the Service."""
    addresses: Annotated[
        tuple[InterfaceAddress, ...],
        Field(
            min_length=1,
            max_length=2,
            json_schema_extra={
                **_ATOMIC,
                **rules(
                    (_ONE_EACH.format(family=4), "at most one IPv4 address"),
                    (_ONE_EACH.format(family=6), "at most one IPv6 address"),
                ),
            },
        ),
    ]
    """The gateway's own, with the prefix of the network that it is in."""
    pools: Annotated[
        tuple[Pool, ...],
        Field(
            max_length=16,
            json_schema_extra={
                **_ATOMIC,
                **rules(
                    (
                        _DISJOINT,
                        "pools must not overlap",
                    )
                ),
            },
        ),
    ] = ()
    """Where Peers without addresses of their own get theirs; networks can be added, not taken away."""
    allowed_routes: Annotated[tuple[Network, ...], Field(max_length=64, json_schema_extra=_ATOMIC)] = ()
    """What Peers may route besides their own address: a Peer's routes lie within these."""
    private_key_secret_ref: SecretKey | None = None
    """A private key of your own; else one is generated."""
    key_deletion_policy: Literal["Retain", "Delete"] = "Retain"
    """What becomes of a generated private key when the Tunnel is deleted. Retain: a new Tunnel of the same
    name
    finds it, and clients need no new configuration."""
    mtu: Annotated[int, Field(ge=576, le=65455)] | None = None
    """Of the interface; else the pod's less 80."""
    preshared_keys: Literal["Generate", "None"] = "Generate"
    """Whether generated Peers get a preshared key as well."""
    client: ClientDefaults = ClientDefaults()
    """What the configuration of each client says."""
    recovery: Recovery = Recovery()
    """How clients are brought back after a restart."""
    forwarding: Forwarding = Forwarding()
    """What happens to packets between clients and everything else."""
    pod: PodSettings = PodSettings()
    """How the tunnel's container gets its device and its share of a node."""
    gateway: Gateway | None = None
    """Pods of their own that serve the Tunnel; without it, only pods that it is injected into do."""
    injection: Injection | None = None
    """How pods are reached that it is injected into: those with the label handfast.dev/tunnel."""
    metrics: Metrics = Metrics()
    """What is counted for each client."""

    @property
    def exposed(self) -> Gateway | Injection:
        """How the active pod is reached."""
        return self.gateway or self.injection or Injection()

    @property
    def hands_over(self) -> Literal["Auto", "AfterApp", "Never"]:
        return self.recovery.handover or ("Auto" if self.gateway else "AfterApp")


class ActivePod(Model):
    """The pod that owns the sessions now."""

    pod: str
    """Its name."""
    node: str = ""
    """Where it runs."""
    term: int
    """The number of this activation; the highest one is right."""
    since: str
    """When it became active."""


class PeerCounts(Model):
    """How many Peers there are."""

    total: int = 0
    """All that name this Tunnel."""
    ready: int = 0
    """Those that the pods serve."""
    connected: int = 0
    """Those that were heard from in the last three minutes."""


class PoolStatus(Model):
    """How much of a pool is left."""

    cidr: str
    """The network."""
    free: int
    """Addresses in it that nobody has."""


class LastHandover(Model):
    """What the last handover was like for clients."""

    time: str
    """When it was."""
    method: str = ""
    """How most clients came back."""
    peers: int = 0
    """How many clients it moved."""
    p99_seconds: str = ""
    """99 of 100 were back after so many seconds."""


class TunnelStatus(Model):
    """What is."""

    observed_generation: int = 0
    """Of the spec that this tells about."""
    public_key: str = ""
    """The gateway's public key."""
    endpoint: str = ""
    """Where clients reach it."""
    config_generation: int = 0
    """Of the configuration in its Secret."""
    applied_generation: int = 0
    """The lowest that a pod has."""
    active: ActivePod | None = None
    """The pod that owns the sessions now."""
    standbys: int = 0
    """Pods that are ready to take over."""
    peers: PeerCounts = PeerCounts()
    """How many Peers there are."""
    pools: Annotated[tuple[PoolStatus, ...], Field(json_schema_extra=_ATOMIC)] = ()
    """How much of the pools is left."""
    last_handover: LastHandover | None = None
    """What the last handover was like for clients."""
    outbound_timestamp_ceiling: str = ""
    """No pod sends a handshake with a later time stamp, before this is raised."""
    conditions: Conditions = ()
    """Ready, KeyAvailable, EndpointReady, ForwardingReady, Active, StandbyReady, Degraded."""


class Tunnel(Model):
    """A WireGuard interface that the operator runs in pods: keys, address, port, policy."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
                "the name is also the Service's: at most 63 of a-z, 0-9 and dashes, a letter first",
            ),
        )
    )

    spec: TunnelSpec
    """What is wanted."""
    status: TunnelStatus = TunnelStatus()
    """What is."""
