"""What an attacker records and sends again, or sends changed, does nothing (RECOVERY, 3 and 8)."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import Pair
from tests.lab.adversary import Injector, with_macs
from tests.lab.filters import Filters, Message
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import PORT


def test_an_old_initiation_is_not_answered(serving: Pair, network: Network, injector: Injector) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    theirs.reaches(ours)
    (mallory,) = network.add("mallory")
    recorded = serving.on_client_cable.matching(Message.INITIATION, source=theirs.host.ipv4)[0]
    answers = network.filters.count(Message.RESPONSE, source="server")
    time.sleep(0.1)  # past the 20 ms in which initiations are taken for a flood
    injector.resend(recorded)
    injector.send(recorded.payload, (mallory.ipv4, PORT), (ours.host.ipv4, PORT))
    assert theirs.ping(ours)
    assert ours.status(theirs).endpoint == f"{theirs.host.ipv4}:{theirs.port}"
    assert answers.packets == 0


@pytest.mark.usefixtures("without_state")
def test_after_a_restart_an_old_initiation_leads_nobody_away(
    serving: Pair, network: Network, injector: Injector
) -> None:
    """A new process may not know that it is old. It answers, and waits for a packet on the new key."""
    ours, theirs = serving.server, serving.client
    ours.environment["HANDFAST_ANNOUNCE"] = "never"
    ours.knows(theirs)
    serving.start()
    theirs.reaches(ours)
    (mallory,) = network.add("mallory")
    recorded = serving.on_client_cable.matching(Message.INITIATION, source=theirs.host.ipv4)[0]
    ours.kill()
    ours.start()
    answers = network.filters.count(Message.RESPONSE, source="server", destination="mallory")
    injector.send(recorded.payload, (mallory.ipv4, PORT), (ours.host.ipv4, PORT))
    wait_until(lambda: answers.packets, 5, "an answer to the old initiation")
    assert ours.status(theirs).endpoint == f"{theirs.host.ipv4}:{theirs.port}"
    ours.reaches(
        theirs
    )  # after up to 5 s: like everyone, we take an answer of ours for a handshake under way


def test_an_old_packet_moves_no_endpoint(serving: Pair, network: Network, injector: Injector) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    theirs.reaches(ours)
    (mallory,) = network.add("mallory")
    recorded = serving.on_client_cable.matching(Message.TRANSPORT, source=theirs.host.ipv4)
    for datagram in recorded:
        injector.send(datagram.payload, (mallory.ipv4, PORT), (ours.host.ipv4, PORT))
    time.sleep(0.2)
    assert ours.status(theirs).endpoint == f"{theirs.host.ipv4}:{theirs.port}"
    assert ours.ping(theirs)


@pytest.mark.parametrize("message", [Message.INITIATION, Message.TRANSPORT], ids=["initiation", "transport"])
def test_reserved_bytes_must_be_zero(
    serving: Pair, filters: Filters, injector: Injector, message: Message
) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    if message is Message.TRANSPORT:
        theirs.reaches(ours)
    held = filters.drop(message, source="client")
    capture, began = serving.on_client_cable, time.monotonic()
    answers = filters.count(source="server")
    assert not theirs.ping(ours, timeout=0.5)
    true = capture.wait(message, source=theirs.host.ipv4, since=began)[-1]
    for position in (1, 2, 3):
        changed = true.payload[:position] + b"\1" + true.payload[position + 1 :]
        if message is Message.INITIATION:
            changed = with_macs(changed[:116], ours.keys.public)
        injector.resend(true, changed)
    time.sleep(0.3)
    assert answers.packets == 0
    injector.resend(true)
    capture.wait(source=ours.host.ipv4, since=began)
    held.remove()
