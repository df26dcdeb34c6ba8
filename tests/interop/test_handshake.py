"""Handshakes in both directions, over IPv4 and IPv6, for IPv4 and IPv6 inside."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.lab.filters import Message


def test_the_client_begins(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    assert pair.server.ping(pair.client)
    assert pair.client.ping(pair.server, ipv6=True)
    assert pair.server.status(pair.client).endpoint == f"{pair.client.host.ipv4}:{pair.client.port}"
    pair.client.wait_for_handshake(pair.server)
    pair.server.wait_for_handshake(pair.client)


def test_the_server_begins(pair: Pair) -> None:
    pair.ours.environment["HANDFAST_ANNOUNCE"] = "never"
    pair.client.knows(pair.server, endpoint=False)
    pair.server.knows(pair.client)
    pair.client.start()
    pair.server.start()
    assert pair.server.ping(pair.client), "the packet that starts a handshake waits for its end"
    assert pair.client.ping(pair.server)


@pytest.mark.parametrize("begins", ["client", "server"])
def test_ipv6_underlay(pair: Pair, begins: str) -> None:
    caller, called = (pair.client, pair.server) if begins == "client" else (pair.server, pair.client)
    caller.knows(called, endpoint=f"[{called.host.ipv6}]:{called.port}")
    called.knows(caller, endpoint=False)
    pair.start()
    assert caller.ping(called)
    assert called.ping(caller, ipv6=True)
    assert called.status(caller).endpoint == f"[{caller.host.ipv6}]:{caller.port}"
    assert pair.on_client_cable.matching(Message.INITIATION, source=caller.host.ipv6)
