"""The cluster's own network: a bridge in the router, a cable to each machine, routes between nodes' pods.

client ---- router ---- control
client --/         \\--- node1 --- pods
                    \\-- node2 --- pods
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from .machines import Machine
from .settings import PODS, ROUTER, address

BRIDGE = "lan"
UPLINK = "eth0"
# Addresses of pods are not known outside: what they send there carries their node's.
_MASQUERADE = f"""
table inet cluster {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        oifname "{UPLINK}" ip saddr {PODS[0]} ip daddr != {PODS[0]} masquerade
        oifname "{UPLINK}" ip6 saddr {PODS[1]} ip6 daddr != {PODS[1]} masquerade
    }}
}}
"""


def make_router(router: Machine, node_names: Iterable[str]) -> None:
    own = address(ROUTER)
    nodes = [address(name) for name in node_names]
    router.ip(
        # Nobody waits for other bridges here.
        f"link add {BRIDGE} type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
        f"link set {BRIDGE} up",
        f"address add {own.ipv4}/24 dev {BRIDGE}",
        f"address add {own.ipv6}/64 dev {BRIDGE} nodad",
        # Where packets go that a balancer has marked with the number of a node.
        *(f"rule add fwmark {node.number} lookup {node.number}" for node in nodes),
    )
    for node in nodes:
        router.ip(f"route add default via {node.ipv4} table {node.number}")


def plug_in(machine: Machine, router: Machine, neighbours: Iterable[str]) -> None:
    """Join a machine to the router, with routes to the pods of its neighbours."""
    own, gateway = address(machine.name), address(ROUTER)
    ends = ["name", UPLINK, "type", "veth", "peer", "name", machine.name, "netns", str(router.pid)]
    into = ["nsenter", "--net", f"--target={machine.pid}", "--"]
    subprocess.run([*into, "ip", "link", "add", *ends], check=True)
    router.ip(f"link set {machine.name} master {BRIDGE} up")
    machine.ip(
        f"link set {UPLINK} up",
        f"address add {own.ipv4}/24 dev {UPLINK}",
        f"address add {own.ipv6}/64 dev {UPLINK} nodad",
        f"route add default via {gateway.ipv4}",
        f"route add default via {gateway.ipv6}",
        *(
            f"route add {pods} via {via}"
            for node in neighbours
            if node != machine.name
            for pods, via in zip(address(node).pods, (address(node).ipv4, address(node).ipv6), strict=True)
        ),
    )


def masquerade(node: Machine) -> None:
    node.run("nft", "-f", "-", input=_MASQUERADE)


def set_cable(router: Machine, machine: str, *, connected: bool) -> None:
    """Cut a machine off the others, or join it to them again."""
    router.ip(f"link set {machine} {'up' if connected else 'down'}")
