"""Timers go on where a killed worker stopped: a NAT stays open, a dead peer is noticed (RECOVERY, 2)."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.restarts import kill_worker

KILLS = 9
PAUSE = 2.0


def test_whatever_was_due_is_due(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """Three clients at once, since a dead one takes its 15 s. The worker dies every 2 s."""
    server_host, *hosts = network.add("server", "kept", "dead", "keeping")
    server = Peer(server_host, handfast.with_options("--restart-limit=100/60"))
    kept, dead, keeping = clients = [Peer(host, wireguard_go) for host in hosts]
    captures = {client: network.capture(client.host) for client in clients}
    for client in clients:
        introduce(client, server, keepalive=1 if client is keeping else 0)
        client.start()
    server.start()
    for client in clients:
        client.reaches(server)
    server.set("peer", kept.keys.public, "persistent-keepalive", "3")
    time.sleep(11)

    network.filters.drop(source=dead.host.name)
    began = time.monotonic()
    server.ping(dead, timeout=0.1)
    for _ in range(KILLS):
        kill_worker(server)
        time.sleep(PAUSE)

    def sent(client: Peer, message: Message) -> list[float]:
        ours = captures[client].matching(message, source=server_host.ipv4, since=began)
        return [datagram.time - began for datagram in ours]

    pauses = [later - earlier for earlier, later in pairwise(sent(kept, Message.TRANSPORT))]
    assert pauses == pytest.approx([3.0] * len(pauses), abs=0.5)
    assert len(pauses) >= 4
    # Data without an answer: a new handshake after KEEPALIVE_TIMEOUT + REKEY_TIMEOUT.
    assert sent(dead, Message.INITIATION)[0] == pytest.approx(15.2, abs=0.7)
    assert not sent(keeping, Message.TRANSPORT), "keepalives want no answer"
