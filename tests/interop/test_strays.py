"""Packets of sessions whose keys are gone are answered with a handshake, and are no weapon (RECOVERY, 6)."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import Conversation, settle_pair, wait_for_method
from tests.lab.adversary import Injector, cookie_reply
from tests.lab.filters import Filters, Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT, KeyPair, Peer, introduce
from tests.lab.probes import Probes
from tests.lab.restarts import end_tree, kill_worker, lose_keys, status_of, take_down
from tests.lab.wire import Datagram, session_completed

HEADERS = 20 + 8
"""IPv4 and UDP."""
FACTOR = 3.0
INTERVAL = 1.0
"""Between two answers to addresses that are not known to be the client's, instead of 5 s."""


@pytest.fixture
def quiet(serving: Pair) -> Pair:
    """A client with a session and without plans, and a server that answers but never greets."""
    serving.server.environment["HANDFAST_ANNOUNCE"] = "never"
    serving.start()
    serving.client.reaches(serving.server)
    settle_pair(serving)
    return serving


@pytest.fixture
def hurried(serving: Pair) -> Pair:
    """The server's constant is smaller; whoever asks for `quiet` after this gets this pair."""
    serving.server.implementation = serving.server.implementation.hurried(ANSWER_INTERVAL=INTERVAL)
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
        assert back.time - first.time < 2, "by itself it would begin after 15 s"
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
    theirs.reaches(ours, timeout=8)
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
    client.reaches(server, timeout=8)
    capture = quiet.on_client_cable
    assert session_completed(capture, asked)
    wait_for_method(server, client, "answered")


def test_who_sends_is_greeted_before_others(quiet: Pair) -> None:
    """1,500 others are ahead in the queue, 500 a second: without its packet the client would wait 3 s."""
    server, client = quiet.server, quiet.client
    others = [KeyPair.generate().public for _ in range(1500)]
    sections = [f"[Peer]\nPublicKey = {key}\nEndpoint = 127.0.0.1:9\n" for key in others]
    server.wg("addconf", server.interface, "/dev/stdin", input="\n".join(sections))
    lose_keys(server)
    server.command("handshake", server.interface, *others)
    server.command("handshake", server.interface, client.keys.public)
    asked = time.monotonic()
    client.node.start("ping", "-c1", server.ipv4)
    capture = quiet.on_client_cable
    back = capture.wait_for(lambda: session_completed(capture, asked), 5, "a session")
    first = capture.matching(Message.TRANSPORT, source=client.host.ipv4, since=asked)[0]
    assert back.time - first.time < 2
    wait_for_method(server, client, "answered")


def test_probes_see_a_short_gap(quiet: Pair, probes: Probes) -> None:
    server, client = quiet.server, quiet.client
    probes.answer(server.node)
    log = probes.ask(client.node, server.ipv4, rate=100)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    up = lose_keys(server)
    wait_until(lambda: log.settled(up), 5, "answers afterwards")
    assert log.longest_silence(up) < 2


def test_strays_are_no_amplifier(quiet: Pair, network: Network, injector: Injector, mallory: Host) -> None:
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    forged = stray(quiet)
    for number in range(50):
        injector.send(stray(quiet, 1000 + number), (mallory.ipv4, 4000 + number), (server.host.ipv4, PORT))
    cable.wait(source=server.host.ipv4)
    assert server.status(client).endpoint == f"{client.host.ipv4}:{client.port}"
    client.reaches(server, timeout=8)
    # What came before its packet has been looked at.
    answers = cable.matching(source=server.host.ipv4)
    assert [answer.type for answer in answers] == [Message.INITIATION], "one for all ports"
    assert on_the_wire(answers) <= FACTOR * (len(forged) + HEADERS)


@pytest.mark.usefixtures("hurried")
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
    while len(sent := cable.matching(Message.INITIATION, source=server.host.ipv4)) < 2:
        injector.send(recorded.payload, (mallory.ipv4, PORT), (server.host.ipv4, PORT))
        time.sleep(0.05)
    first, second = sent
    assert second.time - first.time > INTERVAL - 0.01
    assert server.status(client).endpoint == f"{client.host.ipv4}:{client.port}"
    held.remove()
    client.reaches(server, timeout=8)


@pytest.mark.parametrize(("shared", "answered"), [("", 5), ("10.77.0.0/16", 7)])
def test_an_address_that_all_may_share_is_spared(
    network: Network,
    injector: Injector,
    mallory: Host,
    handfast: Implementation,
    wireguard_go: Implementation,
    shared: str,
    answered: int,
) -> None:
    """As behind a Service, seven clients are seen at one address that is none of theirs."""
    server_host, *hosts = network.add("server", *(f"client{number}" for number in range(7)))
    environment = {"HANDFAST_ANNOUNCE": "never", "HANDFAST_SHARED_NETWORKS": shared}
    server = Peer(server_host, handfast, environment=environment)
    clients = [Peer(host, wireguard_go) for host in hosts]
    for client in clients:
        introduce(client, server)
    server.start()
    packets = []
    for client in clients:
        capture = network.capture(client.host)
        client.start()
        client.reaches(server)
        last = capture.matching(Message.TRANSPORT, source=client.host.ipv4)[-1]
        packets.append(last.payload[:8] + (last.counter + 1000).to_bytes(8, "little") + bytes(16))
    lose_keys(server)
    cable = network.capture(mallory)
    for packet in packets:
        injector.send(packet, (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    # It brings no packet to Mallory, and what came before it has been looked at.
    clients[0].reaches(server)
    sent = len(cable.matching(Message.INITIATION, source=server.host.ipv4))
    assert answered <= sent < answered + 2, "another one may be due by now"


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
    hoarded = hoard(quiet, network, injector, mallory)
    if initiator == "client":
        client_begins_anew(quiet)
    comes_back(quiet)
    assert_void(hoarded, quiet, injector, mallory)


def test_a_successor_voids_what_was_hoarded_before(
    quiet: Pair, network: Network, injector: Injector, mallory: Host
) -> None:
    hoarded = hoard(quiet, network, injector, mallory)
    kill_worker(quiet.server)
    client_begins_anew(quiet)
    comes_back(quiet)
    assert_void(hoarded, quiet, injector, mallory)


def test_a_cookie_for_an_answer_is_for_where_it_went(
    quiet: Pair, network: Network, injector: Injector, mallory: Host
) -> None:
    """A loaded client that moved wants one. Mallory gets one initiation more, and nothing else."""
    server, client = quiet.server, quiet.client
    hoarded = hoard(quiet, network, injector, mallory)
    cable = network.capture(mallory)
    asked = time.monotonic()
    here, there = (mallory.ipv4, PORT), (server.host.ipv4, PORT)
    injector.send(cookie_reply(hoarded.payload, client.keys.public), here, there)
    [retried] = cable.wait(Message.INITIATION, source=server.host.ipv4, since=asked)
    assert any(retried.payload[132:148]), "with mac2"
    injector.send(cookie_reply(retried.payload, client.keys.public), here, there)
    comes_back(quiet)
    assert not cable.matching(Message.INITIATION, since=retried.time + 0.001), "once"
    to_client = quiet.on_client_cable.matching(Message.INITIATION, source=server.host.ipv4, since=asked)
    assert to_client
    assert not any(any(initiation.payload[132:148]) for initiation in to_client)
    assert_void(retried, quiet, injector, mallory)


def hoard(pair: Pair, network: Network, injector: Injector, mallory: Host) -> Datagram:
    """An initiation to the client that Mallory has and the client never saw."""
    server = pair.server
    lose_keys(server)
    cable = network.capture(mallory)
    injector.send(stray(pair), (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    [hoarded] = cable.wait(Message.INITIATION, source=server.host.ipv4)
    return hoarded


def client_begins_anew(pair: Pair) -> None:
    """It has no session any more, so that its next packet is an initiation."""
    pair.client.set("peer", pair.server.keys.public, "remove")
    pair.client.configure()


def comes_back(pair: Pair) -> None:
    back = time.monotonic()
    pair.client.reaches(pair.server, timeout=8)
    assert session_completed(pair.on_client_cable, back)
    [began, *_] = pair.on_client_cable.wait(Message.INITIATION, source=pair.server.host.ipv4, since=back)
    pair.on_client_cable.wait(Message.RESPONSE, source=pair.client.host.ipv4, since=began.time)


def assert_void(hoarded: Datagram, pair: Pair, injector: Injector, mallory: Host) -> None:
    server, client = pair.server, pair.client
    delivered = time.monotonic()
    injector.send(hoarded.payload, (mallory.ipv4, PORT), (client.host.ipv4, client.port))
    time.sleep(0.3)
    assert not pair.on_client_cable.matching(Message.RESPONSE, destination=mallory.ipv4, since=delivered)
    assert client.status(server).endpoint == f"{server.host.ipv4}:{server.port}"
    assert client.ping(server)


@pytest.mark.usefixtures("hurried")
def test_a_late_answer_to_an_older_one_does_not_end_it(
    quiet: Pair, network: Network, injector: Injector, mallory: Host
) -> None:
    """Two were hoarded. The older reaches the client by the server's path; the newer must be void, too."""
    server, client = quiet.server, quiet.client
    lose_keys(server)
    cable = network.capture(mallory)
    injector.send(stray(quiet), (mallory.ipv4, PORT), (server.host.ipv4, PORT))
    [older] = cable.wait(Message.INITIATION, source=server.host.ipv4)
    time.sleep(INTERVAL + 0.1)
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
