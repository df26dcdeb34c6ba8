"""New keys under traffic, without a lost packet: every role, every implementation, 130 s in all."""

from __future__ import annotations

import time

import pytest

from tests.lab.filters import Message
from tests.lab.implementations import OTHERS, Implementation, implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Probes

DURATION = 131


@pytest.mark.timeout(300)
def test_sessions_renew_themselves_under_traffic(
    network: Network, handfast: Implementation, probes: Probes
) -> None:
    # One of ours is called by each of the others; another calls each of the others.
    hub_host, spoke_host = network.add("hub", "spoke")
    hub, spoke = Peer(hub_host, handfast), Peer(spoke_host, handfast)
    others = [implementation(name) for name in OTHERS]
    callers = [Peer(*pair) for pair in zip(network.add("from-1", "from-2", "from-3"), others, strict=True)]
    called = [Peer(*pair) for pair in zip(network.add("to-1", "to-2", "to-3"), others, strict=True)]
    for caller in callers:
        introduce(caller, hub)
    for server in called:
        introduce(spoke, server)
    captures = {peer: network.capture(peer.host) for peer in (*callers, *called)}
    for peer in (hub, *callers, *called, spoke):
        peer.start()

    pairs = [(caller, hub) for caller in callers] + [(spoke, server) for server in called]
    for target in (hub, *called):
        probes.answer(target.node)
    logs = {pair: probes.ask(pair[0].node, pair[1].ipv4) for pair in pairs}
    wait_until(lambda: all(log.settled(0) for log in logs.values()), 20, "the first answers")
    began = time.monotonic()
    time.sleep(DURATION)

    for (caller, target), log in logs.items():
        name = f"{caller.implementation} to {target.implementation}"
        capture = captures[caller if target is hub else target]
        first, *later = capture.matching(Message.INITIATION, source=caller.host.ipv4)
        renewed = [datagram.time - first.time for datagram in later if datagram.time > began]
        # Ours was born in a recovery, and those renew at a random age of 90 to 120 s (RECOVERY, 4).
        earliest = 119 if target is hub else 89
        assert renewed, name
        assert earliest < renewed[0] < 127, name
        used = capture.matching(Message.TRANSPORT, source=caller.host.ipv4)
        assert used[-1].receiver != used[0].receiver, name
        lost = len(log.sent) - len(log.arrived)
        assert lost < 0.01 * len(log.sent), name
        assert log.longest_silence(began) < 3, name
