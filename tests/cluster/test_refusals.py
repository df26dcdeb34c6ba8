"""What is wrong with one object is refused by the API server, with a sentence that says what is wanted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from .api import Api, Object
from .cluster import Cluster
from .gateways import install, peer, tunnel

KEY = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg="
LONG = "x" * 64
EXAMPLES = Path(__file__).parents[2] / "manifests" / "examples"

TUNNELS: list[tuple[Object, str]] = [
    ({"addresses": []}, "should have at least 1 items"),
    ({"addresses": ["10.8.0.1"]}, "is not an address with its prefix"),
    ({"addresses": ["office"]}, "is not an address with its prefix"),
    ({"addresses": ["10.8.0.1/24", "10.9.0.1/24"]}, "at most one IPv4 address"),
    ({"addresses": ["fd00::1/64", "fd01::1/64"], "pools": []}, "at most one IPv6 address"),
    ({"listenPort": 0}, "should be greater than or equal to 1"),
    ({"listenPort": 65536}, "should be less than or equal to 65535"),
    ({"listenPort": "wireguard"}, "expected numeric"),
    ({"pools": [{"cidr": "10.8.0.1/24"}]}, "bits behind the prefix must be zero"),
    ({"pools": [{"cidr": "10.8.0.0"}]}, "is not a network such as"),
    ({"pools": [{"cidr": "10.8.0.0/24"}, {"cidr": "10.8.0.0/25"}]}, "pools must not overlap"),
    ({"pools": [{"cidr": "fd00:8::/64"}]}, "a pool needs an address of its family"),
    ({"pools": [{}]}, "Required value"),
    ({"allowedRoutes": ["192.168.0.0/33"]}, "is not a network such as"),
    ({"allowedRoutes": ["192.168.0.7/16"]}, "bits behind the prefix must be zero"),
    ({"privateKeySecretRef": {"name": "key"}}, "Required value"),
    ({"privateKeySecretRef": {"name": "", "key": "k"}}, "should be at least 1 chars long"),
    ({"keyDeletionPolicy": "Keep"}, "Unsupported value"),
    ({"mtu": 500}, "should be greater than or equal to 576"),
    ({"mtu": 70000}, "should be less than or equal to 65455"),
    ({"presharedKeys": "Always"}, "Unsupported value"),
    ({"client": {"endpoint": "vpn.example.com"}}, "is not HOST:PORT"),
    ({"client": {"endpoint": "vpn.example.com:0"}}, "has a port that is not between 1 and 65535"),
    ({"client": {"endpoint": "vpn.example.com:70000"}}, "has a port that is not between 1 and 65535"),
    ({"client": {"endpoint": "2001:db8::5:51820"}}, "is not HOST:PORT"),
    ({"client": {"dns": ["dns.example.com"]}}, "is not the address of a DNS server"),
    ({"client": {"searchDomains": ["-"]}}, "should match"),
    ({"client": {"allowedIPs": ["0.0.0.0"]}}, "is not a network such as"),
    ({"client": {"persistentKeepalive": -1}}, "should be greater than or equal to 0"),
    ({"recovery": {"announce": "Sometimes"}}, "Unsupported value"),
    ({"recovery": {"timers": "Fast"}}, "Unsupported value"),
    ({"recovery": {"handover": "Later"}}, "Unsupported value"),
    ({"recovery": {"burstPerSecond": 0}}, "should be greater than or equal to 1"),
    ({"forwarding": {"ipv4": "On"}}, "Unsupported value"),
    ({"pod": {"tunDevice": "Resource"}}, "tunDevice: Resource needs tunResourceName"),
    ({"pod": {"tunResourceName": "example.com/tun"}}, "tunDevice: Resource needs tunResourceName"),
    ({"gateway": {"replicas": 6}}, "should be less than or equal to 5"),
    ({"gateway": {"replicas": 0}}, "should be greater than or equal to 1"),
    ({"gateway": {"exposure": "Ingress"}}, "Unsupported value"),
    ({"gateway": {"exposure": "HostPort"}}, "HostPort and HostNetwork need replicas: 1"),
    ({"gateway": {"exposure": "HostNetwork", "replicas": 1}}, "set acceptHostNetwork: true to agree"),
    (
        {
            "gateway": {"exposure": "HostNetwork", "replicas": 1, "acceptHostNetwork": True},
            "allowedRoutes": ["10.0.0.0/8", "::/0"],
        },
        "a default route would be the node's",
    ),
    ({"gateway": {"exposure": "ClusterIP", "nodePort": 30000}}, "nodePort applies to"),
    (
        {"gateway": {"exposure": "ClusterIP", "externalTrafficPolicy": "Local"}},
        "externalTrafficPolicy: Local",
    ),
    ({"gateway": {"exposure": "NodePort", "loadBalancerClass": "x"}}, "loadBalancerClass applies to"),
    ({"injection": {}}, "has pods of its own (gateway) or is injected into others (injection), not both"),
    ({"injection": {"exposure": "HostPort"}}, "Unsupported value"),
    ({"injection": {"nodePort": 30000}}, "nodePort applies to"),
    ({"metrics": {"perPeerLimit": 10_001}}, "should be less than or equal to 10000"),
]
PEERS: list[tuple[Object, str]] = [
    ({"tunnelRef": {}}, "Required value"),
    ({"tunnelRef": {"name": LONG}}, "may not be more than 63"),
    ({"publicKey": "mine"}, "is not a WireGuard public key"),
    ({"publicKey": KEY[:-2] + "h="}, "is not a WireGuard public key"),
    ({"publicKey": "A" * 43 + "="}, "is the zero key"),
    ({"publicKey": KEY, "keyRotation": 1}, "keyRotation is for generated keys"),
    ({"keyRotation": -1}, "should be greater than or equal to 0"),
    ({"presharedKeySecretRef": {"key": "psk"}}, "Required value"),
    ({"addresses": ["10.8.0.0/24"]}, "is not one address"),
    ({"addresses": ["alice"]}, "is not one address"),
    ({"addresses": ["10.8.0.7", "10.8.0.8"]}, "at most one IPv4 address"),
    ({"addresses": ["fd00::7", "fd00::8/128"]}, "at most one IPv6 address"),
    ({"routes": ["192.168.5.7/24"]}, "bits behind the prefix must be zero"),
    ({"endpoint": "site.example.com:51820"}, "is not ADDRESS:PORT"),
    ({"endpoint": "203.0.113.5:99999"}, "has a port that is not between 1 and 65535"),
    ({"persistentKeepalive": 70000}, "should be less than or equal to 65535"),
    ({"client": {"allowedIPs": ["ten"]}}, "is not a network such as"),
    ({"client": {"dns": ["ten"]}}, "is not the address of a DNS server"),
    ({"disabled": "yes"}, "expected boolean"),
    ({"expiresAt": "tomorrow"}, "must be of type date-time"),
]
TUNNEL_CHANGES: list[tuple[Object, str]] = [
    ({"pools": []}, "pools are append-only"),
    ({"pools": [{"cidr": "10.8.0.0/25"}]}, "pools are append-only"),
]
PEER_CHANGES: list[tuple[Object, str]] = [
    ({"tunnelRef": {"name": "other"}}, "tunnelRef cannot change"),
    ({"keyRotation": 1}, "keyRotation only rises"),
]


@pytest.fixture
def refusing(api: Api, machines: Cluster) -> Api:
    install(machines)
    return api


def refusal(api: Api, body: Object) -> str:
    with pytest.raises(ApiException) as refused:
        api.apply(body)
    return str(json.loads(refused.value.body or "{}")["message"])


def told(api: Api, cases: list[tuple[Any, str]]) -> None:
    """All in one test: a cluster's time is dear."""
    wrong = {}
    for body, sentence in cases:
        message = refusal(api, body)
        if sentence not in message:
            wrong[json.dumps(body["spec"])] = f"{sentence!r} is not in {message!r}"
    assert not wrong, wrong


def test_wrong_tunnels(refusing: Api) -> None:
    assert len(TUNNELS) >= 40
    told(refusing, [(tunnel(**spec), sentence) for spec, sentence in TUNNELS])


def test_wrong_peers(refusing: Api) -> None:
    told(refusing, [(peer("alice", **spec), sentence) for spec, sentence in PEERS])


def test_wrong_names(refusing: Api) -> None:
    for name in ("office.example", "1st", LONG):
        assert "the name is also the Service's" in refusal(refusing, tunnel(name))
    assert "part of its Secret's" in refusal(refusing, peer("x" * 201))


def test_wrong_changes(refusing: Api) -> None:
    refusing.apply(tunnel(gateway=None), peer("alice", keyRotation=2))
    told(refusing, [(tunnel(**spec), sentence) for spec, sentence in TUNNEL_CHANGES])
    changes = [({"keyRotation": 2, **spec}, sentence) for spec, sentence in PEER_CHANGES]
    told(refusing, [(peer("alice", **spec), sentence) for spec, sentence in changes])


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_examples_are_accepted(refusing: Api, example: Path) -> None:
    refusing.apply(*yaml.safe_load_all(example.read_text()))
