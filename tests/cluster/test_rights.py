"""What the operator may do is what it does; and who else may tell a gateway's pod anything: nobody."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator

import pytest

from tests.lab.namespaces import wait_until

from .api import Api
from .cluster import Cluster
from .control_plane import AUDITED
from .gateways import Gateway, install, peer
from .objects import TUNNEL, container, pod
from .rights import Right, audited, granted, used

ACCOUNT = "handfast"
_CALL = """
import socket, ssl, sys
address, certificate = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
if certificate:
    context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")
with context.wrap_socket(socket.create_connection((address, 9587), 10)) as connection:
    try:
        connection.sendall(b"POST /v1/drain HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
        print(connection.recv(1000))
    except ssl.SSLError as error:
        print(error.reason)
"""


@pytest.fixture
def gateway(api: Api, machines: Cluster) -> Gateway:
    install(machines)
    return Gateway(api)


@pytest.fixture
def elsewhere(api: Api) -> Iterator[Api]:
    other = Api(api.kubeconfig, f"test-{secrets.token_hex(4)}")
    other.create_namespace()
    yield other
    other.delete_namespace()
    other.close()


def test_what_is_granted_is_used_and_nothing_is_forbidden(gateway: Gateway, machines: Cluster) -> None:
    """A gateway with all that can happen to it; the audit of the whole run is looked at."""
    api, began = gateway.api, audited(machines)
    gateway.up(peer("alice"))
    # A Secret that the garbage collector has not come to yet, of a Peer that is made anew.
    machines.kubectl("delete", "peer", "alice", "--cascade=orphan", f"--namespace={api.namespace}")
    api.apply(peer("alice"))
    gateway.wait_peer("alice")
    # A pod that answers nothing: is its node there?
    image = {"containers": [{"name": "tunnel", "image": "handfast.test/nowhere:1"}]}
    api.patch("Deployment", "office", {"spec": {"template": {"spec": image}}})
    rights = granted(api, ACCOUNT)
    wait_until(lambda: any(use.resource == "nodes" for use in used(machines, ACCOUNT)), 60, "a look at nodes")
    # What goes when it is not asked for any more: the budget, the Service, the Deployment, the policy.
    gateway.start(gateway={"replicas": 1, "exposure": "HostPort"})
    api.wait_gone("PodDisruptionBudget", "office")
    api.wait_gone("Service", "office")
    without = json.dumps([{"op": "remove", "path": "/spec/gateway"}])
    machines.kubectl(
        "patch", "tunnel", "office", f"--namespace={api.namespace}", "--type=json", "-p", without
    )
    api.wait_gone("Deployment", "office")
    api.wait_gone("NetworkPolicy", "office")
    # An upgrade that somebody has begun in a pod: why does its container not come?
    begun = {"image": TUNNEL, "restarts": 9, "role": "standby", "at": time.time(), "sessions": []}
    app = pod("app", labels={"handfast.dev/tunnel": "office"})
    app["metadata"]["annotations"] = {"handfast.dev/upgrading": json.dumps(begun)}
    api.apply(app)
    events = Right("", "events", "list")
    wait_until(lambda: any(use.of(events) for use in used(machines, ACCOUNT)), 60, "a look at events")
    uses = used(machines, ACCOUNT)
    assert rights
    assert not {right for right in rights if not any(use.of(right) for use in uses)}, (
        "granted, and never used"
    )
    # Not before: an operator and its roles are installed, and removed, at the same moment.
    assert not {use for use in used(machines, ACCOUNT, began) if not use.allowed}, "forbidden"
    # Pods and Secrets of all namespaces are there for Tunnels, not for the operator's own.
    assert {use.name for use in uses if (use.resource, use.namespace) == ("secrets", AUDITED)} <= {
        "handfast-ca",
        "",
    }


@pytest.mark.parametrize("certificate", ["", "a gateway's"])
def test_another_namespaces_pod_tells_a_gateway_nothing(
    gateway: Gateway, elsewhere: Api, certificate: str
) -> None:
    """Not even with the gateway's own certificate. (This cluster's network enforces no NetworkPolicy: mutual
    TLS is what refuses it here; where there is one that does, the port is not even reached.)"""
    gateway.up(peer("alice"))
    active = gateway.active
    secret = gateway.api.get("Secret", "office-handfast-tls")
    elsewhere.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stolen"}, "data": secret["data"]},
        pod(
            "thief",
            container(
                image=TUNNEL,
                command=["sleep", "600"],
                volumeMounts=[{"name": "tls", "mountPath": "/tls"}],
            ),
            volumes=[{"name": "tls", "secret": {"secretName": "stolen"}}],
        ),
    )
    elsewhere.wait_ready("thief")
    address = gateway.api.get("Pod", active)["status"]["podIP"]
    said = elsewhere.exec("thief", "/opt/handfast/bin/python", "-c", _CALL, address, certificate)
    # Which of them comes first is a matter of time.
    nothing = {"b''", "TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"}
    assert said.strip() in nothing
    assert gateway.active == active
    gateway.wait_alone(active)
