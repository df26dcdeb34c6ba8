"""While one asks for all that the server can do, others shake hands, get through, and people get answers.

The host sends to one client more than the tunnel can seal, so that the TUN device's queue overflows all the
time; what that costs the others must not depend on how much more it is.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.lab.implementations import NATIVE_IS_BUILT, Implementation, implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Probes

METRICS = "127.0.0.1:9586"
FETCH = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
FLOOD = """
import socket, sys
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
packet = bytes(1000)
while True:
    try:
        line.sendto(packet, (sys.argv[1], 9))
    except OSError:
        pass
"""
RATE = 100.0
PLANES = ["handfast", "handfast-native"] if NATIVE_IS_BUILT else ["handfast"]


@pytest.fixture(params=PLANES)
def server(request: pytest.FixtureRequest, network: Network) -> Peer:
    program = implementation(request.param).with_options(f"--metrics={METRICS}")
    return Peer(network.add("server")[0], program)


def clients_of(network: Network, server: Peer, program: Implementation) -> tuple[Peer, Peer]:
    greedy, modest = (Peer(host, program) for host in network.add("greedy", "modest"))
    for client in (greedy, modest):
        introduce(client, server)
    server.start()
    greedy.start()
    greedy.reaches(server)
    return greedy, modest


@contextmanager
def flooded(server: Peer, greedy: Peer) -> Iterator[Callable[[], int]]:
    """Yields how many packets the host's queue for the tunnel has lost so far."""

    def lost() -> int:
        [link] = json.loads(server.node.run("ip", "-json", "-statistics", "link", "show", server.interface))
        return int(link["stats64"]["tx"]["dropped"])

    flood = server.node.start(sys.executable, "-c", FLOOD, greedy.ipv4, log="flood")
    try:
        wait_until(lambda: lost() > 1000, 20, "more than the tunnel can do")
        yield lost
    finally:
        flood.kill()


def test_others_shake_hands_and_get_through(
    network: Network, server: Peer, wireguard_go: Implementation, probes: Probes
) -> None:
    greedy, modest = clients_of(network, server, wireguard_go)
    with flooded(server, greedy) as lost:
        before = lost()
        modest.start()
        log = probes.stream(modest.node, server.node, server.ipv4, rate=RATE)
        wait_until(lambda: log.arrived, 10, "the first packet of a new session")
        modest.wait_for_handshake(server)
        since = time.monotonic()
        wait_until(lambda: len(log.arrived) > 3 * RATE, 60, "packets of a modest client")
        until = time.monotonic() - 1
        assert lost() > before, "there was more than the tunnel could do until now"
    assert len(log.unanswered(since, until)) <= (until - since) * RATE / 10


def test_people_are_answered_and_losses_are_counted(
    network: Network, server: Peer, wireguard_go: Implementation
) -> None:
    greedy, modest = clients_of(network, server, wireguard_go)
    with flooded(server, greedy) as lost:
        server.set("peer", modest.keys.public, "persistent-keepalive", "7")
        assert server.status(modest).keepalive == "7"
        status = json.loads(server.command("status", server.interface, "--json"))
        assert len(status["peers"]) == 2
        assert "handfast_incarnation" in _metrics(server)
    counted = lost()
    wait_until(lambda: f'reason="tun_queue"}} {counted}.0' in _metrics(server), 10, "the losses to be told")


def _metrics(server: Peer) -> str:
    return server.node.run(sys.executable, "-c", FETCH, f"http://{METRICS}/metrics")
