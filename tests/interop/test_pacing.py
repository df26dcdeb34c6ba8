"""In which order and how fast a server greets many peers (RECOVERY, 4)."""

from __future__ import annotations

import time

import pytest

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Host, Network
from tests.lab.peer import KeyPair, Peer, introduce
from tests.lab.restarts import end_tree, take_down
from tests.lab.wire import Capture, Datagram, session_completed

PEERS = 24
PER_SECOND = 40.0
AT_ONCE = PER_SECOND / 10
FIRST_SILENT_PORT = 20_001


@pytest.fixture
def hosts(network: Network) -> tuple[Host, Host]:
    server, client = network.add("server", "client")
    return server, client


def greetings(capture: Capture, server: Host, since: float = 0.0) -> list[Datagram]:
    return capture.matching(Message.INITIATION, source=server.ipv4, since=since)


def test_everyone_is_greeted_before_anyone_is_greeted_again(
    network: Network, hosts: tuple[Host, Host], handfast: Implementation, other: Implementation
) -> None:
    """All but the last in the configuration are silent: they are due again before it had its turn."""
    server = Peer(hosts[0], handfast.hurried(BURST_PER_SECOND=PER_SECOND))
    client = Peer(hosts[1], other)
    client.knows(server, endpoint=False)
    silent = "\n".join(
        f"[Peer]\nPublicKey = {KeyPair.generate().public}\nEndpoint = {client.host.ipv4}:{port}\n"
        for port in range(FIRST_SILENT_PORT, FIRST_SILENT_PORT + PEERS - 1)
    )
    capture = network.capture(server.host)
    client.start()
    server.start()
    server.knows(client)
    known = server.known[client.keys.public].section()
    server.wg("addconf", server.interface, "/dev/stdin", input=f"{silent}\n{known}\n")
    capture.wait(Message.INITIATION, source=server.host.ipv4, count=2 * PEERS)
    first = greetings(capture, server.host)[:PEERS]
    assert len({datagram.destination_port for datagram in first}) == PEERS
    assert first[-1].time - first[0].time > 0.8 * (PEERS - AT_ONCE) / PER_SECOND, "paced"
    assert session_completed(capture)


def test_who_was_active_last_is_greeted_first(
    network: Network, hosts: tuple[Host, Host], handfast: Implementation, wireguard_go: Implementation
) -> None:
    server = Peer(hosts[0], handfast)
    clients = [
        Peer(hosts[1], wireguard_go, interface=f"wg{number}", port=51820 + number, subnet=90 + number)
        for number in range(3)
    ]
    for client in clients:
        introduce(client, server)
    server.start()
    for client in clients:
        client.start()
        server.node.run("ip", "route", "add", client.ipv4, "dev", server.interface)
        client.node.run("ip", "route", "add", server.ipv4, "dev", client.interface, "table", str(client.port))
        client.node.run("ip", "rule", "add", "from", client.ipv4, "table", str(client.port))
    active = [clients[1], clients[0], clients[2]]
    for client in active:
        client.node.run("ping", "-c1", "-W5", "-I", client.ipv4, server.ipv4)
    capture = network.capture(server.host)
    take_down(server)
    end_tree(server)
    restarted = time.monotonic()
    server.start()
    capture.wait(Message.INITIATION, source=server.host.ipv4, since=restarted, count=3)
    greeted = greetings(capture, server.host, restarted)[:3]
    assert [d.destination_port for d in greeted] == [client.port for client in reversed(active)]
