"""Packets that come one at a time go a short way, with the same rules (RECOVERY, 2 and 8)."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import Pair, stranger_beside
from tests.lab.adversary import Injector
from tests.lab.filters import Filters, Message
from tests.lab.namespaces import wait_until

PINGS = 8


@pytest.fixture
def talking(serving: Pair) -> Pair:
    """The next packet each way is expected."""
    serving.start()
    serving.client.reaches(serving.server)
    ping_one_by_one(serving)
    return serving


def ping_one_by_one(pair: Pair, *options: str) -> None:
    """Raises if one is not answered."""
    command = ["ping", "-n", "-c", str(PINGS), "-i", "0.1", "-W", "2", *options, pair.server.ipv4]
    output = pair.client.node.run(*command)
    assert f" {PINGS} received" in output, output


def test_each_ping_is_answered_with_a_counter_of_its_own(talking: Pair) -> None:
    began = time.monotonic()
    ping_one_by_one(talking)
    server = talking.server.host.ipv4
    sent = talking.on_client_cable.wait(Message.TRANSPORT, source=server, since=began, count=PINGS)
    counters = [datagram.counter for datagram in sent]
    assert counters == sorted(set(counters))


def test_a_repeated_ping_is_not_answered(talking: Pair, filters: Filters, injector: Injector) -> None:
    client = talking.client.host.ipv4
    recorded = talking.on_client_cable.matching(Message.TRANSPORT, source=client)[-1]
    assert len(recorded.payload) == recorded.length
    answers = filters.count(Message.TRANSPORT, source="server")
    for _ in range(3):
        injector.resend(recorded)
        time.sleep(0.05)
    time.sleep(0.2)
    assert answers.packets == 0
    ping_one_by_one(talking)
    assert answers.packets >= PINGS


def test_a_client_that_moves_between_two_pings_is_followed(talking: Pair, filters: Filters) -> None:
    filters.readdress("client", talking.client.host.ipv4, "10.77.2.99")
    ping_one_by_one(talking)
    endpoint = f"10.77.2.99:{talking.client.port}"
    wait_until(lambda: talking.server.status(talking.client).endpoint == endpoint, 5, "the server to follow")


def test_a_source_that_is_not_allowed_between_two_others_is_dropped(talking: Pair) -> None:
    ours, theirs = talking.server, talking.client
    with stranger_beside(ours, theirs) as (sink, friend, stranger):
        for sender, said in ((friend, b"1"), (friend, b"2"), (stranger, b"stranger"), (friend, b"3")):
            sender.sendto(said, sink.getsockname())
            time.sleep(0.1)
        assert [sink.recv(100) for _ in range(3)] == [b"1", b"2", b"3"]
