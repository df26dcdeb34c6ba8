"""A server that is always under load, or never: who gets a cookie, and for what (RECOVERY, 4 and 8).

Under load from the first initiation on, so that no flood makes these tests depend on the machine. An
initiator made by hand does at once what unmodified clients do 5 s later: it comes back with its cookie.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

from tests.interop.conftest import Pair, make_pair
from tests.lab.filters import Message
from tests.lab.handmade import Initiator, cookie_of
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT, Peer
from tests.lab.probes import Probes

RESPONSE, COOKIE_REPLY = 2, 3
ALWAYS = {"HANDSHAKE_BACKLOG_LIMIT": -1.0}
SECRET_TIME = 1.5
"""Instead of 120 s."""


def loaded(network: Network, handfast: Implementation, other: Implementation, **constants: object) -> Pair:
    pair = make_pair(network, handfast.hurried(**ALWAYS, **constants), other, handfast_serves=True)
    pair.server.start()
    wait_until(lambda: ": up on port" in pair.server.running.output(), 10, "the server to listen")
    return pair


def crowd(server: Peer, count: int) -> list[Initiator]:
    """So many peers in the server's configuration."""
    initiators = [Initiator(server.keys.public) for _ in range(count)]
    sections = [f"[Peer]\nPublicKey = {initiator.keys.public}\n" for initiator in initiators]
    server.wg("addconf", server.interface, "/dev/stdin", input="\n".join(sections))
    return initiators


@contextmanager
def line(server: Peer, host: Host) -> Iterator[socket.socket]:
    with host.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(5)
        opened.connect((server.host.ipv4, server.port))
        yield opened


def cookie_for(opened: socket.socket, initiator: Initiator, server: Peer) -> bytes:
    """The cookie of this address and port."""
    initiation = initiator.initiation()
    opened.send(initiation)
    reply = opened.recv(2048)
    assert reply[0] == COOKIE_REPLY
    return cookie_of(reply, initiation, server.keys.public)


def answers(opened: socket.socket) -> list[int]:
    """The types of what comes back, until nothing more does."""
    opened.settimeout(0.5)
    types = []
    try:
        while True:
            types.append(opened.recv(2048)[0])
    except TimeoutError:
        return types


def test_no_cookie_before_mac1_verifies(
    network: Network, handfast: Implementation, other: Implementation, mallory: Host
) -> None:
    pair = loaded(network, handfast, other)
    initiation = Initiator(pair.server.keys.public).initiation()
    with line(pair.server, mallory) as opened:
        opened.send(initiation[:116] + bytes([initiation[116] ^ 1]) + initiation[117:])
        opened.send(initiation)
        assert answers(opened) == [COOKIE_REPLY], "for the second one"
    pair.client.start()
    pair.client.reaches(pair.server)  # with its cookie


def test_the_secret_rotates(
    network: Network, handfast: Implementation, wireguard_go: Implementation, mallory: Host
) -> None:
    server = loaded(network, handfast, wireguard_go, COOKIE_SECRET_TIME=SECRET_TIME).server
    (initiator,) = crowd(server, 1)
    with line(server, mallory) as opened:
        began = time.monotonic()
        cookie = cookie_for(opened, initiator, server)
        opened.send(initiator.initiation(cookie=cookie))
        assert opened.recv(2048)[0] == RESPONSE
        time.sleep(max(began + SECRET_TIME + 0.1 - time.monotonic(), 0))
        later = initiator.initiation(cookie=cookie)
        opened.send(later)
        reply = opened.recv(2048)
        assert reply[0] == COOKIE_REPLY, "it had its time"
        opened.send(initiator.initiation(cookie=cookie_of(reply, later, server.keys.public)))
        assert opened.recv(2048)[0] == RESPONSE


def test_a_cookie_buys_its_address_and_port_a_few(
    network: Network, handfast: Implementation, wireguard_go: Implementation, mallory: Host
) -> None:
    server = loaded(network, handfast, wireguard_go).server
    *greedy, modest = crowd(server, 61)
    with line(server, mallory) as busy, line(server, mallory) as calm:
        cookie = cookie_for(busy, greedy[0], server)
        for initiator in greedy:
            busy.send(initiator.initiation(cookie=cookie))
        calm.send(modest.initiation(cookie=cookie_for(calm, modest, server)))
        assert answers(calm) == [RESPONSE], "behind a Service all share one address"
        served = answers(busy)
    assert set(served) == {RESPONSE}
    assert 5 <= len(served) < len(greedy) / 2


def test_all_cookies_together_buy_no_more_than_a_core_can_do(
    network: Network, handfast: Implementation, wireguard_go: Implementation, mallory: Host
) -> None:
    few = {"LOADED_HANDSHAKES_AT_ONCE": 5.0, "LOADED_HANDSHAKES_PER_SECOND": 1.0}
    server = loaded(network, handfast, wireguard_go, **few).server
    initiators = crowd(server, 15)
    with ExitStack() as stack:
        lines = [stack.enter_context(line(server, mallory)) for _ in initiators]
        cookies = [cookie_for(*pair, server) for pair in zip(lines, initiators, strict=True)]
        for opened, initiator, cookie in zip(lines, initiators, cookies, strict=True):
            opened.send(initiator.initiation(cookie=cookie))
        time.sleep(0.5)
        for opened in lines:
            opened.setblocking(False)
        served = [opened for opened in lines if arrived(opened)]
    assert 5 <= len(served) < len(lines)


def arrived(opened: socket.socket) -> bool:
    try:
        return opened.recv(2048)[0] == RESPONSE
    except BlockingIOError:
        return False


def test_a_queue_of_handshakes_holds_no_packets_up(
    network: Network, handfast: Implementation, wireguard_go: Implementation, mallory: Host, probes: Probes
) -> None:
    """Never under load, so that no cookie keeps the queue short: only their share of each turn is left."""
    never = {"HANDSHAKE_BACKLOG_LIMIT": 1e9, "INITIATION_MIN_INTERVAL": 0.0}
    pair = make_pair(network, handfast.hurried(**never), wireguard_go, handfast_serves=True)
    pair.start()
    probes.answer(pair.server.node)
    log = probes.ask(pair.client.node, pair.server.ipv4, rate=100)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    initiators = crowd(pair.server, 100)
    initiations = [initiator.initiation() for _ in range(30) for initiator in initiators]
    capture = network.capture(mallory)
    with mallory.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((pair.server.host.ipv4, PORT))
        for initiation in initiations:
            line.send(initiation)
    sent = time.monotonic()

    def last_answer() -> float:
        return capture.wait(Message.RESPONSE)[-1].time

    wait_until(lambda: time.monotonic() > last_answer() + 1, 60, "the queue to be worked off", 0.1)
    asked = [at - taken - sent for at, taken in zip(log.arrived, log.latency, strict=True)]
    during = [taken for since, taken in zip(asked, log.latency, strict=True) if 0 < since < 0.2]
    assert median(during) < (last_answer() - sent) / 3, "and longer if the queue is worked off first"
