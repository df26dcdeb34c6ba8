"""Clients outside of a cluster: hosts of the test lab, on cables to the cluster's router, behind NAT or not.

They are hosts as in `tests.lab.network`, so real WireGuard programs and probes run on them all the same.
"""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

from tests.lab.namespaces import Lab, LabError
from tests.lab.network import Host

from .cluster import Cluster
from .network import BRIDGE

_LARGEST = 250


class Outside:
    """A lab beside a cluster; a context manager that takes its hosts away again."""

    def __init__(self, cluster: Cluster) -> None:
        self._router = cluster.router
        self._lab = Lab()
        self._translated: list[str] = []

    def add(self, name: str, *, nat: bool = False) -> Host:
        """A host with a cable of its own. Behind NAT the cluster sees the router's address instead."""
        (node,) = self._lab.add_nodes(name)
        number = self._plug(node.pid)
        cable = f"out{number}"
        host = Host(cable, node, number, nat)
        self._router.ip(
            f"link set {cable} up",
            f"address add 10.77.{number}.1/24 dev {cable}",
            f"address add fd77:{number:x}::1/64 dev {cable} nodad",
        )
        host.plug_in()
        if nat:
            self._translate(host)
        return host

    def _plug(self, pid: int) -> int:
        """Join a host to the router under a number that no other test has."""
        for number in range(1, _LARGEST):
            ends = ["name", f"out{number}", "type", "veth", "peer", "name", "eth0", "netns", str(pid)]
            into = ["nsenter", "--net", f"--target={self._router.pid}", "--"]
            done = subprocess.run([*into, "ip", "link", "add", *ends], capture_output=True, text=True)
            if done.returncode == 0:
                return number
            if "File exists" not in done.stderr:
                raise LabError(f"a cable to {BRIDGE}: {done.stderr}")
        raise LabError(f"{_LARGEST} hosts are too many")

    def _translate(self, host: Host) -> None:
        own4, own6 = f"10.77.{host.number}.0/24", f"fd77:{host.number:x}::/64"
        rules = f"""
            table inet {host.name} {{
                chain postrouting {{
                    type nat hook postrouting priority srcnat
                    oifname "{BRIDGE}" ip saddr {own4} masquerade
                    oifname "{BRIDGE}" ip6 saddr {own6} masquerade
                }}
            }}
        """
        self._router.run("nft", "-f", "-", input=rules)
        self._translated.append(host.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def report(self) -> str:
        """What the programs on the hosts wrote, for people."""
        logs = self._lab.directory.glob("*.log")
        return "\n".join(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}" for log in logs)

    def close(self) -> None:
        for cable in self._translated:
            self._router.run("nft", "delete", "table", "inet", cable)
        self._lab.close()
