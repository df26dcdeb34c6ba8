"""Packets of sessions whose keys are gone are answered with a handshake, and are no weapon (RECOVERY, 6)."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import Conversation, wait_for_method
from tests.lab.adversary import Injector
from tests.lab.filters import Filters, Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT
from tests.lab.probes import Probes
from tests.lab.restarts import end_tree, lose_keys, status_of, take_down
from tests.lab.wire import Datagram, session_completed

HEADERS = 20 + 8
"""IPv4 and UDP."""
FACTOR = 3.0


@pytest.fixture
def quiet(serving: Pair) -> Pair:
    """A client with a session, and a server that answers but never greets."""
    serving.server.environment["HANDFAST_ANNOUNCE"] = "never"
    serving.start()
    serving.client.reaches(serving.server)
    return serving


def stray(pair: Pair, ahead: int = 1000) -> bytes:
    """The shortest packet for the session that the client last used, with a counter not seen before."""
    last = pair.on_client_cable.matching(Message.TRANSPORT, source=pair.client.host.ipv4)[-1]
    return last.payload[:8] + (last.counter + ahead).to_bytes(8, "little") + bytes(16)


def on_the_wire(datagrams: list[Datagram]) -> int:
    return sum(datagram.length + HEADERS for datagram in datagrams)


def test_the_next_packet_brings_the_client_back(quiet: Pair) -> None:
    server, client = quiet.server, quiet.client
    with Conversation(client.node, server.node, server.ipv4, 7001) as conversation:
        conversation.goes_on()
        lose_keys(server)
        time.sleep(0.3)
        capture = quiet.on_client_cable
        assert status_of(server, client)["method"] is None
        asked = time.monotonic()
        client.node.start("ping", "-c1", server.ipv4)
        back = capture.wait_for(lambda: session_completed(capture, asked), 5, "a session")
        first = capture.matching(Message.TRANSPORT, source=client.host.ipv4, since=asked)[0]
        assert back.time - first.time <= 0.2
        wait_for_method(server, client, "answered")
        conversation.goes_on()
    began = capture.matching(Message.INITIATION, since=asked)
    assert {datagram.source for datagram in began} == {server.host.ipv4}


def test_a_caller_answers_strays_too(
    network: Network, handfast: Implementation, other: Implementation
) -> None:
    pair = make_pair(network, handfast, other, handfast_serves=False)
    ours, theirs = pair.client, pair.server
    ours.environment["HANDFAST_ANNOUNCE"] = "never"
    pair.start()
    ours.reaches(theirs)
    lost = lose_keys(ours)
    theirs.reaches(ours, timeout=3)
    wait_for_method(ours, theirs, "answered")
    began = pair.on_client_cable.matching(Message.INITIATION, since=lost)
    assert {datagram.source for datagram in began} == {ours.host.ipv4}


def test_after_a_restart_too(quiet: Pair) -> None:
    """Indices outlive the process as keys do."""
    server, client = quiet.server, quiet.client
    take_down(server)
    end_tree(server)
    server.start()
    asked = time.monotonic()
    client.reaches(server, timeout=3)
    capture = quiet.on_client_cable
    assert session_completed(capture, asked)
    wait_for_method(server, client, "answered")


def test_probes_see_a_short_gap(quiet: Pair, probes: Probes) -> None:
    server, client = quiet.server, quiet.client
    probes.answer(server.node)
    log = probes.ask(client.node, server.ipv4, rate=100)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    up = lose_keys(server)
    wait_until(lambda: log.settled(up), 5, "answers afterwards")
    assert log.longest_silence(up) < 0.5


def test_strays_are_no_amplifier(quiet: Pair, network: Network, injector: Injector, mallory: Host) -> None:
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    forged = stray(quiet)
    for number in range(50):
        injector.send(stray(quiet, 1000 + number), (mallory.ipv4, 4000 + number), (server.host.ipv4, PORT))
    time.sleep(0.3)
    answers = cable.matching(source=server.host.ipv4)
    assert [answer.type for answer in answers] == [Message.INITIATION], "one for all ports"
    assert on_the_wire(answers) <= FACTOR * (len(forged) + HEADERS)
    assert server.status(client).endpoint == f"{client.host.ipv4}:{client.port}"
    client.reaches(server, timeout=3)


def test_replayed_elsewhere_it_is_answered_rarely(
    quiet: Pair, network: Network, filters: Filters, injector: Injector, mallory: Host
) -> None:
    server, client = quiet.server, quiet.client
    lose_keys(server)
    held = filters.drop(Message.TRANSPORT, source="client")
    began = time.monotonic()
    assert not client.ping(server, timeout=0.2)
    capture = quiet.on_client_cable
    [*_, recorded] = capture.matching(Message.TRANSPORT, source=client.host.ipv4, since=began)
    cable = network.capture(mallory)
    for _ in range(60):
        injector.send(recorded.payload, (mallory.ipv4, PORT), (server.host.ipv4, PORT))
        time.sleep(0.1)
    first, second = cable.matching(Message.INITIATION, source=server.host.ipv4)
    assert second.time - first.time >= 5
    assert server.status(client).endpoint == f"{client.host.ipv4}:{client.port}"
    held.remove()
    client.reaches(server, timeout=3)


def test_what_was_received_before_is_not_answered(
    quiet: Pair, network: Network, injector: Injector, mallory: Host
) -> None:
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    for datagram in quiet.on_client_cable.matching(Message.TRANSPORT, source=client.host.ipv4):
        injector.send(datagram.payload, (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    time.sleep(0.3)
    assert not cable.matching(source=server.host.ipv4)


@pytest.mark.parametrize("initiator", ["server", "client"])
def test_a_hoarded_initiation_is_void_once_the_client_is_back(
    quiet: Pair, network: Network, injector: Injector, mallory: Host, initiator: str
) -> None:
    """Whoever has an initiation for the client could send it later, from elsewhere, and be followed."""
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    injector.send(stray(quiet), (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    [hoarded] = cable.wait(Message.INITIATION, source=server.host.ipv4)
    if initiator == "client":
        client.set("peer", server.keys.public, "remove")
        client.configure()
    back = time.monotonic()
    client.reaches(server, timeout=8)
    capture = quiet.on_client_cable
    assert session_completed(capture, back)
    capture.wait(Message.INITIATION, source=server.host.ipv4, since=back)
    time.sleep(0.5)
    delivered = time.monotonic()
    injector.send(hoarded.payload, (mallory.ipv4, PORT), (client.host.ipv4, client.port))
    time.sleep(0.3)
    assert not capture.matching(Message.RESPONSE, destination=mallory.ipv4, since=delivered)
    assert client.status(server).endpoint == f"{server.host.ipv4}:{server.port}"
    assert client.ping(server)


def test_a_late_answer_to_an_older_one_does_not_end_it(
    quiet: Pair, network: Network, injector: Injector, mallory: Host
) -> None:
    """Two were hoarded. The older reaches the client by the server's path; the newer must be void, too."""
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    injector.send(stray(quiet), (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    [older] = cable.wait(Message.INITIATION, source=server.host.ipv4)
    time.sleep(5.1)
    injector.send(stray(quiet, 2000), (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    [_, newest] = cable.wait(Message.INITIATION, source=server.host.ipv4, count=2)
    back = time.monotonic()
    injector.send(older.payload, (server.host.ipv4, PORT), (client.host.ipv4, client.port))
    capture = quiet.on_client_cable
    capture.wait(Message.RESPONSE, source=client.host.ipv4, since=back, count=2, timeout=5)
    wait_for_method(server, client, "answered")
    delivered = time.monotonic()
    injector.send(newest.payload, (mallory.ipv4, PORT), (client.host.ipv4, client.port))
    time.sleep(0.3)
    assert not capture.matching(Message.RESPONSE, destination=mallory.ipv4, since=delivered)
    assert client.ping(server)
