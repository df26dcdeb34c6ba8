"""The order of the checks on a packet: age, authentication, window, endpoint, inner packet (RECOVERY, 8)."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.lab.adversary import Injector
from tests.lab.filters import Filters, Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT
from tests.lab.wire import Datagram

SINK = 9999
ETH_P_IP = 0x0800
LIFE = 2.5
"""Of a session, instead of 180 s."""


def say(pair: Pair, words: bytes) -> None:
    with pair.client.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.sendto(words, (pair.server.ipv4, SINK))


def listen(pair: Pair) -> socket.socket:
    sink = pair.server.node.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sink.bind((pair.server.ipv4, SINK))
    sink.settimeout(5)
    return sink


@pytest.fixture
def sink(serving: Pair) -> Iterator[socket.socket]:
    """Where the server hears what its client says; they have a session."""
    serving.start()
    serving.client.reaches(serving.server)
    with listen(serving) as sink:
        yield sink


def last_from_client(pair: Pair) -> Datagram:
    return pair.on_client_cable.wait(Message.TRANSPORT, source=pair.client.host.ipv4)[-1]


def forged(datagram: Datagram, ahead: int) -> bytes:
    """A packet for the same session with a counter not seen before, and nothing true in it."""
    return datagram.payload[:8] + (datagram.counter + ahead).to_bytes(8, "little") + os.urandom(48)


def test_an_old_session_opens_nothing(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """The client still holds it: its own clock says that there are minutes left."""
    hurried = handfast.hurried(REJECT_AFTER_TIME=LIFE, REKEY_TIMEOUT=0.5)
    pair = make_pair(network, hurried, wireguard_go, handfast_serves=True)
    pair.start()
    pair.client.reaches(pair.server)
    began = time.monotonic()
    with listen(pair) as sink:
        say(pair, b"young")
        assert sink.recv(100) == b"young"
        time.sleep(began + LIFE - time.monotonic())
        say(pair, b"old")
        session = last_from_client(pair).receiver
        assert pair.server.ping(pair.client), "by a handshake"
        say(pair, b"young again")
        assert sink.recv(100) == b"young again"
    wait_until(lambda: last_from_client(pair).receiver != session, 5, "a packet of another session")


def test_a_forgery_does_not_move_the_window(serving: Pair, injector: Injector, sink: socket.socket) -> None:
    true = last_from_client(serving)
    injector.resend(true, forged(true, 100_000))
    say(serving, b"true")
    assert sink.recv(100) == b"true"
    assert serving.client.ping(serving.server)


def test_the_endpoint_is_that_of_the_last_valid_packet(
    serving: Pair, filters: Filters, injector: Injector, mallory: Host, sink: socket.socket
) -> None:
    """Of a batch: the valid one is held back, and then comes from elsewhere between two forged ones."""
    ours, theirs = serving.server, serving.client
    held = filters.drop(Message.TRANSPORT, source="client")
    began = time.monotonic()
    say(serving, b"roams")
    target = ours.host.ipv4, PORT
    capture = serving.on_client_cable
    true = capture.wait(Message.TRANSPORT, source=theirs.host.ipv4, since=began)[-1]
    held.remove()
    injector.send(forged(true, 1), (mallory.ipv4, 1), target)
    injector.send(true.payload, (theirs.host.ipv4, 2), target)
    injector.send(forged(true, 2), (mallory.ipv4, 3), target)
    assert sink.recv(100) == b"roams"
    assert ours.status(theirs).endpoint == f"{theirs.host.ipv4}:2"
    assert theirs.ping(ours)


def test_padding_does_not_reach_the_interface(serving: Pair, sink: socket.socket) -> None:
    """Clients pad to 16 bytes; what goes in behind the tunnel is as long as it says."""
    with serving.server.node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as tap:
        tap.bind((serving.server.interface, ETH_P_IP))
        tap.settimeout(5)
        for size in (1, 4, 17):
            say(serving, bytes(size))
            assert len(sink.recv(100)) == size
            packet = tap.recv(2048)
            assert len(packet) == int.from_bytes(packet[2:4], "big") == 28 + size
