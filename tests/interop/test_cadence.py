"""When initiations leave for a peer that does not answer (RECOVERY, 4)."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer
from tests.lab.wire import Datagram, lateness

EARLY = 0.2
"""An initiation may leave so much later than its time that the pause after it is shorter."""
LATE = 1.5


def initiations(
    network: Network,
    handfast: Implementation,
    other: Implementation,
    count: int,
    environment: Mapping[str, str],
) -> list[Datagram]:
    """So many as leave first for a client that hears nothing."""
    server_host, client_host = network.add("server", "client")
    server, client = Peer(server_host, handfast, environment=environment), Peer(client_host, other)
    server.knows(client)
    client.knows(server, endpoint=False)
    capture = network.capture(server_host)
    network.filters.drop(destination="client")
    client.start()
    server.start()
    server.node.start("ping", "-i1", client.ipv4)
    return capture.wait(Message.INITIATION, count=count, timeout=40)[:count]


def test_five_at_once_then_silence(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """Each initiation stops the client's own for 5 s."""
    late = lateness(initiations(network, handfast, wireguard_go, 6, {}), [0.25, 0.25, 0.5, 1, 13])
    assert min(late) > -EARLY
    assert max(late) < LATE


def test_strict_restores_the_timers_of_the_paper(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """A new attempt after REKEY_TIMEOUT, which is 5 s, and up to a third of a second more."""
    hurried = handfast.hurried(REKEY_TIMEOUT=1.5)
    sent = initiations(network, hurried, wireguard_go, 4, {"HANDFAST_TIMERS": "strict"})
    late = lateness(sent, [1.5, 1.5, 1.5])
    assert min(late) > -EARLY
    assert max(late) < LATE


def test_a_slow_beat_and_then_peace(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    """Every 15 s until 90 s: here every second until the fourth. The unit tests have the true numbers."""
    burst = {"CADENCE": (0.0, 0.1, 0.2, 0.3, 0.4), "CADENCE_SILENCE": 1.0, "REKEY_TIMEOUT": 2.0}
    beat = {**burst, "CADENCE_INTERVAL": 1.0, "CADENCE_END": 4.0, "REKEY_TIMEOUT_JITTER": 0.0}
    server_host, client_host = network.add("server", "client")
    server, client = Peer(server_host, handfast.hurried(**beat)), Peer(client_host, wireguard_go)
    server.knows(client)
    client.knows(server, endpoint=False)
    capture = network.capture(server_host)
    network.filters.drop(destination="client")
    client.start()
    server.start()
    first = capture.wait(Message.INITIATION)[0].time
    time.sleep(first + 5.5 - time.monotonic())
    sent = capture.matching(Message.INITIATION)
    late = lateness(sent[4:], [1.0] * (len(sent) - 5))
    assert len(late) in {2, 3}, "on a busy machine there is no time for the last one"
    assert min(late) > -EARLY
    assert sent[-1].time - first < 4
    server.node.start("ping", "-c1", client.ipv4)
    capture.wait(Message.INITIATION, count=len(sent) + 1)  # there is something to send
