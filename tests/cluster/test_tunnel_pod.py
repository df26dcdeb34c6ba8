"""The tunnel as a native sidecar: its image, its one capability, a real client at its Service's address."""

from __future__ import annotations

import json

from tests.lab.implementations import NATIVE_IS_BUILT, Implementation, wireguard_go
from tests.lab.namespaces import wait_until
from tests.lab.peer import PORT, KeyPair, Peer

from .api import Api, Object
from .images import RECIPES, of_project
from .objects import TUNNEL, WORKLOAD, container, node_port, pod
from .outside import Outside
from .settings import address

SERVER = "10.88.0.254"
NET_ADMIN = 1 << 12


def tunnel(**more: object) -> Object:
    """The sidecar, as a gateway's pod has it: nothing but what a tunnel needs."""
    return {
        "name": "tunnel",
        "image": TUNNEL,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--foreground", "wg0"],
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": ["wg", "show", "wg0"]},
            "periodSeconds": 1,
            "failureThreshold": 30,
        },
        "securityContext": {
            "runAsUser": 0,
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tun", "mountPath": "/dev/net/tun"}, {"name": "run", "mountPath": "/run"}],
    } | more


def tunnel_pod(name: str) -> Object:
    """Beside the tunnel there is a container that gives its interface an address, as the operator's will."""
    app = container("app", args=["idle"], securityContext={"capabilities": {"add": ["NET_ADMIN"]}})
    volumes = [
        {"name": "tun", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}},
        {"name": "run", "emptyDir": {"medium": "Memory"}},
    ]
    return pod(name, app, initContainers=[tunnel()], volumes=volumes)


def udp_service(name: str) -> Object:
    ports = [{"name": "wireguard", "port": PORT, "protocol": "UDP"}]
    spec = {"type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"app": name}, "ports": ports}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def configure(api: Api, name: str, keys: KeyPair, client: Peer) -> None:
    peer = f"peer {client.keys.public} allowed-ips {client.ipv4}/32"
    command = f"echo {keys.private} | wg set wg0 private-key /dev/stdin listen-port {PORT} {peer}"
    api.exec(name, "sh", "-c", command, container="tunnel")
    link = f"ip address replace {SERVER}/24 dev wg0 && ip link set wg0 up"
    api.exec(name, "sh", "-c", link, container="app")


def connect(api: Api, name: str, server: KeyPair, client: Peer, implementation: Implementation) -> None:
    """Start a client that knows the address of the Service, and wait until it gets answers."""
    found = api.wait("Pod", name, lambda pod: pod["spec"].get("nodeName"))
    node = address(found["spec"]["nodeName"]).ipv4
    endpoint = f"{node}:{node_port(api.get('Service', name), PORT)}"
    client.process = implementation.start(client.node)
    peer = f"[Peer]\nPublicKey = {server.public}\nAllowedIPs = {SERVER}/32\nEndpoint = {endpoint}\n"
    interface = f"[Interface]\nPrivateKey = {client.keys.private}\n"
    configuration = ["wg", "setconf", "wg0", "/dev/stdin"]
    # Seen once on a machine with ten times more to do than it could: `wg` did not find the socket at first.
    wait_until(
        lambda: client.node.attempt(*configuration, input=f"{interface}\n{peer}").returncode == 0,
        10,
        f"{implementation} to take its configuration",
    )
    client.bring_up()
    ping = ["ping", "-n", "-c1", "-W1", SERVER]
    wait_until(lambda: client.node.attempt(*ping).returncode == 0, 30, "an answer through the tunnel")


def test_a_sidecar_serves_a_client_with_one_capability(api: Api, outside: Outside) -> None:
    implementation = wireguard_go()
    client, keys = Peer(outside.add("client", nat=True), implementation), KeyPair.generate()
    api.apply(tunnel_pod("gateway"), udp_service("gateway"))
    api.wait_ready("gateway")
    configure(api, "gateway", keys, client)
    connect(api, "gateway", keys, client, implementation)

    status = api.exec("gateway", "grep", "-E", "^(CapEff|NoNewPrivs)", "/proc/1/status", container="tunnel")
    facts = dict(line.split() for line in status.replace(":", "").splitlines())
    assert int(facts["CapEff"], 16) == NET_ADMIN
    assert facts["NoNewPrivs"] == "1"

    plane = "native" if NATIVE_IS_BUILT else "pure"
    assert (
        json.loads(api.exec("gateway", "handfast-tunnel", "status", "--json", container="tunnel"))[
            "data_plane"
        ]
        == plane
    )


def test_the_app_starts_when_the_tunnel_has(api: Api) -> None:
    """Until the sidecar's startup probe passes, its app is not begun."""
    api.apply(tunnel_pod("ordered"))
    api.wait_ready("ordered")
    assert "wg0" in api.exec("ordered", "ip", "-oneline", "link", container="app")
    status = api.get("Pod", "ordered")["status"]
    side, app = status["initContainerStatuses"][0], status["containerStatuses"][0]
    assert side["state"]["running"]["startedAt"] <= app["state"]["running"]["startedAt"]


def test_images_are_not_larger_than_they_should_be() -> None:
    sizes = {image.names[0]: image.archive.stat().st_size / 1e6 for image in of_project()}
    assert WORKLOAD in sizes
    for recipe in RECIPES:
        assert sizes[recipe.names[0]] <= recipe.aim
