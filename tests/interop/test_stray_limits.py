"""How rarely, how late and to how little strays are answered (RECOVERY, 6).

One unmodified client is one peer. So these strays are of a crowd of initiators made by hand, whose sessions
are real, and come from addresses far away.
"""

from __future__ import annotations

import socket
import time

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.lab.adversary import Injector
from tests.lab.filters import Message
from tests.lab.handmade import Initiator, Session
from tests.lab.implementations import Implementation
from tests.lab.network import Host, Network
from tests.lab.peer import Peer
from tests.lab.restarts import lose_keys
from tests.lab.wire import Datagram

PER_NETWORK = 5
OVERALL = 50
"""A second, and at once."""
LIFE = 2.5
"""Of a session, instead of 180 s."""


@pytest.fixture
def quiet(usual: Pair) -> Pair:
    """A client with a session, and a server that answers but never greets."""
    usual.server.environment["HANDFAST_ANNOUNCE"] = "never"
    usual.start()
    usual.client.reaches(usual.server)
    return usual


def strays(server: Peer, mallory: Host, count: int) -> list[bytes]:
    """A packet for each of so many sessions whose keys the server has lost, all of different peers."""
    crowd = [Initiator(server.keys.public) for _ in range(count)]
    sections = [f"[Peer]\nPublicKey = {initiator.keys.public}\n" for initiator in crowd]
    server.wg("addconf", server.interface, "/dev/stdin", input="\n".join(sections))
    with mallory.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(5)
        line.connect((server.host.ipv4, server.port))
        sessions: list[Session] = [initiator.meet(line) for initiator in crowd]
    lose_keys(server)
    return [session.seal(b"") for session in sessions]


def answers(pair: Pair, prefix: str = "") -> list[Datagram]:
    """To addresses that begin so."""
    sent = pair.on_server_cable.matching(Message.INITIATION, source=pair.server.host.ipv4)
    return [datagram for datagram in sent if datagram.destination.startswith(prefix)]


def test_the_addresses_of_a_network_share_a_budget(quiet: Pair, injector: Injector, mallory: Host) -> None:
    server = quiet.server
    target = server.host.ipv4, server.port
    *from_one, from_another = strays(server, mallory, 15)
    for number, stray in enumerate(from_one):
        injector.send(stray, (f"10.99.1.{number}", 4000 + number), target)
    injector.send(from_another, ("10.99.2.1", 4000), target)
    quiet.on_server_cable.wait(Message.INITIATION, destination="10.99.2.1")
    assert PER_NETWORK <= len(answers(quiet, "10.99.1.")) < len(from_one)
    quiet.client.reaches(server, timeout=8)


def test_there_is_an_overall_budget(quiet: Pair, injector: Injector, mallory: Host) -> None:
    server = quiet.server
    sent = strays(server, mallory, 3 * OVERALL)
    for number, stray in enumerate(sent):
        injector.send(stray, (f"10.99.{number}.1", 4000), (server.host.ipv4, server.port))
    quiet.on_server_cable.wait(Message.INITIATION, count=OVERALL)
    quiet.client.reaches(server, timeout=8)
    assert len(answers(quiet, "10.99.")) < len(sent)


def test_less_than_a_packet_is_not_answered(quiet: Pair, injector: Injector) -> None:
    """Not even where it comes from the client's own address."""
    last = quiet.on_client_cable.matching(Message.TRANSPORT, source=quiet.client.host.ipv4)[-1]
    lose_keys(quiet.server)
    stray = last.payload[:8] + (last.counter + 1000).to_bytes(8, "little") + bytes(16)
    for size in (16, 31):
        injector.resend(last, stray[:size])
    time.sleep(0.3)
    assert not answers(quiet)
    injector.resend(last, stray)
    quiet.on_server_cable.wait(Message.INITIATION, source=quiet.server.host.ipv4)


def test_an_expired_session_is_not_answered(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    pair = make_pair(network, handfast.hurried(REJECT_AFTER_TIME=LIFE), wireguard_go, handfast_serves=True)
    server, client = pair.server, pair.client
    server.environment["HANDFAST_ANNOUNCE"] = "never"
    pair.start()
    client.reaches(server)
    began = time.monotonic()
    lose_keys(server)
    time.sleep(max(began + LIFE - time.monotonic(), 0))
    asked = time.monotonic()
    assert not client.ping(server, timeout=0.5)
    pair.on_server_cable.wait(Message.TRANSPORT, source=client.host.ipv4, since=asked)
    assert not pair.on_server_cable.matching(source=server.host.ipv4, since=asked)
