"""What the tests share: a network each, and one Handfast peer with one of the others opposite."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.lab.adversary import Injector
from tests.lab.filters import Filters
from tests.lab.implementations import OTHERS, Implementation, implementation
from tests.lab.network import Host, Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Probes
from tests.lab.wire import Capture

STRANGER = "10.88.0.77"
"""No peer's address."""


@pytest.fixture
def network(failed: Callable[[], bool]) -> Iterator[Network]:
    with Network() as network:
        yield network
        if failed():
            print(network.report())


@pytest.fixture
def filters(network: Network) -> Filters:
    return network.filters


@pytest.fixture
def injector(network: Network) -> Injector:
    return network.injector()


@pytest.fixture
def mallory(network: Network) -> Host:
    """Someone who sees what passes, and sends from an address of his own."""
    return network.add("mallory")[0]


@pytest.fixture
def probes() -> Iterator[Probes]:
    with Probes() as probes:
        yield probes


@pytest.fixture
def without_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing outlives Handfast's processes: what is left after a restart is the greeting."""
    monkeypatch.setenv("HANDFAST_STATE_DIR", "none")


@pytest.fixture(params=OTHERS)
def other(request: pytest.FixtureRequest) -> Implementation:
    """Each of the implementations that Handfast has to get on with."""
    return implementation(request.param)


@pytest.fixture
def wireguard_go() -> Implementation:
    """Debian's wireguard-go, where one unmodified implementation is enough."""
    return implementation("wireguard-go")


@pytest.fixture
def handfast() -> Implementation:
    return implementation("handfast")


@dataclass(frozen=True)
class Pair:
    """A client that knows where the server is, and a server that may know where the client is."""

    server: Peer
    client: Peer
    ours: Peer
    theirs: Peer
    on_client_cable: Capture
    on_server_cable: Capture

    def start(self) -> None:
        self.server.start()
        self.client.start()


@pytest.fixture(params=["handfast-serves", "handfast-calls"])
def pair(
    request: pytest.FixtureRequest, network: Network, handfast: Implementation, other: Implementation
) -> Pair:
    """Handfast and each other implementation, in both roles; introduced, not started."""
    return make_pair(network, handfast, other, handfast_serves=request.param == "handfast-serves")


@pytest.fixture
def serving(network: Network, handfast: Implementation, other: Implementation) -> Pair:
    """Handfast as the server of each other implementation."""
    return make_pair(network, handfast, other, handfast_serves=True)


@pytest.fixture
def usual(network: Network, handfast: Implementation, wireguard_go: Implementation) -> Pair:
    """Handfast as the server of Debian's wireguard-go, for what does not depend on who the other is."""
    return make_pair(network, handfast, wireguard_go, handfast_serves=True)


def make_pair(
    network: Network,
    handfast: Implementation,
    other: Implementation,
    *,
    handfast_serves: bool,
    names: str = "",
) -> Pair:
    """Several in one network have names that end differently."""
    server_host, client_host = network.add(f"server{names}", f"client{names}")
    server = Peer(server_host, handfast if handfast_serves else other)
    client = Peer(client_host, other if handfast_serves else handfast)
    introduce(client, server)
    ours, theirs = (server, client) if handfast_serves else (client, server)
    return Pair(server, client, ours, theirs, network.capture(client_host), network.capture(server_host))


@contextmanager
def stranger_beside(ours: Peer, theirs: Peer) -> Iterator[tuple[socket.socket, socket.socket, socket.socket]]:
    """A socket of ours, and two of theirs that send to it: from their own address, and from another's."""
    theirs.node.run("ip", "address", "add", f"{STRANGER}/32", "dev", "wg0")
    with (
        ours.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        theirs.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as friend,
        theirs.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
    ):
        sink.bind((ours.ipv4, 9999))
        sink.settimeout(5)
        stranger.bind((STRANGER, 0))
        yield sink, friend, stranger
