"""A firewall that admits only the published address: recovery is never slower than stock (RECOVERY, 5)."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.lab.filters import Filters
from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

PUBLISHED = "10.77.1.100"
STOCK = 15.7
"""What the same client waits for a restarted wireguard-go: FACTS, section 1."""


@pytest.mark.usefixtures("without_state")
@pytest.mark.parametrize("announce", ["always", "never"])
def test_never_slower_than_stock(usual: Pair, filters: Filters, probes: Probes, announce: str) -> None:
    ours, theirs = usual.server, usual.client
    ours.environment["HANDFAST_ANNOUNCE"] = announce
    ours.host.add_address(PUBLISHED)
    refused = filters.admit_only_from("client", PUBLISHED)
    theirs.knows(ours, endpoint=f"{PUBLISHED}:{ours.port}")
    ours.knows(theirs)
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
