"""Sessions born in a recovery renew themselves early, each at its own random age (RECOVERY, 4)."""

from __future__ import annotations

import time

import pytest

from tests.interop.conftest import make_pair
from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.probes import Probes
from tests.lab.restarts import lose_keys
from tests.lab.wire import session_completed

EARLY = (1.5, 2.5)
"""Instead of 90 to 120 s."""


@pytest.mark.parametrize("method", ["announced", "answered"])
def test_a_session_of_a_recovery_is_renewed_early(
    network: Network, handfast: Implementation, other: Implementation, probes: Probes, method: str
) -> None:
    hurried = handfast.hurried(RECOVERY_REKEY_AGE=EARLY, REKEY_TIMEOUT=0.2)
    pair = make_pair(network, hurried, other, handfast_serves=True)
    server, client, capture = pair.server, pair.client, pair.on_client_cable
    began = 0.0
    if method == "announced":
        server.knows(client)
        pair.start()
    else:
        server.environment["HANDFAST_ANNOUNCE"] = "never"
        pair.start()
        client.reaches(server)
        began = lose_keys(server)
        client.reaches(server)
    born = capture.wait_for(lambda: session_completed(capture, began), 5, "a session").time
    probes.stream(server.node, client.node, client.ipv4)
    (renewal, *_) = capture.wait(Message.INITIATION, source=server.host.ipv4, since=born + 0.2, timeout=6)
    assert renewal.time - born > EARLY[0] - 0.1
    time.sleep(0.3)
    assert session_completed(capture, renewal.time - 0.01)
