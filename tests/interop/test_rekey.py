"""New keys under traffic, without a lost packet: every role, every implementation, 130 s in all.

While these sessions grow old, the same worker runs other tests that wait (`tests/turns.py`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.lab.filters import Message
from tests.lab.implementations import OTHERS, handfast, implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Log, Probes
from tests.lab.wire import Capture

DURATION = 131


class Sessions:
    """One of ours is called by each of the others; another calls each of the others."""

    def __init__(self, network: Network, probes: Probes) -> None:
        self.network = network
        hub, spoke = (Peer(host, handfast()) for host in self.network.add("hub", "spoke"))
        callers, called = self._others("from"), self._others("to")
        self.pairs = [(caller, hub) for caller in callers] + [(spoke, server) for server in called]
        for caller, target in self.pairs:
            introduce(caller, target)
        self.hub, self.captures = hub, [self._capture(*pair) for pair in self.pairs]
        for peer in (hub, *callers, *called, spoke):
            peer.start()
        for target in (hub, *called):
            probes.answer(target.node)
        self.logs = [probes.ask(caller.node, target.ipv4) for caller, target in self.pairs]
        wait_until(lambda: all(log.settled(0) for log in self.logs), 20, "the first answers")
        self.began = time.monotonic()

    def _others(self, name: str) -> list[Peer]:
        hosts = self.network.add(*(f"{name}-{number}" for number, _ in enumerate(OTHERS)))
        return [Peer(host, implementation(other)) for host, other in zip(hosts, OTHERS, strict=True)]

    def _capture(self, caller: Peer, target: Peer) -> Capture:
        """Where the other implementation is."""
        ours = caller.implementation.name == "handfast"
        return self.network.capture(target.host if ours else caller.host)


@pytest.fixture(scope="session")
def begun() -> Iterator[ExitStack]:
    """What ends with the run, if the last of these tests has not ended it before."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def growing_old(begun: ExitStack) -> Sessions:
    return Sessions(begun.enter_context(Network()), begun.enter_context(Probes()))


@pytest.fixture
def old(growing_old: Sessions, begun: ExitStack, failed: Callable[[], bool]) -> Iterator[Sessions]:
    time.sleep(max(growing_old.began + DURATION - time.monotonic(), 0))
    yield growing_old
    if failed():
        print(growing_old.network.report())
    begun.close()


def test_sessions_begin(growing_old: Sessions) -> None:
    for caller, target in growing_old.pairs:
        assert target.ping(caller)


@pytest.mark.timeout(300)
def test_sessions_renew_themselves_under_traffic(old: Sessions) -> None:
    for (caller, target), log, capture in zip(old.pairs, old.logs, old.captures, strict=True):
        check(caller, target, log, capture, old)


def check(caller: Peer, target: Peer, log: Log, capture: Capture, sessions: Sessions) -> None:
    name = f"{caller.implementation} to {target.implementation}"
    first, *later = capture.matching(Message.INITIATION, source=caller.host.ipv4)
    renewed = [datagram.time - first.time for datagram in later if datagram.time > sessions.began + 10]
    # Ours was born in a recovery, and those renew at a random age of 90 to 120 s (RECOVERY, 4).
    earliest = 119 if target is sessions.hub else 89
    assert renewed, name
    assert earliest < renewed[0] < 127, name
    used = capture.matching(Message.TRANSPORT, source=caller.host.ipv4)
    assert used[-1].receiver != used[0].receiver, name
    lost = len(log.sent) - len(log.arrived)
    assert lost < 0.01 * len(log.sent), name
    assert log.longest_silence(sessions.began) < 3, name
