"""Timers go on where a killed worker stopped: a NAT stays open, a dead peer is noticed (RECOVERY, 2)."""

from __future__ import annotations

import time

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.restarts import kill_worker
from tests.lab.wire import Datagram, lateness

PAUSE = 1.5
HURRY = {"KEEPALIVE_TIMEOUT": 4.0, "REKEY_TIMEOUT": 2.0}
SILENCE = 6.0
"""Data without an answer: a new handshake after KEEPALIVE_TIMEOUT + REKEY_TIMEOUT, which are 10 and 5 s."""
INTERVAL = 2


def test_whatever_was_due_is_due(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """Three clients at once. The worker dies again and again, before anything is due."""
    server_host, *hosts = network.add("server", "kept", "dead", "keeping")
    server = Peer(server_host, handfast.with_options("--restart-limit=100/60").hurried(**HURRY))
    kept, dead, keeping = clients = [Peer(host, wireguard_go) for host in hosts]
    captures = {client: network.capture(client.host) for client in clients}
    for client in clients:
        introduce(client, server, keepalive=1 if client is keeping else 0)
    server.start()
    for client in clients:
        client.start()
        client.reaches(server)
    # What is heard from a client puts keepalives to it off.
    for silenced in (kept, dead):
        assert server.ping(silenced), "the last that we sent was answered"
        network.filters.drop(source=silenced.host.name)
    server.set("peer", kept.keys.public, "persistent-keepalive", str(INTERVAL))
    began = time.monotonic()
    server.ping(dead, timeout=0.1)

    def sent(client: Peer, message: Message) -> list[Datagram]:
        return captures[client].matching(message, source=server_host.ipv4, since=began)

    while not (noticed := sent(dead, Message.INITIATION)) and time.monotonic() < began + 2 * SILENCE:
        kill_worker(server)
        time.sleep(PAUSE)

    keepalives = sent(kept, Message.TRANSPORT)
    assert len(keepalives) >= 2
    late = lateness(keepalives, [INTERVAL] * (len(keepalives) - 1))
    assert min(late) > -0.5
    assert max(late) < 1
    assert noticed
    assert SILENCE <= noticed[0].time - began < SILENCE + 2
    assert not sent(keeping, Message.TRANSPORT), "keepalives want no answer"
