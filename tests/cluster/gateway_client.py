"""A client of a gateway, as people have one: a WireGuard program, and the file that the operator made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tests.lab.implementations import Implementation, wireguard_go_modern
from tests.lab.namespaces import Process, wait_until
from tests.lab.network import Host

INTERFACE = "wg0"
_OF_WG_QUICK = re.compile(r"^(Address|DNS|MTU)\b.*\n", re.MULTILINE)


@dataclass
class GatewayClient:
    """`configuration` is a `wg0.conf`; only `networks` are routed into the tunnel."""

    host: Host
    configuration: str
    networks: Iterable[str]
    implementation: Implementation | None = None
    _process: Process | None = None

    def up(self) -> None:
        node = self.host.node
        self._process = (self.implementation or wireguard_go_modern()).start(node, INTERFACE)
        node.run("wg", "setconf", INTERFACE, "/dev/stdin", input=_OF_WG_QUICK.sub("", self.configuration))
        for address in self.addresses:
            node.run("ip", "address", "add", address, "dev", INTERFACE)
        node.run("ip", "link", "set", INTERFACE, "up", "mtu", "1420")
        for network in self.networks:
            node.run("ip", "route", "add", network, "dev", INTERFACE)

    @property
    def addresses(self) -> list[str]:
        match = re.search(r"^Address = (.*)$", self.configuration, re.MULTILINE)
        assert match
        return [text.strip() for text in match[1].split(",")]

    def pings(self, address: str) -> bool:
        return self.host.node.attempt("ping", "-c1", "-W1", address).returncode == 0

    def wait_connected(self, address: str, timeout: float = 20) -> None:
        wait_until(lambda: self.pings(address), timeout, f"an answer from {address} through the tunnel")

    def shaken_hands_at(self) -> int:
        """When the last handshake was, in seconds since 1970."""
        (line,) = self.host.node.run("wg", "show", INTERFACE, "latest-handshakes").splitlines()
        return int(line.split()[1])

    def handshakes(self) -> int:
        """How many began, but for those that are repeated although they were answered: wireguard-go arms its
        timer when it has sent (device/send.go), and the answer may be faster."""
        assert self._process is not None
        said = self._process.output()
        begun = said.count("Sending handshake initiation") + said.count("Received handshake initiation")
        return begun - said.count("Handshake did not complete after")

    def down(self) -> None:
        if self._process is not None:
            self._process.terminate()
