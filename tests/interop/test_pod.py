"""`handfast-tunnel run`: a pod's tunnel from mounted configuration, with an unmodified client."""

from __future__ import annotations

from handfast_tunnel.control import Configuration
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import KeyPair, Peer
from tests.lab.pods import Pod, peer_spec, tunnel_spec

KEYS = KeyPair.generate()


def test_it_serves_a_client_from_mounted_files_alone(network: Network, wireguard_go: Implementation) -> None:
    pod_host, client_host = network.add("pod", "client")
    client = Peer(client_host, wireguard_go)
    pod = Pod(pod_host, Configuration.of(1, tunnel_spec(KEYS, replicas=1), [peer_spec(client)]))
    pod.start()
    client.start()
    client.set("peer", KEYS.public, "allowed-ips", "0.0.0.0/0,::/0", "endpoint", f"{pod_host.ipv4}:51820")
    wait_until(
        lambda: client.node.attempt("ping", "-c1", "-W1", "10.88.0.200").returncode == 0, 20, "the pod"
    )
    assert client.node.attempt("ping", "-c1", "-W1", "fd88::c8").returncode == 0
