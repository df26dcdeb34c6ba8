"""Several handshakes in flight: crossing, late, forged (RECOVERY, 4).

The wire is slowed down by hand: the router drops a message, and it is put back later.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.interop.conftest import Pair
from tests.lab.adversary import Injector, with_macs
from tests.lab.filters import Filters, Message
from tests.lab.wire import session_completed


@pytest.mark.parametrize("announce", ["always", "never"])
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_crossing_initiations(
    serving: Pair, filters: Filters, injector: Injector, first: str, announce: str
) -> None:
    ours, theirs = serving.server, serving.client
    ours.environment["HANDFAST_ANNOUNCE"] = announce
    ours.knows(theirs)
    for source, destination in (("server", "client"), ("client", "server")):
        filters.drop(Message.INITIATION, source=source, destination=destination, first=1)
    theirs.start()
    theirs.node.start("ping", "-c1", ours.ipv4)
    from_theirs = serving.on_client_cable.wait(Message.INITIATION, source=theirs.host.ipv4)[0]
    ours.start()
    ours.node.start("ping", "-c1", theirs.ipv4)
    from_ours = serving.on_server_cable.wait(Message.INITIATION, source=ours.host.ipv4)[0]
    # Not in the same instant: two handshake workers of stock wireguard-go would spoil each other's work.
    for initiation in [from_ours, from_theirs] if first == "ours" else [from_theirs, from_ours]:
        injector.resend(initiation)
        time.sleep(0.05)
    crossed = time.monotonic()
    assert theirs.ping(ours)
    assert ours.ping(theirs)
    assert time.monotonic() - crossed < 3, "with one slot a side it takes 5.6, 10.8 or 15.9 s"


def test_crossing_with_everything_in_flight(serving: Pair, filters: Filters, injector: Injector) -> None:
    """Each side answers the other's initiation before it hears the answer to its own."""
    ours, theirs = serving.server, serving.client
    ours.environment["HANDFAST_ANNOUNCE"] = "never"
    ours.knows(theirs)
    held = filters.drop()
    theirs.start()
    theirs.node.start("ping", "-c1", ours.ipv4)
    from_theirs = serving.on_client_cable.wait(Message.INITIATION, source=theirs.host.ipv4)[0]
    ours.start()
    ours.node.start("ping", "-c1", theirs.ipv4)
    from_ours = serving.on_server_cable.wait(Message.INITIATION, source=ours.host.ipv4)[0]
    injector.resend(from_theirs)
    injector.resend(from_ours)
    our_answer = serving.on_server_cable.wait(Message.RESPONSE, source=ours.host.ipv4)[0]
    their_answer = serving.on_client_cable.wait(Message.RESPONSE, source=theirs.host.ipv4)[0]
    held.remove()
    # The client has forgotten its own initiation over ours.
    injector.resend(our_answer)
    injector.resend(their_answer)
    crossed = time.monotonic()
    assert ours.ping(theirs)
    assert theirs.ping(ours)
    assert time.monotonic() - crossed < 3


def test_an_answer_may_come_after_later_initiations(
    serving: Pair, filters: Filters, injector: Injector
) -> None:
    """On a path that is slower than the cadence."""
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    filters.drop(Message.INITIATION, source="server", after=1)
    filters.drop(Message.RESPONSE)
    theirs.start()
    ours.start()
    serving.on_server_cable.wait(Message.INITIATION, count=4)
    answer = serving.on_client_cable.matching(Message.RESPONSE)[0]
    injector.resend(answer)
    serving.on_client_cable.wait(Message.TRANSPORT, source=ours.host.ipv4)
    assert ours.ping(theirs)


def test_a_late_answer_to_an_older_initiation_is_ignored(
    serving: Pair, filters: Filters, injector: Injector
) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    filters.drop(Message.RESPONSE, first=1)
    serving.start()
    capture = serving.on_server_cable
    capture.wait_for(lambda: session_completed(capture), 5, "a session")
    late = serving.on_client_cable.matching(Message.RESPONSE)[0]
    assert ours.ping(theirs)
    injector.resend(late)
    # The client has replaced that session: whoever adopts it talks to nobody.
    for _ in range(3):
        assert ours.ping(theirs)
    used = {d.receiver for d in capture.matching(Message.TRANSPORT, source=ours.host.ipv4)}
    assert late.sender not in used


@pytest.mark.parametrize("valid_mac1", [False, True], ids=["noise", "valid-mac1"])
def test_a_forged_response_clears_nothing(
    serving: Pair, filters: Filters, injector: Injector, valid_mac1: bool
) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    # One initiation and one response: nothing later may mend what the forgery broke.
    filters.drop(Message.INITIATION, source="server", after=1)
    filters.drop(Message.INITIATION, source="client")
    filters.drop(Message.RESPONSE)
    theirs.start()
    ours.start()
    true = serving.on_client_cable.wait(Message.RESPONSE)[0]
    forged = true.payload[:12] + os.urandom(48)
    forged = with_macs(forged, ours.keys.public) if valid_mac1 else forged + os.urandom(32)
    injector.resend(true, forged)
    time.sleep(0.05)
    injector.resend(true)
    serving.on_client_cable.wait(Message.TRANSPORT, source=ours.host.ipv4)
    assert ours.ping(theirs)
