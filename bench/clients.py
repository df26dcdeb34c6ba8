"""Real clients: unmodified wireguard-go processes, each with a tunnel to every server under test.

A client meets the servers side by side: one process with its keys, port and NAT, and a peer for each.
"""

from __future__ import annotations

import base64
import contextlib
import math
import socket
import time
from dataclasses import dataclass, field
from typing import Final

from tests.lab.implementations import Implementation
from tests.lab.namespaces import Process
from tests.lab.network import Host
from tests.lab.peer import PORT, KeyPair

from .commands import listens, numbered, peer_section, uapi_socket
from .probes import IN_FLIGHT, Flow, silence
from .results import TITLES, Case, Kind, Outage

CLIENT_SUBNET: Final = 8
KEEPALIVE: Final = 25


@dataclass(eq=False)
class Client:
    """One process: interface `wg<number>` on its host."""

    kind: Kind
    host: Host
    number: int
    endpoint: bool
    """The servers know its endpoint after their restart."""
    keys: KeyPair = field(default_factory=KeyPair.generate)

    @property
    def interface(self) -> str:
        return f"wg{self.number}"

    @property
    def port(self) -> int:
        return PORT + self.number

    @property
    def address(self) -> str:
        return numbered(CLIENT_SUBNET, self.number)

    def listens(self) -> bool:
        return listens(self.host.node, self.interface)

    def last_handshakes(self) -> dict[str, float]:
        """By server key, when the last handshake completed: CLOCK_MONOTONIC, to the millisecond.

        For the initiator that is when the response came, for the responder when the first transport
        packet on the new keys came: the first authenticated packet of a session in both cases.
        """
        to_monotonic = time.monotonic() - time.time()
        found: dict[str, float] = {}
        key = ""
        for line in self._status().split():
            name, _, value = line.partition("=")
            if name == "public_key":
                key = base64.b64encode(bytes.fromhex(value)).decode()
            elif name == "last_handshake_time_sec":
                found[key] = int(value)
            elif name == "last_handshake_time_nsec":
                found[key] = round(found[key] + int(value) / 1e9 + to_monotonic, 3) if found[key] else 0
        return found

    def _status(self) -> str:
        """What the configuration socket tells; nothing when a busy machine is slow to answer."""
        answer = b""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as uapi:
            uapi.settimeout(1)
            uapi.connect(str(uapi_socket(self.host.node, self.interface)))
            uapi.sendall(b"get=1\n\n")
            while not answer.endswith(b"\n\n") and (received := uapi.recv(4096)):
                answer += received
        return answer.decode()


@dataclass(eq=False)
class Server:
    """An implementation under test on a host of its own."""

    implementation: Implementation
    host: Host
    first_lost: bool
    """The first initiation between each client and this server is lost after the restart."""
    keys: KeyPair = field(default_factory=KeyPair.generate)
    process: Process | None = None
    echo: socket.socket | None = None
    killed: float = math.inf

    @property
    def title(self) -> str:
        return TITLES[self.implementation.name]

    @property
    def keeps_sessions(self) -> bool:
        return self.implementation.name == "handfast"

    @property
    def subnet(self) -> int:
        """Each client knows the server by another address of 10.<subnet>.0.0/16: no two share a route."""
        return 16 + self.host.number

    def serves(self, client: Client) -> bool:
        """A lost first initiation makes no difference to clients whose endpoint is not known."""
        return client.endpoint or not self.first_lost

    def __str__(self) -> str:
        return self.title + (", first initiation lost" if self.first_lost else "")


@dataclass(eq=False)
class Tunnel:
    """One client's tunnel to one server, and what shows that it works."""

    client: Client
    server: Server
    flow: Flow | None = None
    """Its probe; a quiet client has none and is asked for its handshakes."""
    handshakes: list[float] = field(default_factory=list)
    asked: Flow | None = None
    """A quiet client's packets after a restart that kept its session: there is no handshake to wait for."""

    @property
    def case(self) -> Case:
        return Case(self.server.first_lost, self.client.endpoint, self.client.kind, self.client.host.nat)

    @property
    def server_address(self) -> str:
        return numbered(self.server.subnet, self.client.number)

    def client_section(self) -> str:
        """The server, in the client's configuration.

        A keepalive starts the session of every client without data, which would leave an idle one a
        passive keepalive to send.
        """
        endpoint = f"{self.server.host.ipv4}:{PORT}"
        return peer_section(self.server.keys.public, self.server_address, endpoint, KEEPALIVE)

    def note_handshake(self, completed: float) -> None:
        # Two readings of one time differ by what the clocks were read apart.
        if completed and (not self.handshakes or completed > self.handshakes[-1] + 0.01):
            self.handshakes.append(completed)

    @property
    def works(self) -> bool:
        return bool(self.flow.arrivals if self.flow else self.handshakes)

    @property
    def back(self) -> bool:
        """Something passed since the kill."""
        if self.asked:
            return bool(self.asked.arrivals)
        if self.flow:
            return self.flow.arrivals[-1] > self.server.killed + IN_FLIGHT
        return self.handshakes[-1] > self.server.killed

    def outage(self, limit: float) -> Outage:
        killed = self.server.killed
        if self.flow:
            return Outage(self.server.title, self.case, *silence(self.flow.arrivals, killed, limit))
        if self.server.keeps_sessions:
            return Outage(self.server.title, self.case, self._waited())
        back = (at - killed for at in self.handshakes if killed < at <= killed + limit)
        return Outage(self.server.title, self.case, next(back, math.inf))

    def _waited(self) -> float:
        """How long the quiet client's first packet after the restart waited for an answer."""
        return self.asked.arrivals[0] - self.asked.began if self.asked and self.asked.arrivals else math.inf
