"""What no unmodified program sends: a dishonest initiator, made by hand, beside a client that goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.interop.conftest import Pair
from tests.lab.handmade import Initiator, Session, inner_packet

DISHONEST = "10.88.9.1"
SINK = 9999
REJECT_AFTER_MESSAGES = 2**64 - 2**13 - 1


@pytest.fixture
def initiator(usual: Pair) -> Initiator:
    """A peer of a server that also has a client, which is connected."""
    usual.start()
    usual.client.reaches(usual.server)
    initiator = Initiator(usual.server.keys.public)
    usual.server.set("peer", initiator.keys.public, "allowed-ips", f"{DISHONEST}/32")
    return initiator


@pytest.fixture
def line(usual: Pair) -> Iterator[socket.socket]:
    with usual.client.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.settimeout(2)
        line.connect((usual.server.host.ipv4, usual.server.port))
        yield line


@pytest.fixture
def sink(usual: Pair) -> Iterator[socket.socket]:
    """Where inner packets arrive."""
    with usual.server.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((usual.server.ipv4, SINK))
        sink.settimeout(2)
        yield sink


def packet(pair: Pair, payload: bytes, length: int | None = None) -> bytes:
    return inner_packet(payload, DISHONEST, pair.server.ipv4, SINK, length=length)


def test_a_key_without_a_secret_is_refused(usual: Pair, initiator: Initiator, line: socket.socket) -> None:
    """All-zero results of X25519 (RECOVERY, 8): else whoever knows public keys only would be answered."""
    line.send(initiator.initiation(low_order=True))
    line.settimeout(0.5)
    with pytest.raises(TimeoutError):
        line.recv(2048)
    line.settimeout(2)
    line.send(initiator.initiation())
    initiator.session(line.recv(2048))  # an honest one is answered
    assert usual.client.ping(usual.server)


@pytest.fixture
def session(initiator: Initiator, line: socket.socket) -> Session:
    return initiator.meet(line)


def test_a_counter_past_the_limit_is_refused(
    usual: Pair, session: Session, line: socket.socket, sink: socket.socket
) -> None:
    """Though it authenticates (RECOVERY, 8); and it does not move the window."""
    for counter in (REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES + 1):
        line.send(session.seal(packet(usual, b"past the limit"), counter))
    line.send(session.seal(packet(usual, b"in time")))
    assert sink.recv(100) == b"in time"
    assert usual.client.ping(usual.server)


@pytest.mark.parametrize("length", [0, 19, 1000], ids=["nothing", "less-than-a-header", "more-than-came"])
def test_a_length_that_is_a_lie_is_refused(
    usual: Pair, session: Session, line: socket.socket, length: int
) -> None:
    """Trimmed before the source is looked at (RECOVERY, 8): what is cut off has no source."""
    with usual.server.node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800)) as tap:
        tap.bind((usual.server.interface, 0x0800))
        tap.settimeout(2)
        line.send(session.seal(packet(usual, b"a lie", length)))
        line.send(session.seal(packet(usual, b"the truth")))
        assert tap.recv(2048).endswith(b"the truth"), "nothing before it reached the interface"
    assert usual.client.ping(usual.server)
