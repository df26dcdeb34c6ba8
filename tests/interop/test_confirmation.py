"""The packet that tells a responder that the new session holds (RECOVERY, 4).

A client that answered an initiation keeps sending on its old key until it hears the new one, so one lost
packet would cost it 15 s. It is repeated, each time with a fresh counter, until the client uses the key.
"""

from __future__ import annotations

import time

from tests.interop.conftest import Pair
from tests.lab.filters import Filters, Message, Rule
from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes
from tests.lab.restarts import take_down
from tests.lab.wire import lateness, session_completed

PAUSES = [0.1, 0.2, 0.4, 0.8]


def test_it_is_repeated_to_an_idle_client(serving: Pair) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    theirs.start()
    ours.start()
    capture = serving.on_server_cable
    capture.wait(Message.TRANSPORT, source=ours.host.ipv4, count=1 + len(PAUSES))
    time.sleep(2)
    confirmations = capture.matching(Message.TRANSPORT, source=ours.host.ipv4)
    late = lateness(confirmations, PAUSES)
    assert min(late) > -0.1
    assert max(late) < 1
    assert all(d.is_keepalive for d in confirmations)
    counters = [d.counter for d in confirmations]
    assert counters == sorted(set(counters)), "never the same nonce twice"


def test_it_is_not_repeated_once_the_client_uses_the_key(serving: Pair) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    theirs.start()
    ours.start()
    capture = serving.on_server_cable
    capture.wait_for(lambda: session_completed(capture), 5, "a session")
    assert theirs.ping(ours)
    answered = time.monotonic()
    time.sleep(1.8)
    late = capture.matching(Message.TRANSPORT, source=ours.host.ipv4, since=answered)
    assert not [d for d in late if d.is_keepalive]


def test_later_it_answers_packets_on_the_older_key(serving: Pair, filters: Filters, probes: Probes) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    serving.start()
    theirs.reaches(ours)
    log = probes.stream(theirs.node, ours.node, ours.ipv4)
    wait_until(lambda: log.settled(0), 10, "the stream")

    lost = filters.drop(Message.TRANSPORT, source="server")
    renewed = time.monotonic()
    ours.command("handshake")
    learns_of_the_new_key(serving, lost, renewed)
    assert log.longest_silence(renewed) < 3, "all the while its packets came through"


def test_later_it_answers_packets_on_a_lost_key(serving: Pair, filters: Filters, probes: Probes) -> None:
    """They cannot be opened, but their index tells whose they are."""
    ours, theirs = serving.server, serving.client
    ours.environment["HANDFAST_ANNOUNCE"] = "never"
    serving.start()
    theirs.reaches(ours)
    log = probes.stream(theirs.node, ours.node, ours.ipv4)
    wait_until(lambda: log.settled(0), 10, "the stream")

    lost = filters.drop(Message.TRANSPORT, source="server")
    renewed = time.monotonic()
    take_down(ours)
    ours.bring_up()
    learns_of_the_new_key(serving, lost, renewed)
    assert log.longest_silence(renewed) < 10, "stock would take 15 s"


def learns_of_the_new_key(serving: Pair, lost: Rule, renewed: float) -> None:
    """The client answers, then misses all confirmations for 5 s."""
    ours, theirs = serving.server, serving.client
    capture = serving.on_server_cable
    answer = capture.wait(Message.RESPONSE, source=theirs.host.ipv4, since=renewed)[0]
    time.sleep(5)
    lost.remove()
    confirmations = capture.matching(Message.TRANSPORT, source=ours.host.ipv4, since=answer.time)
    afterwards = [d.time - answer.time for d in confirmations if d.time - answer.time > 1.7]
    assert 2 <= len(afterwards) <= 4, "one a second while the client sends on the older key"

    def moved() -> bool:
        used = capture.matching(Message.TRANSPORT, source=theirs.host.ipv4)[-1].receiver
        return used == answer.receiver

    wait_until(moved, 10, "the client to use the new key")
