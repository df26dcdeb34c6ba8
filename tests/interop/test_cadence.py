"""When initiations leave for a peer that does not answer (RECOVERY, 4)."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import Peer


def initiations(
    network: Network, handfast: Implementation, other: Implementation, environment: Mapping[str, str]
) -> list[float]:
    """When, after the first, do initiations leave for a client that hears nothing? For 17 s."""
    server_host, client_host = network.add("server", "client")
    server, client = Peer(server_host, handfast, environment=environment), Peer(client_host, other)
    server.knows(client)
    client.knows(server, endpoint=False)
    capture = network.capture(server_host)
    network.filters.drop(destination="client")
    client.start()
    server.start()
    server.node.start("ping", "-i1", client.ipv4)
    first = capture.wait(Message.INITIATION)[0].time
    time.sleep(first + 17 - time.monotonic())
    return [d.time - first for d in capture.matching(Message.INITIATION)]


def test_five_at_once_then_silence(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    times = initiations(network, handfast, wireguard_go, {})
    assert times[:5] == pytest.approx([0, 0.25, 0.5, 1, 2], abs=0.2)
    assert times[5] - times[4] > 12, "each initiation stops the client's own for 5 s"
    assert times[5] == pytest.approx(15, abs=1.5)
    assert len(times) == 6


def test_strict_restores_the_timers_of_the_paper(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    times = initiations(network, handfast, wireguard_go, {"HANDFAST_TIMERS": "strict"})
    assert times[:4] == pytest.approx([0, 5.2, 10.4, 15.6], abs=1)
    assert len(times) == 4


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
    times = [d.time - first for d in capture.matching(Message.INITIATION)]
    assert times[5:] == pytest.approx([1.4, 2.4, 3.4], abs=0.3)
    server.node.start("ping", "-c1", client.ipv4)
    capture.wait(Message.INITIATION, count=9)  # there is something to send
