"""Keepalives and what silence means (paper, 6.4 and 6.5; RECOVERY, 8)."""

from __future__ import annotations

import time

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Probes


def test_silence_and_its_answers(
    network: Network, handfast: Implementation, wireguard_go: Implementation, probes: Probes
) -> None:
    """Three clients at once, since each takes its 10 or 15 s."""
    server_host, *hosts = network.add("server", "talker", "asked", "kept")
    server = Peer(server_host, handfast)
    talker, asked, kept = clients = [Peer(host, wireguard_go) for host in hosts]
    captures = {client: network.capture(client.host) for client in clients}
    for client in clients:
        introduce(client, server)
    server.start()
    for client in clients:
        client.start()
        client.reaches(server)
    for silenced in (asked, kept):
        assert server.ping(silenced), "the last that we sent was answered"
        network.filters.drop(source=silenced.host.name)

    began = time.monotonic()
    probes.stream(talker.node, server.node, server.ipv4)
    server.set("peer", kept.keys.public, "persistent-keepalive", "1")
    server.ping(asked, timeout=1)
    captures[asked].wait(Message.INITIATION, source=server_host.ipv4, since=began, timeout=40)
    captures[kept].wait(Message.TRANSPORT, source=server_host.ipv4, since=began, count=18, timeout=40)

    def sent(client: Peer, message: Message) -> list[float]:
        ours = captures[client].matching(message, source=server_host.ipv4, since=began)
        return [datagram.time - began for datagram in ours]

    # Who only talks hears a keepalive after KEEPALIVE_TIMEOUT.
    assert 10 <= sent(talker, Message.TRANSPORT)[0] < 13
    # Data without an answer: a new handshake after KEEPALIVE_TIMEOUT + REKEY_TIMEOUT.
    assert 15 <= sent(asked, Message.INITIATION)[0] < 18
    # Keepalives expect no answer.
    assert not sent(kept, Message.INITIATION)
