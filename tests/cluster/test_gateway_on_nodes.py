"""Gateways at the port of the node that runs them, without a Service."""

from __future__ import annotations

import pytest

from tests.lab.namespaces import wait_until

from .api import Api, condition
from .cluster import Cluster
from .gateway_client import GatewayClient
from .gateways import Gateway, install, peer
from .outside import Outside
from .settings import PODS, address

# The node's network has this too with HostNetwork: no other test's.
INSIDE, NETWORK = "10.18.0.1", "10.18.0.0/24"
NODE = "node1"


@pytest.fixture
def gateway(api: Api, machines: Cluster) -> Gateway:
    install(machines)
    return Gateway(api)


@pytest.mark.parametrize(("exposure", "port"), [("HostPort", 51831), ("HostNetwork", 51832)])
def test_a_client_survives_the_end_of_the_pod(
    gateway: Gateway, outside: Outside, exposure: str, port: int
) -> None:
    """The next pod gets the port when the former one has ended; nobody else can have it."""
    gateway.up(
        peer("alice"),
        listenPort=port,
        addresses=[f"{INSIDE}/24"],
        pools=[{"cidr": NETWORK}],
        gateway={
            "exposure": exposure,
            "acceptHostNetwork": exposure == "HostNetwork",
            "replicas": 1,
            "nodeSelector": {"kubernetes.io/hostname": NODE},
        },
    )
    assert gateway.api.find("Service", "office") is None
    assert gateway.status["endpoint"] == f"{address(NODE).ipv4}:{port}"
    configuration, behind = gateway.configuration("alice"), gateway.put_behind()
    client = GatewayClient(outside.add("alice", nat=True), configuration, (NETWORK, PODS[0]))
    client.up()
    client.wait_connected(behind)
    old = gateway.active
    gateway.api.delete("Pod", old)
    gateway.api.wait(
        "Tunnel",
        "office",
        lambda found: found["status"]["active"]["pod"] != old and condition(found, "Active") == "True",
        120,
        "the next pod to be active",
    )
    wait_until(lambda: client.pings(behind), 30, "the client to be back")
    assert gateway.configuration("alice") == configuration
    client.wait_connected(INSIDE)
