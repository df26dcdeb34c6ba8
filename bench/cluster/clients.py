"""Clients of two gateways at once: unmodified wireguard-go processes outside, each a peer of both.

What a client's data shows is seen by probes. A quiet client shows nothing but its handshakes, which a thread
notes; at the end it is asked from inside its network, whether or not one was seen.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from tests.lab.implementations import wireguard_go_modern
from tests.lab.namespaces import wait_until
from tests.lab.probes import Log, Probes

from bench.clients import Client
from bench.commands import QUIET_LOG, ip_batch, setconf
from bench.results import Kind

from .results import GATEWAYS, Exposure

KEEPALIVE: Final = 25
_LOOK: Final = 0.25
_AGAIN: Final = 0.2
"""Between two questions to somebody who does not answer."""
_SUBNETS: Final = dict(zip(GATEWAYS, ("10.9.0", "10.8.0"), strict=True))


def address(gateway: str, number: int) -> str:
    """Inside a gateway's network, which has number 1."""
    return f"{_SUBNETS[gateway]}.{number}"


@dataclass(frozen=True)
class Entrance:
    """What a client has to know of one gateway, reached in one way."""

    gateway: str
    public_key: str
    endpoint: str
    echo: str
    """The address of an echo server behind it."""

    @property
    def networks(self) -> tuple[str, str]:
        return f"{address(self.gateway, 0)}/24", f"{self.echo}/32"

    def section(self, keepalive: int = 0) -> str:
        lines = ["[Peer]", f"PublicKey = {self.public_key}", f"Endpoint = {self.endpoint}"]
        lines.append(f"AllowedIPs = {', '.join(self.networks)}")
        lines += [f"PersistentKeepalive = {keepalive}"] if keepalive else []
        return "\n".join([*lines, ""])


@dataclass(eq=False)
class Way:
    """One client's tunnel to one gateway."""

    client: Client
    exposure: Exposure
    entrance: Entrance
    source: Way | None = None
    """Who sends to it, or asks for it, through the gateway: a client that sends."""
    log: Log | None = None
    handshakes: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        nat = "behind NAT" if self.client.host.nat else "without NAT"
        return f"{self.client.kind} client {nat}, {self.exposure}, {self.entrance.gateway}"

    def is_of(self, gateway: str, kind: Kind) -> bool:
        return self.entrance.gateway == gateway and self.client.kind is kind

    @property
    def address(self) -> str:
        return address(self.entrance.gateway, self.client.number)

    def probe(self, probes: Probes) -> None:
        """Begin what the client does for the rest of its life."""
        if self.client.kind is Kind.SENDING:
            self.log = probes.ask(self.client.host.node, self.entrance.echo)
        elif self.client.kind is Kind.RECEIVING:
            assert self.source
            nodes = self.source.client.host.node, self.client.host.node
            # A port for each gateway: both flows end on one host.
            self.log = probes.stream(*nodes, self.address, port=9 + GATEWAYS.index(self.entrance.gateway))

    def note_handshake(self, completed: float) -> None:
        # Two readings of one time differ by what the clocks were read apart.
        if completed and (not self.handshakes or completed > self.handshakes[-1] + 0.01):
            self.handshakes.append(completed)

    def shaken(self, since: float) -> float:
        """When the first handshake since then was; infinite without one."""
        return next((at for at in self.handshakes if at > since), math.inf)

    def join_again(self) -> None:
        """A new session, as if it had just been configured; without any data."""
        before = time.monotonic()
        interface, key = self.client.interface, self.entrance.public_key
        self.client.host.node.run("wg", "set", interface, "peer", key, "remove")
        # A keepalive begins the session at once, and leaves the client nothing more to say.
        self.client.host.node.run(
            "wg", "addconf", interface, "/dev/stdin", input=self.entrance.section(KEEPALIVE)
        )
        what = f"a session: {self}"
        wait_until(lambda: self._has_session(before), 60, what, interval=0.1)
        if self.client.kind is not Kind.KEEPALIVES:
            self.client.host.node.run("wg", "set", interface, "peer", key, "persistent-keepalive", "off")

    def _has_session(self, since: float) -> bool:
        return self.client.last_handshakes().get(self.entrance.public_key, 0) > since

    def asks(self, target: str, seconds: float) -> float:
        """What the first packet of now waits for an answer of the target; infinite without one until then."""
        options = ["-n", "-c1", f"-i{_AGAIN}", f"-w{seconds:.0f}"]
        done = self.client.host.node.attempt("ping", *options, target, timeout=seconds + 20)
        match = re.search(r"icmp_seq=(\d+) .*time=([\d.]+) ms", done.stdout)
        return (int(match[1]) - 1) * _AGAIN + float(match[2]) / 1000 if match else math.inf


def start(client: Client, entrances: Sequence[Entrance]) -> None:
    """The process, its keys, its addresses and routes; its sessions come later (`join_again`)."""
    node, interface = client.host.node, client.interface
    wireguard_go_modern().start(node, interface, QUIET_LOG)
    configuration = f"[Interface]\nPrivateKey = {client.keys.private}\nListenPort = {client.port}\n"
    lines = [f"address add {address(e.gateway, client.number)}/32 dev {interface}" for e in entrances]
    lines.append(f"link set {interface} up mtu 1420")
    lines += [
        f"route add {network} dev {interface} src {address(entrance.gateway, client.number)}"
        for entrance in entrances
        for network in entrance.networks
    ]
    sections = "".join(entrance.section() for entrance in entrances)
    node.run("sh", "-e", input=setconf(interface, configuration + sections) + ip_batch(lines))


class Watch(threading.Thread):
    """Notes the handshakes of all clients; a context manager."""

    def __init__(self, ways: Iterable[Way]) -> None:
        super().__init__(name="watch", daemon=True)
        self._ways: dict[Client, list[Way]] = {}
        for way in ways:
            self._ways.setdefault(way.client, []).append(way)
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_LOOK):
            for client, ways in self._ways.items():
                found = client.last_handshakes()
                for way in ways:
                    way.note_handshake(found.get(way.entrance.public_key, 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
