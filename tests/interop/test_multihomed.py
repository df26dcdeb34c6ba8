"""A server with several addresses answers from the one that was asked, in bulk too (RECOVERY, 5 and 8)."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.interop.transfer import transfer
from tests.lab.filters import Message
from tests.lab.namespaces import wait_until


@pytest.mark.parametrize("version", [4, 6])
def test_answers_leave_from_the_address_that_was_asked(serving: Pair, version: int) -> None:
    ours, theirs = serving.server, serving.client
    second = "10.77.1.50" if version == 4 else "fd77:1::50"
    ours.host.add_address(second)
    theirs.knows(ours, endpoint=f"{second}:{ours.port}" if version == 4 else f"[{second}]:{ours.port}")
    serving.start()
    theirs.reaches(ours)
    assert ours.ping(theirs)
    transfer(ours, theirs, 2_000_000)
    theirs_address = theirs.host.ipv4 if version == 4 else theirs.host.ipv6
    sources = {d.source for d in serving.on_client_cable.matching(destination=theirs_address)}
    assert sources == {second}


def test_a_lost_address_is_replaced(serving: Pair) -> None:
    ours, theirs = serving.server, serving.client
    second = "10.77.1.50"
    ours.host.add_address(second)
    theirs.knows(ours, endpoint=f"{second}:{ours.port}")
    serving.start()
    theirs.reaches(ours)
    ours.node.run("ip", "address", "del", f"{second}/24", "dev", "eth0")
    assert ours.ping(theirs)
    assert serving.on_client_cable.matching(Message.TRANSPORT, source=ours.host.ipv4)
    endpoint = f"{ours.host.ipv4}:{ours.port}"
    wait_until(lambda: theirs.status(ours).endpoint == endpoint, 5, "the client to follow")
    assert theirs.ping(ours)
