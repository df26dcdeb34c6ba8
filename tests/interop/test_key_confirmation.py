"""A responder sends nothing on a new key before the initiator has used it (RECOVERY, 8)."""

from __future__ import annotations

import time

from tests.interop.conftest import Pair
from tests.lab.filters import Filters, Message


def test_we_answer_and_wait(serving: Pair, filters: Filters) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    held = filters.drop(Message.TRANSPORT, source="client")
    theirs.node.start("ping", "-i0.2", ours.ipv4)
    serving.on_client_cable.wait(Message.RESPONSE, source=ours.host.ipv4)
    ours.node.start("ping", "-i0.2", theirs.ipv4)
    time.sleep(1)
    assert not serving.on_client_cable.matching(Message.TRANSPORT, source=ours.host.ipv4)
    held.remove()
    assert ours.ping(theirs)


def test_a_new_key_does_not_replace_the_old_one_too_early(serving: Pair, filters: Filters) -> None:
    """The client's second initiation is answered, but its first packet on the new key is lost."""
    ours, theirs = serving.server, serving.client
    theirs.knows(ours, keepalive=1)
    serving.start()
    theirs.reaches(ours)
    capture = serving.on_client_cable
    old = capture.matching(Message.INITIATION, source=theirs.host.ipv4)[0].sender

    # The client forgets its session and makes another one; it hears us, we do not hear it.
    filters.drop(Message.TRANSPORT, source="client")
    renewed = time.monotonic()
    theirs.set("peer", ours.keys.public, "remove")
    theirs.configure()
    response = capture.wait(Message.RESPONSE, source=ours.host.ipv4, since=renewed)[0]
    ours.node.attempt("ping", "-c3", "-i0.2", "-W1", theirs.ipv4)
    sent = capture.matching(Message.TRANSPORT, source=ours.host.ipv4, since=response.time)
    assert sent
    assert {d.receiver for d in sent} == {old}
