"""Cookies under a real flood, in both roles (paper, 5.3; RECOVERY, 4)."""

from __future__ import annotations

import os
import time

from tests.interop.conftest import Pair
from tests.lab.adversary import Flood, Injector, cookie_reply
from tests.lab.filters import Filters, Message, Rule
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import PORT, Peer, introduce
from tests.lab.probes import Probes
from tests.lab.wire import Datagram, session_completed


def carries_mac2(initiation: Datagram) -> bool:
    return any(initiation.payload[132:148])


def back(datagram: Datagram) -> tuple[tuple[str, int], tuple[str, int]]:
    """From where it went to where it came from."""
    return (datagram.destination, datagram.destination_port), (datagram.source, datagram.source_port)


OVERWHELMING = 12_000
"""Initiations a second that a fast machine cannot work off between two bursts either: no lull, no luck."""


def trio(
    network: Network, called: Implementation, calling: Implementation, *, rate: float = 6_000
) -> tuple[Peer, Peer, Flood, Rule]:
    """A pair that is about to meet, a flood towards the called one, and a count of its cookie replies."""
    called_host, calling_host, mallory = network.add("called", "calling", "mallory")
    target, caller = Peer(called_host, called), Peer(calling_host, calling)
    introduce(caller, target)
    flood = Flood(mallory.node, called_host.ipv4, PORT, target.keys.public, rate)
    return target, caller, flood, network.filters.count(Message.COOKIE_REPLY, destination="mallory")


def test_our_initiation_is_retried_with_mac2_at_once(
    network: Network, handfast: Implementation, other: Implementation
) -> None:
    theirs, ours, flood, cookies = trio(network, other, handfast.hurried(CADENCE=(0.0, 4.0)))
    capture = network.capture(ours.host)
    theirs.start()
    with flood:
        wait_until(lambda: cookies.packets, 10, "cookie replies to the flood")
        ours.start()
        refused = capture.wait(Message.COOKIE_REPLY)[0]
        capture.wait_for(lambda: session_completed(capture), 20, "a session")
    sent = capture.matching(Message.INITIATION)
    retried = next(d for d in sent if carries_mac2(d))
    assert retried.time - refused.time < 3, "it was no one's turn yet"
    assert retried.sender not in {d.sender for d in sent if d.time < refused.time}, "a new initiation"


def test_our_cookie_lets_a_client_in(
    network: Network, handfast: Implementation, other: Implementation
) -> None:
    ours, theirs, flood, cookies = trio(network, handfast, other, rate=OVERWHELMING)
    theirs.knows(ours, keepalive=1)
    capture = network.capture(theirs.host)
    ours.start()
    with flood:
        wait_until(lambda: cookies.packets, 10, "cookie replies to the flood")
        theirs.start()
        capture.wait(Message.COOKIE_REPLY)
        capture.wait_for(lambda: session_completed(capture), 20, "a session during the flood")
    answered = capture.matching(Message.RESPONSE)[0]
    sent = [d for d in capture.matching(Message.INITIATION) if d.time < answered.time]
    assert carries_mac2(sent[-1])


def test_a_flood_holds_no_packets_up(
    network: Network, handfast: Implementation, wireguard_go: Implementation, probes: Probes
) -> None:
    ours, theirs, flood, cookies = trio(network, handfast, wireguard_go)
    ours.start()
    theirs.start()
    probes.answer(ours.node)
    log = probes.ask(theirs.node, ours.ipv4)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    began = time.monotonic()
    with flood:
        wait_until(lambda: cookies.packets, 10, "cookie replies to the flood")
        time.sleep(2)
        assert log.longest_silence(began) < 1.5


def test_a_forged_cookie_reply_changes_nothing(serving: Pair, filters: Filters, injector: Injector) -> None:
    """Anyone can seal a cookie; only who saw the initiation knows the mac1 that it must answer."""
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    filters.drop(destination="client")
    ours.start()
    first = serving.on_server_cable.wait(Message.INITIATION)[0]
    forged = cookie_reply(first.payload, theirs.keys.public, mac1=os.urandom(16))
    injector.send(forged, *back(first))
    sent = serving.on_server_cable.wait(Message.INITIATION, count=3)
    assert not any(carries_mac2(d) for d in sent)
    assert sent[1].time - first.time > 0.2, "no retry out of turn"


def test_a_cookie_ends_with_its_path(usual: Pair, filters: Filters, injector: Injector) -> None:
    """It says that an address was ours to be answered at; it means nothing on another path (RECOVERY, 4)."""
    ours, theirs, capture = usual.server, usual.client, usual.on_server_cable
    usual.start()
    theirs.reaches(ours)
    filters.drop(Message.INITIATION, source="server")

    def initiated() -> Datagram:
        asked = time.monotonic()
        ours.command("handshake")
        return capture.wait(Message.INITIATION, source=ours.host.ipv4, since=asked)[0]

    first = initiated()
    assert not carries_mac2(first)
    injector.send(cookie_reply(first.payload, theirs.keys.public), *back(first))
    capture.wait_for(
        lambda: any(map(carries_mac2, capture.matching(Message.INITIATION))) or None, 5, "a retry with mac2"
    )
    assert carries_mac2(initiated()), "the cookie is kept"
    theirs.set("listen-port", "51999")
    theirs.reaches(ours)
    assert ours.status(theirs).endpoint == f"{theirs.host.ipv4}:51999"
    moved = initiated()
    assert moved.destination_port == 51999
    assert not carries_mac2(moved)
