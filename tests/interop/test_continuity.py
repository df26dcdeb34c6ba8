"""Sessions outlive their process, and unmodified clients notice nothing (RECOVERY, sections 1, 2 and 7)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import Conversation, handshakes, settle_pair, wait_for_method
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import KeyPair, Peer, preshared_key
from tests.lab.probes import Log, Probes
from tests.lab.restarts import (
    EVENTS,
    end_and_start,
    end_tree,
    kill_tree,
    kill_worker,
    kill_worker_and_spare,
    status_of,
    take_down,
)

RATE = 200.0
BATCH_IN_HAND = 2
"""At RATE; what the dead worker had read and not yet sent on."""


@pytest.fixture
def sending(serving: Pair, probes: Probes) -> tuple[Pair, Log]:
    """A client with a session that asks an echo server on the server's host all the time."""
    serving.start()
    probes.answer(serving.server.node)
    log = probes.ask(serving.client.node, serving.server.ipv4, rate=RATE)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    settle_pair(serving)
    return serving, log


def lost(log: Log, since: float, until: float) -> int:
    """How many of the probes that were sent in between were not answered."""
    sent = sum(since < at < until for at in log.sent)
    answered = sum(since < at - taken < until for at, taken in zip(log.arrived, log.latency, strict=True))
    return sent - answered


@pytest.fixture
def conversations(serving: Pair, network: Network) -> Iterator[list[Conversation]]:
    """Connections inside the tunnel: to the server's host, and through it to a host behind it."""
    server, client = serving.server, serving.client
    (shop,) = network.add("shop")
    server.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    network.router.run("ip", "route", "add", "10.88.0.0/24", "via", server.host.ipv4)
    client.knows(server, allowed_ips=(f"{server.ipv4}/32", f"{shop.ipv4}/32"))
    serving.start()
    client.node.run("ip", "route", "add", shop.ipv4, "dev", client.interface)
    client.reaches(server)
    settle_pair(serving)
    with ExitStack() as stack:
        yield [
            stack.enter_context(Conversation(client.node, server.node, server.ipv4, 7001)),
            stack.enter_context(Conversation(client.node, shop.node, shop.ipv4, 7002)),
            stack.enter_context(Conversation(server.node, client.node, client.ipv4, 7003)),
        ]


@pytest.mark.parametrize("event", EVENTS)
def test_the_session_goes_on(sending: tuple[Pair, Log], event: str) -> None:
    pair, log = sending
    began = EVENTS[event](pair.server)
    wait_until(lambda: log.settled(began + 0.05), 10, "answers afterwards")
    wait_for_method(pair.server, pair.client, "resumed")
    assert not handshakes(pair, began)
    assert log.longest_silence(began) < 2
    if event == "worker":
        time.sleep(0.2)
        assert lost(log, began - 0.1, time.monotonic() - 0.2) <= BATCH_IN_HAND


@pytest.mark.parametrize("event", EVENTS)
def test_connections_inside_stay_open(serving: Pair, conversations: list[Conversation], event: str) -> None:
    for conversation in conversations:
        conversation.goes_on()
    began = EVENTS[event](serving.server)
    for conversation in conversations:
        conversation.goes_on()
    assert not handshakes(serving, began)


@pytest.fixture
def contained(serving: Pair) -> Pair:
    serving.server.implementation = serving.server.implementation.in_container()
    return serving


def test_connections_outlive_the_container(contained: Pair, conversations: list[Conversation]) -> None:
    """kill -9 of its process 1, and with it of every other process in it."""
    for conversation in conversations:
        conversation.goes_on()
    began = kill_tree(contained.server)
    for conversation in conversations:
        conversation.goes_on()
    assert not handshakes(contained, began)


def test_the_server_speaks_first(serving: Pair) -> None:
    """The client that only receives: nothing of it calls for an answer."""
    serving.start()
    serving.client.reaches(serving.server)
    settle_pair(serving)
    for event in EVENTS.values():
        began = event(serving.server)
        assert serving.server.ping(serving.client)
        assert not handshakes(serving, began)


def test_an_endpoint_that_was_edited_meanwhile_counts(serving: Pair) -> None:
    """The client moved while nobody listened, and a person knows where to."""
    server, client = serving.server, serving.client
    server.knows(client)
    serving.start()
    server.reaches(client)
    began = end_tree(server)
    client.set("listen-port", "51999")
    client.port = 51999
    server.knows(client)
    server.start()
    assert server.ping(client)
    assert not handshakes(serving, began)


def test_an_endpoint_that_nobody_edited_is_older_than_where_the_client_was_heard(serving: Pair) -> None:
    server, client = serving.server, serving.client
    server.knows(client)
    serving.start()
    server.reaches(client)
    client.set("listen-port", "51999")
    client.reaches(server)
    for event in EVENTS.values():
        began = event(server)
        assert server.ping(client)
        assert not handshakes(serving, began)


def test_fifty_restarts_within_one_session(sending: tuple[Pair, Log]) -> None:
    pair, log = sending
    pair.server.stop()
    pair.server.implementation = pair.server.implementation.with_options("--restart-limit=100/60")
    began = time.monotonic()
    pair.server.start()
    events = [kill_worker] * 5 + [kill_tree, kill_worker, end_and_start, kill_worker, kill_tree]
    for event in events * 5:
        at = event(pair.server)
        wait_until(lambda at=at: log.settled(at, 2), 10, "answers afterwards")  # type: ignore[misc]
    assert not handshakes(pair, began)
    assert status_of(pair.server, pair.client)["method"] == "resumed"


def test_killed_again_while_it_takes_over(sending: tuple[Pair, Log]) -> None:
    """The keeper's promise does not depend on how far the next worker came."""
    pair, log = sending
    began = kill_worker_and_spare(pair.server)
    kill_worker(pair.server)  # it was forked a moment ago, and does not serve yet
    wait_until(lambda: log.settled(began + 0.05), 10, "answers afterwards")
    assert not handshakes(pair, began)


def test_other_sockets_outlive_the_worker_too(serving: Pair) -> None:
    """A port that was changed, a link that was down: the keeper holds what is in use."""
    server, client = serving.server, serving.client
    serving.start()
    client.reaches(server)
    kill_worker(server)
    server.set("listen-port", "51999")
    assert server.ping(client), "the client follows"
    began = kill_worker(server)
    assert client.ping(server)
    assert not handshakes(serving, began)
    assert client.status(server).endpoint == f"{server.host.ipv4}:51999"
    take_down(server)
    server.bring_up()
    client.reaches(server)
    kill_worker(server)
    assert client.ping(server)


def listen_port(peer: Peer) -> int:
    return int(peer.wg("show", peer.interface, "listen-port"))


@pytest.fixture
def chooser(network: Network, handfast: Implementation, other: Implementation) -> Pair:
    """Handfast as a client on any port, with a session."""
    pair = make_pair(network, handfast, other, handfast_serves=False)
    pair.client.port = 0
    pair.start()
    pair.client.reaches(pair.server)
    return pair


def test_a_port_that_was_chosen_is_chosen_again(chooser: Pair) -> None:
    """Who was heard there last can be spoken to there."""
    port = listen_port(chooser.client)
    for event in EVENTS.values():
        event(chooser.client)
        assert listen_port(chooser.client) == port
        assert chooser.server.ping(chooser.client)


def test_unless_another_has_it(chooser: Pair) -> None:
    client = chooser.client
    port = listen_port(client)
    end_tree(client)
    with client.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", port))
        client.start()
        assert listen_port(client) not in {0, port}
        assert client.ping(chooser.server)


def test_configuring_again_keeps_the_session(sending: tuple[Pair, Log]) -> None:
    pair, log = sending
    began = kill_tree(pair.server)
    pair.server.configure()
    wait_until(lambda: log.settled(began), 10, "answers after the restart")
    again = time.monotonic()
    pair.server.configure()
    wait_until(lambda: log.settled(again), 10, "answers after the second configuration")
    kill_worker(pair.server)
    wait_until(lambda: log.settled(time.monotonic() - 0.1), 10, "answers after the kill")
    assert not handshakes(pair, began)


@pytest.mark.parametrize("change", ["preshared key", "server key", "removed"])
def test_another_configuration_resumes_nothing(serving: Pair, change: str) -> None:
    """Keys that the present configuration does not stand for are dead; the client recovers by handshake."""
    server, client = serving.server, serving.client
    serving.start()
    client.reaches(server)
    end_tree(server)
    secret = ""
    if change == "preshared key":
        secret = preshared_key()
    elif change == "server key":
        server.keys = KeyPair.generate()
    else:
        server.known = {}
        server.start()
        server.stop()
    server.known = {}
    server.knows(client, endpoint=False, preshared_key=secret)
    restarted = time.monotonic()
    server.start()
    assert not server.ping(client, timeout=0.3)
    assert status_of(server, client)["method"] is None

    client.known = {}
    client.knows(server, preshared_key=secret)
    client.configure()
    client.reaches(server)
    assert handshakes(serving, restarted)
