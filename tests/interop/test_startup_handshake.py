"""Handshakes at start: whichever of configuration and link comes last sets them off (RECOVERY, 4 and 5)."""

from __future__ import annotations

import time

from tests.interop.conftest import Pair
from tests.lab.filters import Message
from tests.lab.wire import session_completed


def initiations(pair: Pair) -> int:
    return len(pair.on_server_cable.matching(Message.INITIATION, source=pair.server.host.ipv4))


def test_configuration_then_up(serving: Pair) -> None:
    serving.server.knows(serving.client)
    serving.client.start()
    serving.server.launch()
    serving.server.configure()
    assert initiations(serving) == 0
    serving.server.bring_up()
    serving.on_client_cable.wait_for(lambda: session_completed(serving.on_client_cable), 5, "a session")
    assert serving.client.ping(serving.server), "the idle client has a session"


def test_up_then_configuration(serving: Pair) -> None:
    serving.server.knows(serving.client)
    serving.client.start()
    serving.server.launch()
    serving.server.bring_up()
    assert initiations(serving) == 0
    serving.server.configure()
    serving.on_client_cable.wait_for(lambda: session_completed(serving.on_client_cable), 5, "a session")


def test_a_peer_that_is_added_later(serving: Pair) -> None:
    serving.client.start()
    serving.server.start()
    assert initiations(serving) == 0, "no endpoint, no initiation"
    serving.server.set("peer", serving.client.keys.public, "endpoint", f"{serving.client.host.ipv4}:51820")
    serving.on_client_cable.wait_for(lambda: session_completed(serving.on_client_cable), 5, "a session")


def test_announce_never(serving: Pair) -> None:
    serving.server.environment["HANDFAST_ANNOUNCE"] = "never"
    serving.server.knows(serving.client)
    serving.client.start()
    serving.server.start()
    time.sleep(1)
    assert initiations(serving) == 0
    assert serving.server.ping(serving.client), "a packet of its own still starts a handshake"


def test_a_command_initiates_now(serving: Pair) -> None:
    serving.server.knows(serving.client)
    serving.start()
    serving.on_client_cable.wait_for(lambda: session_completed(serving.on_client_cable), 5, "a session")
    asked = time.monotonic()
    serving.server.command("handshake", "wg0", serving.client.keys.public)
    capture = serving.on_client_cable
    capture.wait_for(lambda: session_completed(capture, asked), 5, "another session")
