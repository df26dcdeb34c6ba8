"""Two hosts on one cable: where throughput, handshakes and many peers are measured."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.namespaces import Lab, Node, Process, wait_until
from tests.lab.peer import PORT

from .commands import program_named, start_interface

UNDERLAY: Final = {"server": "192.0.2.1", "client": "192.0.2.2"}
OVERLAY: Final = {"server": "10.8.0.1", "client": "10.8.0.2"}
SITE: Final = "10.7.0.0/24"
"""What lies behind the server, where there is something."""
SITE_HOST: Final = "10.7.0.2"
_TO_THE_SITE: Final = "10.7.0.1"
_MASQUERADE: Final = """
table ip site {
    chain postrouting {
        type nat hook postrouting priority srcnat
        oifname "site" masquerade
    }
}
"""


class TwoHosts:
    """`server` and `client`; a context manager."""

    def __init__(self) -> None:
        self._lab = Lab()
        try:
            self.server, self.client = self._lab.add_nodes("server", "client")
            self._lab.cable(self.server, "eth0", self.client, "eth0")
            for node in (self.server, self.client):
                node.run("ip", "link", "set", "eth0", "up")
                node.run("ip", "address", "add", f"{UNDERLAY[node.name]}/24", "dev", "eth0")
        except BaseException:
            self._lab.close()
            raise

    def __enter__(self) -> TwoHosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._lab.close()

    def add_site(self) -> Node:
        """A host that the server forwards to, and that sees the server's own address: no route leads back."""
        (site,) = self._lab.add_nodes("site")
        self._lab.cable(self.server, "site", site, "eth0")
        for node, address, link in ((self.server, _TO_THE_SITE, "site"), (site, SITE_HOST, "eth0")):
            node.run("ip", "address", "add", f"{address}/24", "dev", link)
            node.run("ip", "link", "set", link, "up")
        self.server.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.server.run("nft", "-f", "-", input=_MASQUERADE)
        return site

    def socket_to_server(self) -> socket.socket:
        """From the client's host, outside any tunnel."""
        sock = self.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect((UNDERLAY["server"], PORT))
        return sock


def start(node: Node, program: str, configuration: str) -> Process:
    """`wg0` of the node, up, configured and listening on the usual port."""
    node.run("rm", "-f", "/run/wireguard/wg0.sock")
    links = [f"address add {OVERLAY[node.name]}/8 dev wg0", "link set wg0 up"]
    process = start_interface(program_named(program), node, configuration, links)
    sockets = Path(f"/proc/{node.pid}/net/udp")
    wait_until(lambda: f":{PORT:04X} " in sockets.read_text(), 10, f"{program} to listen", interval=0.001)
    return process


@contextmanager
def interface(node: Node, program: str, configuration: str) -> Iterator[Process]:
    """`wg0` of the node, up and configured, until it is killed."""
    process = start(node, program, configuration)
    try:
        yield process
    finally:
        process.kill()


def processor_seconds(process: Process) -> float:
    """User and system time that a program and its children, as a keeper's worker, have used so far."""
    return sum(map(_processor_seconds, (process.pid, *process.children())))


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(process: Process) -> float:
    """Of a program and its children; what they share counts for each."""
    return sum(map(_resident_megabytes, (process.pid, *process.children())))


def _resident_megabytes(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
