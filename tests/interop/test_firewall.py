"""A firewall that admits only the published address: recovery is never slower than stock (RECOVERY, 5)."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.lab.filters import Filters, Rule
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer
from tests.lab.probes import Probes
from tests.lab.restarts import end_tree, take_down

STOCK = 15.7
"""What the same client waits for a restarted wireguard-go: FACTS, section 1."""


def published(server: Peer) -> str:
    return f"10.77.{server.host.number}.100"


def behind_a_firewall(pair: Pair, filters: Filters, announce: str) -> Rule:
    """The client asks the published address, and hears no other; what it was refused is counted."""
    address = published(pair.server)
    pair.server.environment["HANDFAST_ANNOUNCE"] = announce
    pair.server.host.add_address(address)
    pair.client.knows(pair.server, endpoint=f"{address}:{pair.server.port}")
    pair.server.knows(pair.client)
    return filters.admit_only_from(pair.client.host.name, address)


class Restarted:
    """A server that forgets everything, and a client that sends all the time."""

    def __init__(self, pair: Pair, filters: Filters, probes: Probes, announce: str) -> None:
        self.pair, self.announces = pair, announce == "always"
        self.refused = behind_a_firewall(pair, filters, announce)
        pair.start()
        probes.answer(pair.server.node)
        self.log = probes.ask(pair.client.node, pair.server.ipv4)
        wait_until(lambda: self.log.settled(0), 30, "the first answers")
        self.before = self.refused.packets
        self.killed = pair.server.kill()
        pair.server.start()

    def check(self) -> None:
        wait_until(lambda: self.log.settled(self.killed), 30, "answers after the restart")
        assert self.log.longest_silence(self.killed) < STOCK + 0.3
        assert (self.refused.packets > self.before) == self.announces
        server = self.pair.server
        endpoint = self.pair.client.status(server).endpoint
        assert endpoint == f"{published(server)}:{server.port}", "the client was not led away"


@pytest.mark.usefixtures("without_state")
def test_never_slower_than_stock(
    network: Network, handfast: Implementation, wireguard_go: Implementation, filters: Filters, probes: Probes
) -> None:
    """Whether the server announces or not; both at once, since their clients take their 15 s."""
    both = []
    for announce in ("always", "never"):
        pair = make_pair(network, handfast, wireguard_go, handfast_serves=True, names=f"-{announce}")
        both.append(Restarted(pair, filters, probes, announce))
    for each in both:
        each.check()


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
    assert theirs.status(ours).endpoint == f"{published(ours)}:{ours.port}"
