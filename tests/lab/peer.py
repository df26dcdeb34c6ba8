"""WireGuard peers on hosts: keys, configuration through `wg`, addresses, and what `wg show` says of them."""

from __future__ import annotations

import base64
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from .implementations import HANDFAST, Implementation
from .namespaces import LabError, Node, Process, wait_until
from .network import Host

PORT = 51820
TUNNEL_MTU = 1420


class KeyPair(NamedTuple):
    """Base64, as `wg` reads and writes them."""

    private: str
    public: str

    @classmethod
    def generate(cls) -> KeyPair:
        key = X25519PrivateKey.generate()
        private, public = key.private_bytes_raw(), key.public_key().public_bytes_raw()
        return cls(base64.b64encode(private).decode(), base64.b64encode(public).decode())


def preshared_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


@dataclass(frozen=True)
class Acquaintance:
    """What one peer has in its configuration about another; keys as in the file of `wg`."""

    other: Peer
    endpoint: str = ""
    keepalive: int = 0
    preshared_key: str = ""
    allowed_ips: tuple[str, ...] = ()

    def section(self) -> str:
        lines = ["[Peer]", f"PublicKey = {self.other.keys.public}"]
        lines.append(f"AllowedIPs = {', '.join(self.allowed_ips)}")
        lines += [f"Endpoint = {self.endpoint}"] if self.endpoint else []
        lines += [f"PersistentKeepalive = {self.keepalive}"] if self.keepalive else []
        lines += [f"PresharedKey = {self.preshared_key}"] if self.preshared_key else []
        return "\n".join(lines)


class PeerStatus(NamedTuple):
    """One line of `wg show dump`."""

    public_key: str
    preshared_key: str
    endpoint: str
    allowed_ips: str
    latest_handshake: int
    received: int
    sent: int
    keepalive: str


class Peer:
    """One implementation on one host, with an interface whose tunnel addresses end in the host's number."""

    def __init__(
        self,
        host: Host,
        implementation: Implementation,
        *,
        interface: str = "wg0",
        port: int = PORT,
        subnet: int = 88,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.host, self.node = host, host.node
        self.implementation = implementation
        self.interface = interface
        self.port = port
        self.keys = KeyPair.generate()
        self.ipv4 = f"10.{subnet}.0.{host.number}"
        self.ipv6 = f"fd{subnet}::{host.number:x}"
        self.environment = dict(environment or {})
        self.known: dict[str, Acquaintance] = {}
        self.process: Process | None = None

    def knows(
        self,
        other: Peer,
        endpoint: bool | str = True,
        *,
        keepalive: int = 0,
        preshared_key: str = "",
        allowed_ips: tuple[str, ...] = (),
    ) -> None:
        """Put `other` into the configuration; `endpoint` is its IPv4 one, another, or none (False)."""
        if isinstance(endpoint, bool):
            endpoint = f"{other.host.ipv4}:{other.port}" if endpoint else ""
        allowed_ips = allowed_ips or (f"{other.ipv4}/32", f"{other.ipv6}/128")
        self.known[other.keys.public] = Acquaintance(
            other, endpoint, keepalive, preshared_key, tuple(allowed_ips)
        )

    def configuration(self) -> str:
        """The file for `wg setconf`."""
        interface = f"[Interface]\nPrivateKey = {self.keys.private}\nListenPort = {self.port}"
        return "\n\n".join([interface, *(a.section() for a in self.known.values())]) + "\n"

    def start(self) -> None:
        """Start, configure, and bring the interface up, in the order of wg-quick."""
        self.launch()
        self.configure()
        self.bring_up()

    def launch(self) -> None:
        self.process = self.implementation.start(self.node, self.interface, self.environment)

    def configure(self) -> None:
        self.node.run("wg", "setconf", self.interface, "/dev/stdin", input=self.configuration())

    def bring_up(self, mtu: int = TUNNEL_MTU) -> None:
        commands = [
            f"address replace {self.ipv4}/24 dev {self.interface}",
            f"address replace {self.ipv6}/64 dev {self.interface} nodad",
            f"link set {self.interface} mtu {mtu} up",
        ]
        self.node.run("ip", "-batch", "-", input="\n".join(commands))

    def link(self, state: str) -> None:
        self.node.run("ip", "link", "set", self.interface, state)

    @property
    def running(self) -> Process:
        if self.process is None:
            raise LabError(f"{self.implementation} on {self.host.name} was not started")
        return self.process

    def kill(self) -> float:
        """kill -9; returns when, on CLOCK_MONOTONIC."""
        at = time.monotonic()
        self.running.kill()
        return at

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self.running.terminate()

    def wg(self, *arguments: str, input: str | None = None) -> str:
        return self.node.run("wg", *arguments, input=input)

    def uapi(self, request: str) -> str:
        """Talk to the configuration socket without `wg`: "set=1" or "get=1", lines, an empty line."""
        return uapi(self.node, self.interface, request)

    def command(self, *arguments: str) -> str:
        """Run one of Handfast's commands, such as `drain`, `handshake` and `status`."""
        return self.node.run(str(HANDFAST), *arguments)

    def set(self, *arguments: str, input: str | None = None) -> None:
        self.wg("set", self.interface, *arguments, input=input)

    def status(self, other: Peer) -> PeerStatus:
        for line in self.wg("show", self.interface, "dump").splitlines()[1:]:
            key, preshared, endpoint, allowed_ips, handshake, received, sent, keepalive = line.split("\t")
            if key == other.keys.public:
                numbers = int(handshake), int(received), int(sent)
                return PeerStatus(key, preshared, endpoint, allowed_ips, *numbers, keepalive)
        raise LabError(f"{self.host.name} does not know {other.host.name}")

    def ping(self, other: Peer, *, ipv6: bool = False, timeout: float = 2, size: int = 56) -> bool:
        """One echo, not to be fragmented inside the tunnel."""
        address = other.ipv6 if ipv6 else other.ipv4
        options = ["-n", "-q", "-c1", f"-W{timeout}", f"-s{size}", "-Mdo"]
        return self.node.attempt("ping", *options, address, timeout=timeout + 10).returncode == 0

    def reaches(self, other: Peer, *, ipv6: bool = False, timeout: float = 10) -> None:
        """Ping until it is answered."""
        what = f"{other.host.name} to answer {self.host.name}"
        wait_until(lambda: self.ping(other, ipv6=ipv6, timeout=1), timeout, what)

    def reaches_address(self, address: str, timeout: float = 10) -> None:
        """Ping an address inside the tunnel until it is answered."""
        ping = ("ping", "-nqc1", "-W1", address)
        what = f"{address} to answer {self.host.name}"
        wait_until(lambda: self.node.attempt(*ping).returncode == 0, timeout, what)

    def wait_for_handshake(self, other: Peer, since: int = 0, timeout: float = 10) -> None:
        """Wait for one that completed after `since`, in Unix seconds."""
        what = f"a handshake of {self.host.name} with {other.host.name}"
        wait_until(lambda: self.status(other).latest_handshake > since, timeout, what)


def uapi(node: Node, interface: str, request: str) -> str:
    """The answer of a configuration socket."""
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(5)
        line.connect(f"/proc/{node.pid}/root/run/wireguard/{interface}.sock")
        line.sendall(request.encode())
        answer = b""
        while b"errno=" not in answer or not answer.endswith(b"\n\n"):
            if not (chunk := line.recv(65536)):
                break
            answer += chunk
    return answer.decode()


def introduce(client: Peer, server: Peer, *, preshared_key: str = "", keepalive: int = 0) -> None:
    """The usual pair: the client has the server's endpoint, the server waits for the client."""
    client.knows(server, preshared_key=preshared_key, keepalive=keepalive)
    server.knows(client, endpoint=False, preshared_key=preshared_key)
