"""What a resumed session must never do: repeat a nonce, take a packet twice, live longer (RECOVERY, 2)."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import handshakes, settle_pair
from tests.lab.adversary import Injector
from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Host, Network
from tests.lab.restarts import EVENTS, end_tree

SINK = 9999
LIFE = 2.5
"""Of a session, instead of 180 s."""


def test_counters_go_on(serving: Pair) -> None:
    server, client, capture = serving.server, serving.client, serving.on_client_cable
    serving.start()
    client.reaches(server)
    settle_pair(serving)
    settled = time.monotonic()
    server.reaches(client)
    for event in EVENTS.values():
        restarted = event(server)
        client.reaches(server)
        capture.wait(Message.TRANSPORT, source=server.host.ipv4, since=restarted)
        sent = capture.matching(Message.TRANSPORT, source=server.host.ipv4, since=settled)
        before = [datagram.counter for datagram in sent if datagram.time < restarted]
        after = [datagram.counter for datagram in sent if datagram.time > restarted]
        assert min(after) > max(before)
        assert len({datagram.receiver for datagram in sent}) == 1, "one session"


def test_what_was_taken_before_is_not_taken_again(usual: Pair, injector: Injector, mallory: Host) -> None:
    server, client = usual.server, usual.client
    usual.start()
    client.reaches(server)
    settle_pair(usual)
    with (
        server.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        client.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker,
    ):
        sink.settimeout(5)
        sink.bind(("", SINK))
        for event in EVENTS.values():
            speaker.sendto(b"once", (server.ipv4, SINK))
            assert sink.recv(100) == b"once"
            recorded = usual.on_client_cable.matching(Message.TRANSPORT, source=client.host.ipv4)
            restarted = event(server)
            client.reaches(server)
            for datagram in recorded:
                injector.send(datagram.payload, (mallory.ipv4, 1), (server.host.ipv4, server.port))
            assert client.ping(server)
            speaker.sendto(b"afterwards", (server.ipv4, SINK))
            assert sink.recv(100) == b"afterwards"
            assert server.status(client).endpoint == f"{client.host.ipv4}:{client.port}"
            assert not handshakes(usual, restarted)


def test_a_session_ages_while_nobody_serves_it(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """The client would go on with it; its packet is a stray, and a handshake answers it."""
    hurried = handfast.hurried(REJECT_AFTER_TIME=LIFE, REKEY_TIMEOUT=0.5)
    pair = make_pair(network, hurried, wireguard_go, handfast_serves=True)
    server, client, capture = pair.server, pair.client, pair.on_client_cable
    pair.start()
    client.reaches(server)
    began = time.monotonic()
    end_tree(server)
    session = capture.wait(Message.TRANSPORT, source=server.host.ipv4)[-1].receiver
    time.sleep(max(began + LIFE - time.monotonic(), 0))
    server.start()
    server.reaches(client)
    sent = capture.wait(source=server.host.ipv4, since=began + LIFE)
    assert sent[0].type is Message.INITIATION
    assert session not in {d.receiver for d in sent if d.type is Message.TRANSPORT}


def test_who_was_told_to_never_comes_back(usual: Pair) -> None:
    """Another took over for good: it resumes, greets and answers nothing (RECOVERY, 7).

    Nothing commits on one host: the mark is set where an orderly handover sets it.
    """
    from handfast_tunnel.continuity.layout import WORD, Header

    server, client, capture = usual.server, usual.client, usual.on_client_cable
    usual.start()
    client.reaches(server)
    end_tree(server)
    state = Path(f"/proc/{server.node.pid}/root/run/handfast/{server.interface}.state")
    with state.open("r+b") as file:
        file.seek(Header.COMMITTED_TERM * WORD)
        file.write((7).to_bytes(WORD, "little"))
    server.knows(client)
    committed = time.monotonic()
    server.start()
    server.node.start("ping", "-i0.2", client.ipv4)
    assert not client.ping(server, timeout=1), "the session is not resumed"
    client.set("peer", server.keys.public, "remove")
    client.configure()
    assert not client.ping(server, timeout=1), "an initiation is not answered"
    capture.wait(Message.INITIATION, source=client.host.ipv4, since=committed)
    assert not capture.matching(source=server.host.ipv4, since=committed)
