"""A successor serves packets before it has looked at all of thousands of peers, and forgets none of them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from bench.commands import numbered, peer_section
from bench.initiators import Initiator, open_sessions

from tests.interop.conftest import Pair
from tests.interop.outliving import handshakes, wait_for_method
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import PORT
from tests.lab.probes import Log, Probes
from tests.lab.restarts import end_tree, kill_worker

pytestmark = pytest.mark.timeout(120)

CROWD = 1000
CROWD_SUBNET = 9
RATE = 200.0
BATCH_IN_HAND = 2
"""At RATE; what the dead worker had read and not yet sent on."""


@dataclass(frozen=True)
class Crowded:
    """A client with a session among thousands; it is the last that a successor looks at by itself."""

    pair: Pair
    crowd: list[Initiator]
    sections: str
    log: Log

    def start_again(self) -> float:
        server = self.pair.server
        at = end_tree(server)
        server.launch()
        server.wg("setconf", server.interface, "/dev/stdin", input=server.configuration() + self.sections)
        server.bring_up()
        return at

    def kill(self) -> float:
        return kill_worker(self.pair.server)

    def kill_twice(self) -> float:
        at = self.kill()
        self.kill()
        return at

    def sessions(self) -> int:
        """Peers that `wg show` lists with a handshake."""
        server = self.pair.server
        listing = server.wg("show", server.interface, "latest-handshakes")
        return sum(int(line.split("\t")[1]) > 0 for line in listing.splitlines())

    def goes_on(self, since: float) -> None:
        wait_until(lambda: self.log.settled(since + 0.05), 10, "answers afterwards")
        wait_for_method(self.pair.server, self.pair.client, "resumed")
        assert not handshakes(self.pair, since)


@pytest.fixture
def crowded(usual: Pair, network: Network, probes: Probes) -> Crowded:
    server, client = usual.server, usual.client
    server.known = {}
    # On a busy machine a crowd would be sent away with cookies again and again.
    server.implementation = server.implementation.hurried(HANDSHAKE_BACKLOG_LIMIT=1e9)
    server.start()
    (host,) = network.add("crowd")
    crowd = [Initiator(number, server.keys.public) for number in range(CROWD)]
    sections = "\n".join(peer_section(c.public_key, numbered(CROWD_SUBNET, c.index)) for c in crowd)
    server.wg("addconf", server.interface, "/dev/stdin", input=sections)
    with host.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        line.connect((server.host.ipv4, PORT))
        assert open_sessions(line, crowd) > CROWD // 2
    server.knows(client, endpoint=False)
    server.wg("addconf", server.interface, "/dev/stdin", input=server.known[client.keys.public].section())
    client.start()
    probes.answer(server.node)
    log = probes.ask(client.node, server.ipv4, rate=RATE)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    return Crowded(usual, crowd, sections, log)


EVENTS: dict[str, Callable[[Crowded], float]] = {
    "worker": Crowded.kill,
    "worker, twice": Crowded.kill_twice,
    "tree": Crowded.start_again,
}


@pytest.mark.parametrize("event", EVENTS)
def test_all_sessions_go_on(crowded: Crowded, event: str) -> None:
    before = crowded.sessions()
    assert before > CROWD // 2
    began = EVENTS[event](crowded)
    assert crowded.sessions() == before
    crowded.goes_on(began)


def test_nothing_is_lost_while_a_successor_looks_at_the_others(crowded: Crowded) -> None:
    began = crowded.kill()
    crowded.goes_on(began)
    time.sleep(0.3)
    end = time.monotonic() - 0.3
    sent = sum(began - 0.1 < at < end for at in crowded.log.sent)
    arrivals = zip(crowded.log.arrived, crowded.log.latency, strict=True)
    answered = sum(began - 0.1 < at - taken < end for at, taken in arrivals)
    assert sent - answered <= BATCH_IN_HAND


def test_a_change_while_a_successor_looks_at_the_others(crowded: Crowded) -> None:
    server, before = crowded.pair.server, crowded.sessions()
    gone, heir = crowded.crowd[-1], crowded.crowd[0]
    inherited = f"{numbered(CROWD_SUBNET, heir.index)}/32,{numbered(CROWD_SUBNET, gone.index)}/32"
    began = crowded.kill()
    server.set("peer", gone.public_key, "remove", "peer", heir.public_key, "allowed-ips", inherited)
    listing = dict(
        line.split("\t") for line in server.wg("show", server.interface, "allowed-ips").splitlines()
    )
    assert gone.public_key not in listing
    assert sorted(listing[heir.public_key].split(" ")) == sorted(inherited.split(","))
    assert len(listing) == CROWD
    assert crowded.sessions() in {before, before - 1}
    crowded.goes_on(began)
    after = crowded.sessions()
    again = crowded.kill()
    assert crowded.sessions() == after
    crowded.goes_on(again)
