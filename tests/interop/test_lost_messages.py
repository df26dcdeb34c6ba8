"""A server restarts and messages get lost: the cadence repairs that in tenths of a second (RECOVERY, 4).

With the timers of the paper each of these losses costs more than 5 s, and a lost confirming packet 15 s.
"""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.lab.filters import Filters, Message
from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

INITIATION = Message.INITIATION, "server", "client"
RESPONSE = Message.RESPONSE, "client", "server"
CONFIRMATION = Message.TRANSPORT, "server", "client"


PAPER = 5.0
"""Less than any retry by the timers of the paper: the margin is for the machine, not for the rule."""


@pytest.mark.usefixtures("without_state")
@pytest.mark.parametrize(
    "lost",
    [(), (INITIATION,), (RESPONSE,), (CONFIRMATION,), (INITIATION, RESPONSE, CONFIRMATION)],
    ids=["nothing", "initiation", "response", "confirmation", "each-once"],
)
def test_a_sending_client_is_back_at_once(
    serving: Pair, filters: Filters, probes: Probes, lost: tuple[tuple[Message, str, str], ...]
) -> None:
    """By the first message that can: the next initiation of the cadence, the next confirming packet."""
    serving.server.knows(serving.client)
    serving.start()
    probes.answer(serving.server.node)
    log = probes.ask(serving.client.node, serving.server.ipv4)
    wait_until(lambda: log.settled(0), 10, "the first answers")

    killed = serving.server.kill()
    for message, source, destination in lost:
        filters.drop(message, source=source, destination=destination, first=1)
    serving.server.start()
    wait_until(lambda: log.settled(killed), 10, "answers after the restart")

    ours, theirs = serving.server.host.ipv4, serving.client.host.ipv4
    announced = serving.on_server_cable.matching(Message.INITIATION, source=ours, since=killed)
    answer = serving.on_server_cable.matching(Message.RESPONSE, source=theirs, since=killed)[0]
    attempts = (INITIATION in lost) + (RESPONSE in lost)
    assert answer.receiver == announced[attempts].sender
    heard = serving.on_client_cable.matching(Message.TRANSPORT, source=ours, since=killed)
    assert heard[0].counter == (CONFIRMATION in lost)
    answered = log.first_after(announced[0].time)
    assert answered is not None
    assert answered - announced[0].time < PAPER
