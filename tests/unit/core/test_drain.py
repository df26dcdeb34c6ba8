"""Stop owning the sessions without harming them: RECOVERY, section 7."""

from __future__ import annotations

from math import inf

import pytest

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.messages import TYPE_INITIATION

from .network import Host, Network
from .packets import ip_packet

STRICT = Settings(timers="strict", announce=False)


@pytest.fixture
def network() -> Network:
    return Network(seed=7)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    server, client = network.host(), network.host(STRICT)
    client.meet(server)
    server.meet(client, keepalive=25)
    network.run(5)
    client.send(server, b"hello")
    network.run(0.5)
    server.inbox.clear()
    network.wire.clear()
    return server, client


def freeze(host: Host) -> None:
    host.device.freeze(host.network.now)
    host.turn()


def thaw(host: Host) -> None:
    host.device.thaw()
    host.turn()


def test_frozen_device_sends_nothing_whatever_happens(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    stranger = network.host()
    freeze(server)
    server.send(client, b"data")
    server.initiate(client)
    server.meet(stranger)
    client.initiate(server)
    stranger.meet(server)
    for _ in range(40):
        client.send(server, b"data")
        network.run(10)
    assert not network.sent(server)
    assert server.device.next_deadline(network.now) == inf


def test_frozen_device_opens_nothing(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    freeze(server)
    received = server.peer(client).received_bytes
    client.send(server, b"data")
    network.run(1)
    assert server.inbox == []
    assert server.peer(client).received_bytes == received


def test_frozen_device_consumes_no_handshake_message(network: Network, pair: tuple[Host, Host]) -> None:
    """One that was queued just before waits too."""
    server, client = pair
    network.lose = lambda _: True
    client.initiate(server)
    initiation = network.sent(client, TYPE_INITIATION)[0].payload
    server.device.receive([initiation], client.endpoint, network.now)
    assert server.device.handshake_backlog
    mark = server.peer(client).marks.inbound_stamp
    freeze(server)
    assert not server.device.handshake_backlog
    assert server.peer(client).marks.inbound_stamp == mark


def test_drain_expires_nothing(network: Network, pair: tuple[Host, Host]) -> None:
    """A peer whose keys we expired would stay dark for longer, not shorter."""
    server, client = pair
    keypair = server.peer(client).current
    assert keypair is not None
    ceiling = keypair.numbers.ceiling
    freeze(server)
    network.run(10)
    assert server.peer(client).current is keypair
    assert keypair.can_send(network.now)
    assert keypair.numbers.ceiling == ceiling


def test_thawed_device_goes_on_with_its_sessions(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    keypair = server.peer(client).current
    freeze(server)
    network.run(4)
    thaw(server)
    client.send(server, b"up")
    server.send(client, b"down")
    network.run(1)
    assert (server.inbox, client.inbox) == ([b"up"], [b"down"])
    assert server.peer(client).current is keypair
    assert not network.sent(server, TYPE_INITIATION)


def test_timers_that_passed_meanwhile_are_served_after_the_thaw(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.send(server, b"keepalive wanted")
    network.run(1)
    freeze(server)
    network.run(30)
    network.wire.clear()
    thaw(server)
    network.run(0.1)
    assert len(network.sent(server)) >= 1


def test_recovery_that_was_interrupted_goes_on(network: Network) -> None:
    server, client = network.host(), network.host(STRICT)
    network.lose = lambda _: True
    server.meet(client)
    freeze(server)
    network.run(5)
    network.lose = lambda _: False
    client.meet(server)
    thaw(server)
    network.run(2)
    assert server.peer(client).method == "announced"


def test_outage_of_a_peer_that_was_sending_is_measured(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    heard = server.peer(client).last_received
    freeze(server)
    network.run(3)
    thaw(server)
    client.send(server, b"back")
    network.run(0.5)
    histogram = server.device.statistics.outage["resumed"]
    assert sum(histogram.counts) == 1
    assert histogram.sum == pytest.approx(server.peer(client).last_received - heard)
    assert server.peer(client).outage == pytest.approx(histogram.sum)


def test_outage_of_a_silent_peer_is_not(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    network.run(3)
    server.peer(client).marks.last_received = network.now - 2.5
    freeze(server)
    network.run(3)
    thaw(server)
    client.send(server, b"back")
    network.run(0.5)
    assert server.device.statistics.outage == {}
    assert server.peer(client).outage is None


def test_what_was_sealed_but_not_taken_is_not_sent(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.device.send([ip_packet(server.inner, client.inner)], network.now)
    server.device.freeze(network.now)
    assert server.device.take_transmissions() == []


def test_freezing_twice_is_freezing_once(pair: tuple[Host, Host]) -> None:
    server, _ = pair
    freeze(server)
    freeze(server)
    assert server.device.frozen
    thaw(server)
    assert not server.device.frozen
    thaw(server)
    assert not server.device.frozen
