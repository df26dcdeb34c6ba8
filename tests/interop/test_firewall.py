"""A firewall that admits only the published address: recovery is never slower than stock (RECOVERY, 5)."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.lab.filters import Filters, Rule
from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes
from tests.lab.restarts import end_tree, take_down

PUBLISHED = "10.77.1.100"
STOCK = 15.7
"""What the same client waits for a restarted wireguard-go: FACTS, section 1."""


def behind_a_firewall(pair: Pair, filters: Filters, announce: str) -> Rule:
    """The client asks the published address, and hears no other; what it was refused is counted."""
    pair.server.environment["HANDFAST_ANNOUNCE"] = announce
    pair.server.host.add_address(PUBLISHED)
    pair.client.knows(pair.server, endpoint=f"{PUBLISHED}:{pair.server.port}")
    pair.server.knows(pair.client)
    return filters.admit_only_from("client", PUBLISHED)


@pytest.mark.usefixtures("without_state")
@pytest.mark.parametrize("announce", ["always", "never"])
def test_never_slower_than_stock(usual: Pair, filters: Filters, probes: Probes, announce: str) -> None:
    ours, theirs = usual.server, usual.client
    refused = behind_a_firewall(usual, filters, announce)
    usual.start()
    probes.answer(ours.node)
    log = probes.ask(theirs.node, ours.ipv4)
    wait_until(lambda: log.settled(0), 30, "the first answers")

    before = refused.packets
    killed = ours.kill()
    ours.start()
    wait_until(lambda: log.settled(killed), 30, "answers after the restart")
    assert log.longest_silence(killed) < STOCK + 0.3
    assert (refused.packets > before) == (announce == "always")
    assert theirs.status(ours).endpoint == f"{PUBLISHED}:{ours.port}", "the client was not led away"


def test_answers_take_the_path_that_the_question_came(serving: Pair, filters: Filters) -> None:
    """With its keys lost, it answers the client's next packet from the address that this went to, also where
    it knows the client's endpoint only from a configuration that was edited meanwhile."""
    ours, theirs = serving.server, serving.client
    refused = behind_a_firewall(serving, filters, "never")
    ours.knows(theirs, endpoint=False)
    serving.start()
    theirs.reaches(ours)
    take_down(ours)
    end_tree(ours)
    ours.knows(theirs, endpoint=f"{theirs.host.ipv4}:{theirs.port}")
    ours.start()
    theirs.reaches(ours, timeout=4)
    assert refused.packets == 0
    assert theirs.status(ours).endpoint == f"{PUBLISHED}:{ours.port}"
