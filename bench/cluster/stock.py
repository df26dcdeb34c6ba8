"""What people have without Handfast: wireguard-go in a plain Deployment, behind a plain Service."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from tests.cluster import objects
from tests.cluster.api import Api, Object
from tests.lab.peer import PORT, KeyPair

from bench.commands import interface_section, peer_section

NAME: Final = "stock"
# An ordinary script, as people write it; the container may do everything.
_START: Final = """
set -e
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<'END'
table inet stock
delete table inet stock
table inet stock {
    chain postrouting { type nat hook postrouting priority srcnat; iifname wg0 oifname eth0 masquerade; }
}
END
(
    # Not by `wg`: it removes a socket on which nobody listens yet.
    until [ -S /var/run/wireguard/wg0.sock ] && ip link show wg0 >/dev/null; do sleep 0.05; done; sleep 0.05
    wg setconf wg0 /etc/wireguard/wg0.conf
    ip address add ADDRESS/24 dev wg0
    ip link set wg0 up mtu 1420
) &
exec wireguard-go -f wg0
"""


@dataclass
class Stock:
    """One Deployment with one pod, in a namespace of its own."""

    api: Api
    address: str
    """Inside its tunnel."""

    def __post_init__(self) -> None:
        self.keys = KeyPair.generate()

    def up(self, peers: Iterable[tuple[str, str]]) -> None:
        """With these peers, by their keys and addresses; Ready when this returns."""
        sections = [peer_section(key, address) for key, address in peers]
        configuration = interface_section(self.keys.private, PORT) + "".join(sections)
        secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}}
        encoded = base64.b64encode(configuration.encode()).decode()
        self.api.apply({**secret, "data": {"wg0.conf": encoded}}, self._deployment())
        self.wait_ready()

    def _deployment(self) -> Object:
        start = _START.replace("ADDRESS", self.address)
        mounts = [
            {"name": "configuration", "mountPath": "/etc/wireguard"},
            {"name": "tun", "mountPath": "/dev/net/tun"},
        ]
        ready = {"exec": {"command": ["sh", "-c", "ip link show wg0 up | grep -q wg0"]}, "periodSeconds": 1}
        container = objects.container(
            command=["sh", "-c", start],
            securityContext={"privileged": True},
            readinessProbe=ready,
            volumeMounts=mounts,
        )
        volumes = [
            {"name": "configuration", "secret": {"secretName": NAME}},
            {"name": "tun", "hostPath": {"path": "/dev/net/tun", "type": "CharDevice"}},
        ]
        return objects.deployment(NAME, container, volumes=volumes)

    def service(self) -> Object:
        """It has all three exposures at once."""
        port = {"name": "wireguard", "port": PORT, "protocol": "UDP"}
        spec = {"type": "LoadBalancer", "selector": {"app": NAME}, "ports": [port]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME}, "spec": spec}

    def pods(self) -> list[Object]:
        return [
            pod
            for pod in self.api.list("Pod", f"app={NAME}")
            if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
        ]

    @property
    def pod(self) -> Object:
        """The youngest that is not ending."""
        return max(self.pods(), key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def wait_ready(self, replicas: int = 1) -> None:
        def complete(found: Object) -> bool:
            status = found["status"]
            counts = [status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")]
            seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
            return seen and counts == [replicas] * 3

        self.api.wait("Deployment", NAME, complete, 180, f"{replicas} pods of wireguard-go, ready")
