"""What a serving device tells of its sessions, and a successor that knows nothing else: RECOVERY, 6 and 7."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from handfast_tunnel.continuity.layout import HEADER_WORDS, PEER_WORDS, Header
from handfast_tunnel.continuity.state_memory import StateMemory
from handfast_tunnel.continuity.storage import Memory
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange
from handfast_tunnel.core.constants import REJECT_AFTER_TIME
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.handover import ForeignSession, Handed
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT

from .network import Host, Network
from .test_handover import NEVER, Fleet, blank, fleet_of, work


@pytest.fixture
def fleet() -> Fleet:
    return fleet_of(NEVER)


def account(server: Host, since: float | None = None) -> dict[bytes, Handed]:
    pieces = server.device.hand_out(server.network.now, since)
    return {peer.public_key: known for piece in pieces for peer, known in piece}


def learn(server: Host, *accounts: dict[bytes, Handed]) -> None:
    for each in accounts:
        work(server.device.take(each, math.inf, server.network.now))


def lose_old(fleet: Fleet) -> None:
    """It is gone without a word, and the other is told to serve."""
    fleet.flip()
    fleet.new.device.take_charge(fleet.network.now)
    fleet.network.wire.clear()


def is_answered(fleet: Fleet) -> bool:
    """Whether the client's next packet brings a handshake from the new server, and the one after arrives."""
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    return fleet.new.inbox[-1:] == [b"arrives"] and not fleet.network.sent(fleet.client, TYPE_INITIATION)


def test_a_lost_servers_clients_are_answered(fleet: Fleet) -> None:
    learn(fleet.new, account(fleet.old))
    lose_old(fleet)
    assert is_answered(fleet)
    assert fleet.new.peer(fleet.client).method == "answered"


def test_without_an_account_they_are_not(fleet: Fleet) -> None:
    lose_old(fleet)
    assert not is_answered(fleet)


def test_telling_changes_nothing(fleet: Fleet) -> None:
    account(fleet.old)
    fleet.says(b"still here")
    fleet.network.run(1)
    assert fleet.old.inbox[-1] == b"still here"
    assert not fleet.network.sent(fleet.client, TYPE_INITIATION)


def memory() -> StateMemory:
    """One that outlives a process."""
    header = blank(HEADER_WORDS)
    header[Header.PEERS] = 4
    return StateMemory(header, [blank(4 * PEER_WORDS)], lambda: blank(4 * PEER_WORDS))


def crowd(count: int, memory: Memory | None = None) -> tuple[Network, Host, Sequence[Host]]:
    """A server, and clients with sessions."""
    network = Network(seed=8)
    server, clients = network.host(NEVER, memory), [network.host(NEVER) for _ in range(count)]
    for client in clients:
        client.meet(server)
        server.meet(client, endpoint=False)
        client.send(server, b"hello")
    network.run(1)
    return network, server, clients


def test_only_what_is_new_is_told() -> None:
    network, server, clients = crowd(5)
    assert account(server, 1.0).keys() == account(server).keys() == {c.key.public for c in clients}
    since = network.now
    network.run(1)
    for client in clients:
        client.send(server, b"data is nothing new")
    network.run(1)
    assert account(server, since) == {}
    clients[1].initiate(server)
    network.run(1)
    clients[3].roam("10.9.9.9")
    clients[3].send(server, b"from elsewhere")
    network.run(1)
    told = account(server, since)
    assert list(told) == [clients[3].key.public, clients[1].key.public]
    assert told[clients[3].key.public].endpoint == clients[3].endpoint
    assert account(server, network.now) == {}


def test_what_is_told_at_the_same_moment_is_told_again_rather_than_never() -> None:
    network, server, clients = crowd(2)
    clients[0].initiate(server)
    network.run(1)
    moment = server.device._interface._changed[server.peer(clients[0])]
    assert list(account(server, moment)) == [clients[0].key.public]


def test_who_was_removed_is_not_told_of() -> None:
    _, server, clients = crowd(2)
    server.configure(InterfaceChange(peers=(PeerChange(clients[0].key.public, remove=True),)))
    assert list(account(server, 1.0)) == [clients[1].key.public]


def test_a_restarted_server_tells_of_its_sessions_anew() -> None:
    """Whoever asked the former process may have missed its last second."""
    network, server, clients = crowd(3, memory())
    since = network.now
    network.run(1)
    server.boot()
    told = account(server, since)
    assert [len(told[client.key.public].sessions) for client in clients] == [1, 1, 1]


def test_a_standby_keeps_what_it_learned_and_marks_that_rose(fleet: Fleet) -> None:
    """A session that is told anew takes the place that it had, however often."""
    fleet.new.memory = memory()
    fleet.new.boot()
    now = fleet.network.now
    for mark in range(10):
        sessions = tuple(ForeignSession(index, now - index, mark) for index in (1, 2, 3))
        learn(fleet.new, {fleet.client.key.public: Handed(sessions=sessions)})
    fleet.new.boot()
    lost = fleet.new.device._interface.lost
    assert {index: each.highest_received for index, each in lost.items()} == {1: 9, 2: 9, 3: 9}


def test_accounts_may_come_in_any_order_and_twice(fleet: Fleet) -> None:
    first = account(fleet.old)
    fleet.network.run(5)
    fleet.client.roam("10.9.9.9")
    fleet.client.initiate(fleet.old)
    fleet.network.run(1)
    second = account(fleet.old)
    learn(fleet.new, second, first, second)
    assert fleet.new.peer(fleet.client).endpoint == fleet.client.endpoint, "the latest place"
    lose_old(fleet)
    assert is_answered(fleet)


def test_an_index_is_its_youngest_sessions(fleet: Fleet) -> None:
    """It was chosen by a server that did not know the former one's."""
    other = fleet.network.host(NEVER)
    fleet.new.meet(other, endpoint=False)
    now = fleet.network.now
    index = 77
    young = {fleet.client.key.public: Handed(sessions=(ForeignSession(index, now - 1, 0),))}
    old = {other.key.public: Handed(sessions=(ForeignSession(index, now - 9, 0),))}
    for order in ((young, old), (old, young)):
        fleet.new.device._interface.lost.clear()
        learn(fleet.new, *order)
        assert fleet.new.device._interface.lost[index].peer is fleet.new.peer(fleet.client)


def test_marks_of_an_index_only_rise(fleet: Fleet) -> None:
    now = fleet.network.now
    for mark in (5, 9, 7):
        learn(fleet.new, {fleet.client.key.public: Handed(sessions=(ForeignSession(7, now, mark),))})
    assert fleet.new.device._interface.lost[7].highest_received == 9


def test_a_standby_forgets_sessions_that_have_died(fleet: Fleet) -> None:
    learn(fleet.new, account(fleet.old))
    assert fleet.new.device._interface.lost
    fleet.network.run(REJECT_AFTER_TIME)
    fleet.new.device.forget_dead(fleet.network.now)
    assert not fleet.new.device._interface.lost


def test_no_outage_is_counted_where_nobody_knows_its_beginning(fleet: Fleet) -> None:
    fleet.says(b"a moment ago")
    fleet.network.run(0.1)
    learn(fleet.new, account(fleet.old))
    lose_old(fleet)
    assert is_answered(fleet)
    assert fleet.new.device.statistics.outage_across == {}
    assert sum(fleet.new.device.statistics.reconnect_latency["answered"].counts) == 1


def test_old_packets_of_sessions_that_were_told_of_are_not_answered(fleet: Fleet) -> None:
    fleet.says(b"captured")
    fleet.network.run(0.1)
    captured = fleet.network.sent(fleet.client, TYPE_TRANSPORT)[-1]
    learn(fleet.new, account(fleet.old))
    lose_old(fleet)
    fleet.new.deliver([captured.payload], Endpoint("203.0.113.9", 9))
    assert not fleet.network.sent(fleet.new)


def test_strays_from_elsewhere_are_answered_once_and_move_nothing(fleet: Fleet) -> None:
    """As after a handover: RECOVERY, section 6."""
    learn(fleet.new, account(fleet.old))
    lose_old(fleet)
    fleet.network.lose = lambda _: True
    fleet.says(b"stray")
    stray = fleet.network.sent(fleet.client, TYPE_TRANSPORT)[-1]
    for _ in range(20):
        fleet.new.deliver([stray.payload], Endpoint("203.0.113.9", 9))
        fleet.network.run(0.1)
    (sent,) = fleet.network.sent(fleet.new)
    assert (sent.type, sent.destination.address) == (TYPE_INITIATION, Endpoint("203.0.113.9", 9).address)
    assert fleet.new.peer(fleet.client).endpoint == fleet.client.endpoint
