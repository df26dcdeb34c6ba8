"""Greeting peers after a start: RECOVERY, sections 4 and 5."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE

from .network import Datagram, Host, Network

STRICT = Settings(timers="strict", announce=False)
JITTER = 0.334


@pytest.fixture
def network() -> Network:
    return Network(seed=3)


@pytest.fixture
def client(network: Network) -> Host:
    return network.host(STRICT)


def initiations(network: Network, host: Host) -> list[Datagram]:
    return network.sent(host, TYPE_INITIATION)


def times(network: Network, host: Host, since: float) -> list[float]:
    return [round(d.sent_at - since, 6) for d in initiations(network, host)]


# --- when it begins ------------------------------------------------------------------------------


def test_peers_are_greeted_when_the_device_comes_up(network: Network, client: Host) -> None:
    server = network.host()
    server.device.down(network.now)
    server.meet(client)
    network.run(1)
    assert not network.wire
    server.device.up(network.now)
    network.run(0.001)
    assert len(initiations(network, server)) == 1


def test_peers_are_greeted_when_they_are_configured_after_that(network: Network, client: Host) -> None:
    """With `wg setconf` the device comes up empty."""
    server = network.host()
    network.run(1)
    server.meet(client)
    assert len(initiations(network, server)) == 1


def test_peers_are_greeted_when_the_private_key_comes_last(network: Network, client: Host) -> None:
    server = network.host()
    server.configure(InterfaceChange(private_key=bytes(32)))
    server.meet(client)
    network.run(1)
    assert not network.wire
    server.configure(InterfaceChange(private_key=server.key.secret))
    assert len(initiations(network, server)) == 1


def test_peer_is_greeted_when_its_endpoint_comes_last(network: Network, client: Host) -> None:
    server = network.host()
    server.meet(client, endpoint=False)
    network.run(1)
    assert not network.wire
    server.configure(InterfaceChange(peers=(PeerChange(client.key.public, endpoint=client.endpoint),)))
    assert len(initiations(network, server)) == 1


def test_forced_handshakes_that_never_arrived_are_voided_once_the_peer_is_heard(
    network: Network, client: Host
) -> None:
    """It has its session all the while; who caught them could move it."""
    server = network.host(Settings(announce=False))
    server.meet(client, endpoint=False)
    client.meet(server)
    client.send(server, b"x")
    network.run(1)
    network.lose = lambda _: True
    server.initiate(client)
    network.run(100)
    caught = initiations(network, server)[-1]
    network.lose = lambda _: False
    client.send(server, b"on the same session")
    network.run(1)
    network.wire.clear()
    client.deliver([caught.payload], Endpoint("203.0.113.9", 1))
    network.run(0.1)
    assert not network.sent(client, TYPE_RESPONSE)


def test_expired_session_is_none(network: Network, client: Host) -> None:
    """A peer becomes reachable only now; that it had a session minutes ago is no help."""
    server = network.host(Settings(announce=False))
    server.meet(client, endpoint=False)
    client.meet(server)
    client.send(server, b"x")
    network.run(200)
    assert server.peer(client).current is not None
    network.wire.clear()
    server.device.settings = server.device._interface.settings = Settings()
    server.meet(client, keepalive=25)
    assert initiations(network, server)
    assert server.peer(client).recovering


def test_peer_without_a_session_is_greeted_when_its_keepalive_is_switched_on(
    network: Network, client: Host
) -> None:
    server = network.host()
    server.meet(client)
    network.run(200)
    network.wire.clear()
    server.meet(client, keepalive=25)
    assert len(initiations(network, server)) == 1


def test_peer_with_a_session_is_not_greeted_by_a_configuration_that_repeats_itself(
    network: Network, client: Host
) -> None:
    server = network.host()
    client.meet(server)
    server.meet(client)
    network.run(5)
    network.wire.clear()
    server.meet(client)
    network.run(5)
    assert not network.wire


def test_without_announcing_nobody_is_greeted(network: Network, client: Host) -> None:
    server = network.host(Settings(announce=False))
    server.meet(client)
    network.run(100)
    assert not network.wire
    assert server.peer(client).recovery.state == "waiting"  # type: ignore[union-attr]


def test_strict_greets_once_and_then_keeps_to_the_papers_timers(network: Network, client: Host) -> None:
    server = network.host(Settings(timers="strict"))
    began = network.now
    server.meet(client)
    network.run(300)
    sent = times(network, server, began)
    assert sent[0] == 0
    assert all(5 <= later - earlier <= 5 + JITTER for earlier, later in pairwise(sent))
    assert 85 <= sent[-1] <= 100


def test_greeting_again_leaves_sessions_and_greetings_alone(network: Network, client: Host) -> None:
    """As a hook after a start does it."""
    server = network.host()
    silent, lost = network.host(STRICT), network.host(STRICT)
    for other in (client, lost):
        server.meet(other)
        other.meet(server)
    network.run(1)
    server.meet(silent)
    network.run(0.01)
    server.device.peers[lost.key.public].current = None
    network.wire.clear()
    assert server.device.greet(network.now) == 1, "who has neither"
    network.run(0.01)
    assert [d.destination for d in initiations(network, server)] == [lost.endpoint]


@pytest.mark.parametrize("settings", [Settings(announce=False), Settings()], ids=["never", "down"])
def test_greeting_again_announces_nothing_that_a_start_would_not(
    network: Network, client: Host, settings: Settings
) -> None:
    server = network.host(settings)
    server.meet(client)
    if settings.announce:
        server.device.down(network.now)
    network.run(1)
    network.wire.clear()
    assert server.device.greet(network.now) == 0
    network.run(1)
    assert not network.wire


def test_forced_handshake_in_strict_mode_has_its_full_time_again(network: Network, client: Host) -> None:
    server = network.host(Settings(timers="strict"))
    server.meet(client)
    network.run(300)
    network.wire.clear()
    server.initiate(client)
    network.run(50)
    assert len(initiations(network, server)) >= 9


# --- cadence -------------------------------------------------------------------------------------


def test_cadence_is_a_burst_a_silence_and_a_slow_beat_until_90_s(network: Network, client: Host) -> None:
    server = network.host()
    began = network.now
    server.meet(client)
    network.run(700)
    sent = times(network, server, began)
    assert sent[:5] == [0, 0.25, 0.5, 1, 2]
    assert sent[5] - sent[4] >= 12
    for earlier, later in pairwise(sent[5:]):
        assert 15 <= later - earlier <= 15 + JITTER
    assert sent[-1] < 90
    assert len(sent) == 10


def test_after_90_s_a_silent_peer_costs_nothing(network: Network, client: Host) -> None:
    server = network.host()
    server.meet(client)
    network.run(700)
    peer = server.peer(client)
    assert peer.recovery.state == "waiting"  # type: ignore[union-attr]
    assert peer.slots == {}
    assert server.device.next_deadline(network.now) == inf


def test_silence_is_kept_even_if_there_is_something_to_send(network: Network, client: Host) -> None:
    """Each initiation that the client consumes stops its own for 5 s."""
    server = network.host()
    began = network.now
    server.meet(client)
    for _ in range(140):
        network.run(0.1)
        server.send(client, b"data")
    assert times(network, server, began) == [0, 0.25, 0.5, 1, 2]


def test_forced_handshake_takes_over_from_the_papers_retries(network: Network, client: Host) -> None:
    server = network.host(Settings(announce=False))
    server.meet(client)
    server.send(client, b"data")
    network.run(3)
    network.wire.clear()
    began = network.now
    server.initiate(client)
    network.run(14)
    assert times(network, server, began) == [0, 0.25, 0.5, 1, 2]


def test_initiations_keep_their_distance_when_the_loop_was_held_up(network: Network, client: Host) -> None:
    """Real clients ignore those that come closer than 20 ms."""
    server = network.host()
    server.meet(client)
    server.device.freeze(network.now)
    network.run(10)
    server.device.thaw()
    network.run(5)
    sent = times(network, server, 0)
    assert len(sent) == 5
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(sent))


# --- pacing --------------------------------------------------------------------------------------


def crowd(network: Network, count: int, settings: Settings) -> tuple[Host, list[Host]]:
    """A server with peers that are not there."""
    server = network.host(settings)
    server.device.down(network.now)
    others = [network.host(STRICT) for _ in range(count)]
    for other in others:
        server.meet(other)
    server.device.up(network.now)
    return server, others


def receivers(network: Network, server: Host) -> list[tuple[str, int, int]]:
    return [d.destination.address for d in initiations(network, server)]


def test_everyone_gets_a_first_initiation_before_anyone_gets_a_second(network: Network) -> None:
    server, _ = crowd(network, 40, Settings(burst_per_second=20))
    network.run(3)
    assert len(set(receivers(network, server)[:40])) == 40
    network.run(3)
    assert len(set(receivers(network, server)[40:80])) == 40


def test_initiations_of_all_peers_share_one_rate(network: Network) -> None:
    server, _ = crowd(network, 100, Settings(burst_per_second=50))
    network.run(1)
    assert 50 <= len(initiations(network, server)) <= 56
    network.run(1)
    assert 100 <= len(initiations(network, server)) <= 106


def test_cadence_and_90_s_of_a_peer_start_with_its_first_initiation(network: Network) -> None:
    server, others = crowd(network, 30, Settings(burst_per_second=10))
    network.run(200)
    last = [d.sent_at for d in initiations(network, server) if d.destination == others[-1].endpoint]
    assert last[0] > 2
    assert last[-1] - last[0] > 70
    assert all(later - earlier >= 0.2 for earlier, later in pairwise(last))


def test_most_recently_active_peers_come_first(network: Network) -> None:
    server = network.host(Settings(burst_per_second=10))
    others = [network.host(STRICT) for _ in range(8)]
    for other in others:
        server.meet(other, endpoint=False)
        other.meet(server)
    for number in (3, 5, 0, 7, 1, 6, 2, 4):
        others[number].send(server, b"active")
        network.run(1)
    network.wire.clear()
    server.initiate()
    network.run(2)
    order = [others.index(network.hosts[address]) for address in receivers(network, server)[:8]]
    assert order == [4, 2, 6, 1, 7, 0, 5, 3]


def test_peers_that_are_back_or_gone_take_nothing_from_the_rate(network: Network) -> None:
    server = network.host(Settings(burst_per_second=10))
    server.device.down(network.now)
    others = [network.host(STRICT) for _ in range(20)]
    for other in others:
        other.meet(server)
        server.meet(other)
    away = network.host(STRICT)
    server.meet(away)
    network.lose = lambda d: away.endpoint in (d.source, d.destination)
    server.device.up(network.now)
    network.run(2.45)
    assert all(server.peer(other).method == "announced" for other in others)
    to_away = [d.sent_at for d in initiations(network, server) if d.destination == away.endpoint]
    assert len(to_away) >= 2


def test_peer_that_waits_for_its_turn_is_reached_at_once_if_there_is_data(network: Network) -> None:
    server, others = crowd(network, 50, Settings(burst_per_second=1))
    last = others[-1]
    last.meet(server)
    server.send(last, b"urgent")
    network.run(0.1)
    assert last.inbox == [b"urgent"]


def test_what_was_sent_out_of_turn_is_retried_in_its_time(network: Network) -> None:
    server, others = crowd(network, 50, Settings(burst_per_second=1))
    last = others[-1]
    last.meet(server)
    network.lose = lambda d: last.endpoint in (d.source, d.destination)
    server.send(last, b"urgent")
    network.run(1)
    network.lose = lambda _: False
    network.run(5)
    assert last.inbox == [b"urgent"]
    current = server.peer(last).current
    assert current is not None
    assert current.rekey_age < 120, "it was born in a recovery all the same"
