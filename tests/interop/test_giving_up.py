"""Initiations that nobody answered in time are worth nothing later (RECOVERY, section 6)."""

from __future__ import annotations

import time
from typing import Final

from tests.interop.conftest import make_pair
from tests.lab.adversary import Injector
from tests.lab.filters import Filters, Message
from tests.lab.implementations import Implementation
from tests.lab.network import Host, Network
from tests.lab.peer import PORT
from tests.lab.wire import session_completed

HURRY: Final = {"REKEY_TIMEOUT": 0.4, "REKEY_TIMEOUT_JITTER": 0.0, "MAX_HANDSHAKE_ATTEMPTS": 2}
SILENCE: Final = 3.0
"""KEEPALIVE_TIMEOUT: when a packet has no answer for so long and REKEY_TIMEOUT, a handshake begins."""


def test_once_the_client_is_heard_again_the_hoarded_are_void(
    network: Network,
    filters: Filters,
    injector: Injector,
    mallory: Host,
    handfast: Implementation,
    other: Implementation,
) -> None:
    """The path was broken one way; the session lived on, and no process was restarted."""
    hurried = handfast.hurried(**HURRY, KEEPALIVE_TIMEOUT=SILENCE)
    pair = make_pair(network, hurried, other, handfast_serves=True)
    server, client = pair.server, pair.client
    server.environment["HANDFAST_ANNOUNCE"] = "never"
    pair.start()
    client.reaches(server)

    broken = filters.drop(source="server", destination="client")
    began = time.monotonic()
    assert not server.ping(client, timeout=1)
    sent = pair.on_server_cable.wait(
        Message.INITIATION, source=server.host.ipv4, since=began, count=3, timeout=15
    )
    time.sleep(0.8)
    broken.remove()

    asked = time.monotonic()
    client.reaches(server)
    capture = pair.on_client_cable
    heard = capture.wait(Message.TRANSPORT, source=client.host.ipv4, since=asked)[0]
    voiding = capture.wait(Message.INITIATION, source=server.host.ipv4, since=asked)[0]
    assert voiding.time < heard.time + SILENCE
    capture.wait_for(lambda: session_completed(capture, asked), 5, "a session")
    delivered = time.monotonic()
    injector.send(sent[-1].payload, (mallory.ipv4, PORT), (client.host.ipv4, PORT))
    client.reaches(server)
    assert not capture.matching(Message.RESPONSE, destination=mallory.ipv4, since=delivered)
    assert client.status(server).endpoint == f"{server.host.ipv4}:{server.port}"
