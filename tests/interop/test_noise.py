"""Datagrams that nobody asked for harm nothing and get no answer."""

from __future__ import annotations

import socket

import pytest

from tests.interop.conftest import Pair
from tests.lab.adversary import Injector, noise
from tests.lab.filters import Message
from tests.lab.network import Network
from tests.lab.peer import PORT

LARGEST_DATAGRAM = 65_507


@pytest.mark.parametrize("spoofed", [False, True], ids=["own-address", "address-of-the-peer"])
def test_noise_of_every_type_and_size(
    pair: Pair, network: Network, injector: Injector, spoofed: bool
) -> None:
    ours, theirs = pair.ours, pair.theirs
    pair.start()
    pair.client.reaches(pair.server)
    before = ours.status(theirs)
    (mallory,) = network.add("mallory")
    answers = network.filters.count(source=ours.host.name, destination="mallory")
    datagrams = noise(size=1400, count=500, seed=1)
    assert sum(map(len, datagrams)) > 64 * 1024
    target = ours.host.ipv4, PORT
    if spoofed:
        for datagram in datagrams:
            injector.send(datagram, (theirs.host.ipv4, theirs.port), target)
    else:
        datagrams += noise(size=LARGEST_DATAGRAM, count=50, seed=2)
        with mallory.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
            for datagram in datagrams:
                opened.sendto(datagram, target)

    assert theirs.ping(ours)
    assert ours.ping(theirs)
    after = ours.status(theirs)
    assert after.endpoint == before.endpoint
    assert after.latest_handshake == before.latest_handshake
    their_cable = pair.on_client_cable if theirs is pair.client else pair.on_server_cable
    assert len(their_cable.matching(Message.INITIATION)) == 1, "the same session all along"
    assert answers.packets == 0
