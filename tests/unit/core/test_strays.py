"""Answering packets of sessions whose keys are gone, without becoming a weapon: RECOVERY, section 6."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.cookies import CookieChecker
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.handshake import Initiate
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.token_bucket import TokenBucket

from .network import Datagram, Host, Network

NEVER = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)
ELSEWHERE = Endpoint("203.0.113.9", 4444)
IP_AND_UDP = 28


@pytest.fixture
def network() -> Network:
    return Network(seed=11)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    """A server that lost its keys, but not what its receiver indices stood for, and its client."""
    server, client = network.host(NEVER), network.host(STRICT)
    client.meet(server)
    server.meet(client, endpoint=False)
    client.send(server, b"hello")
    network.run(1)
    lose_keys(server)
    return server, client


def lose_keys(server: Host) -> None:
    server.device.down(server.network.now)
    server.device.up(server.network.now)
    server.network.wire.clear()


def stray(client: Host, server: Host) -> bytes:
    """What the client sends next, kept from the network."""
    client.network.lose = lambda _: True
    client.send(server, b"stray")
    client.network.lose = lambda _: False
    return client.network.sent(client, TYPE_TRANSPORT)[-1].payload


def silence(host: Host) -> None:
    host.network.lose = lambda datagram: datagram.sender is host


def answers(network: Network, server: Host) -> list[Datagram]:
    return network.sent(server, TYPE_INITIATION)


def test_client_is_back_one_and_a_half_round_trips_after_its_next_packet(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.send(server, b"lost")
    network.run(0.045)
    client.send(server, b"arrives")
    network.run(0.02)
    assert server.inbox[-1] == b"arrives"
    assert server.peer(client).method == "answered"


def test_nobody_is_answered_who_did_not_ask(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    silence(client)
    network.run(100)
    assert not network.sent(server)


def test_cadence_runs_to_the_last_authenticated_address(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.deliver([stray(client, server)], client.endpoint)
    network.lose = lambda _: True
    began = network.now
    network.run(14)
    sent = answers(network, server)
    assert [round(d.sent_at - began, 6) for d in sent] == [0, 0.25, 0.5, 1, 2]
    assert {d.destination for d in sent} == {client.endpoint}


def strangers(count: int) -> tuple[PeerChange, ...]:
    """Peers that never answer."""
    keys = [number.to_bytes(31, "big") + b"k" for number in range(count)]
    return tuple(
        PeerChange(key, endpoint=where) for key, where in zip(keys, elsewhere(range(count)), strict=True)
    )


def greeted_behind_many(network: Network) -> tuple[Host, Host, bytes]:
    """1,000 peers are being greeted, 500 a second, and the client is the last; and a stray of its."""
    server, client = network.host(NEVER), network.host(STRICT)
    client.meet(server)
    server.meet(client, endpoint=False)
    client.send(server, b"hello")
    network.run(1)
    server.configure(InterfaceChange(peers=strangers(1000)))
    lose_keys(server)
    server.device.initiate([key for key in server.device.peers if key != client.key.public], network.now)
    server.initiate(client)
    return server, client, stray(client, server)


def test_who_sends_is_greeted_before_those_who_may_not_even_be_there(network: Network) -> None:
    server, client, packet = greeted_behind_many(network)
    network.run(0.1)
    server.deliver([packet], client.endpoint)
    network.run(0.004)
    assert client.endpoint in {d.destination for d in answers(network, server)}
    assert server.device.statistics.strays == {"answered": 1}
    network.run(1)
    assert server.peer(client).method == "answered"


def with_lost_sessions(network: Network, server: Host, count: int) -> list[Host]:
    """Clients that had a session each, of which the server lost the keys."""
    clients = [network.host(STRICT) for _ in range(count)]
    for client in clients:
        client.meet(server)
        server.meet(client, endpoint=False)
        client.send(server, b"x")
    network.run(1)
    lose_keys(server)
    return clients


def test_within_the_limit_and_in_the_order_in_which_they_ask(network: Network) -> None:
    server = network.host(NEVER)
    clients = with_lost_sessions(network, server, 100)
    packets = [stray(client, server) for client in clients]
    network.lose = lambda _: True
    for packet, client in zip(packets, clients, strict=True):
        server.deliver([packet], client.endpoint)
    assert len(answers(network, server)) == 50, "the burst"
    network.run(0.11)
    assert [d.destination for d in answers(network, server)] == [client.endpoint for client in clients]


def test_what_changes_nothing_is_not_counted_as_answered(network: Network) -> None:
    server, client, packet = greeted_behind_many(network)
    for _ in range(3):
        server.deliver([packet], client.endpoint)
    network.lose = lambda _: True
    network.run(0.1)
    server.deliver([packet], client.endpoint)
    assert server.device.statistics.strays == {"answered": 1, "under_way": 3}


def test_latency_is_counted_from_the_first_stray(network: Network) -> None:
    server, client, packet = greeted_behind_many(network)
    server.device._startup._bucket = TokenBucket(1, 1)
    server.device._startup._bucket.take(network.now)
    server.deliver([packet], client.endpoint)
    network.run(1.5)
    assert server.device.statistics.reconnect_latency["answered"].sum == pytest.approx(1.02, abs=0.001)


def test_cadence_leaves_from_the_address_that_the_stray_came_to(
    network: Network, pair: tuple[Host, Host]
) -> None:
    """Where the endpoint was only configured, nothing else says which of our addresses the peer knows."""
    server, client = pair
    reached, other = (client.endpoint._replace(local=bytes([10, 0, 0, last]), interface=3) for last in (1, 2))
    server.peer(client).endpoint = client.endpoint
    strays = [stray(client, server), stray(client, server)]
    silence(server)
    for packet, path in zip(strays, (reached, other), strict=True):
        server.device.receive([packet], path, network.now)
        network.run(0.1)
        assert server.peer(client).endpoint == reached, "it is no way to choose another one"


def test_other_source_gets_one_initiation_and_no_repeats(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.deliver([stray(client, server)], ELSEWHERE)
    silence(client)
    network.run(100)
    (answer,) = answers(network, server)
    assert answer.destination == ELSEWHERE


def test_stray_never_moves_the_stored_endpoint(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    before = server.peer(client).endpoint
    server.deliver([stray(client, server)], ELSEWHERE)
    network.run(1)
    assert server.peer(client).endpoint == before


def test_only_the_authenticated_response_does(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.roam("10.6.6.6", 6)
    client.send(server, b"from my new address")
    network.run(1)
    assert server.peer(client).endpoint.address == client.endpoint.address  # type: ignore[union-attr]
    client.send(server, b"arrives")
    network.run(0.1)
    assert server.inbox[-1] == b"arrives"


def test_answer_is_at_most_three_times_what_came(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.device._transport.keepalive(client.peer(server), network.now)
    network.lose = lambda _: True
    client.turn()
    smallest = network.sent(client, TYPE_TRANSPORT)[-1].payload
    server.deliver([smallest], ELSEWHERE)
    (answer,) = answers(network, server)
    assert len(answer.payload) + IP_AND_UDP <= 3 * (len(smallest) + IP_AND_UDP)


def elsewhere(numbers: Iterable[int]) -> list[Endpoint]:
    """Addresses in as many networks."""
    return [Endpoint(f"198.{number // 256}.{number % 256}.1", 1) for number in numbers]


def test_other_sources_are_answered_rarely_and_ever_more_rarely(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    packet = stray(client, server)
    silence(client)
    for source in elsewhere(range(170)):
        server.deliver([packet], source)
        network.run(1)
    times = [d.sent_at for d in answers(network, server)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) >= 4
    assert all(later >= 2 * earlier - 1 for earlier, later in pairwise(pauses))
    assert pauses[0] >= 5


def test_limit_is_per_peer_however_many_sessions_it_lost(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    packets = [stray(client, server)]
    for _ in range(2):
        network.run(6)
        client.initiate(server)
        network.run(1)
        lose_keys(server)
        packets.append(stray(client, server))
    network.wire.clear()
    for source, packet in zip(elsewhere(range(3)), packets, strict=True):
        server.deliver([packet], source)
    assert len(answers(network, server)) == 1


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        ("198.51.100.1", "198.51.100.200", "198.51.101.1"),
        ("2001:db8:0:1::1", "2001:db8:0:ff::2", "2001:db8:0:100::1"),
    ],
)
def test_addresses_of_one_network_share_a_budget(network: Network, one: str, other: str, far: str) -> None:
    server = network.host(NEVER)
    packets = []
    for _ in range(12):
        client = network.host(STRICT)
        client.meet(server)
        server.meet(client, endpoint=False)
        client.send(server, b"x")
        network.run(0.1)
        packets.append((client, server))
    lose_keys(server)
    strays = [stray(client, server) for client, server in packets]
    network.wire.clear()
    for packet, host in zip(strays, [one, other] * 5 + [far] * 2, strict=True):
        server.deliver([packet], Endpoint(host, 1))
    assert len(answers(network, server)) == 5 + 2


def test_no_more_than_50_answers_a_second_overall(network: Network) -> None:
    server = network.host(NEVER)
    clients = with_lost_sessions(network, server, 60)
    strays = [stray(client, server) for client in clients]
    network.wire.clear()
    for packet, source in zip(strays, elsewhere(range(60)), strict=True):
        server.deliver([packet], source)
    assert len(answers(network, server)) == 50


def test_addresses_of_the_cluster_share_the_pace_of_all(network: Network) -> None:
    """Behind a Service all clients can have one address, so that it is no sign of an attack."""
    shared = (Prefix(b"\x0a\x64\0\0", 16), Prefix(b"\xfd" + bytes(15), 8))
    server = network.host(Settings(announce=False, shared_networks=shared, burst_per_second=600))
    clients = with_lost_sessions(network, server, 100)
    packets = [stray(client, server) for client in clients]
    network.wire.clear()
    network.lose = lambda _: True
    for port, packet in enumerate(packets[:80], 1):
        server.deliver([packet], Endpoint("10.100.7.7" if port % 2 else "fd00::7", port))
    assert len(answers(network, server)) == 50, "the burst of all"
    for packet, source in zip(packets[80:], elsewhere(range(20)), strict=True):
        server.deliver([packet], source)
    assert len(answers(network, server)) == 70, "others have their own limits"
    network.run(0.1)
    server.deliver([packets[0]], Endpoint("10.100.7.7", 1))
    assert len(answers(network, server)) == 70, "each peer has its own everywhere"


@pytest.mark.parametrize("length", [0, 8, 31])
def test_short_packet_is_not_answered(network: Network, pair: tuple[Host, Host], length: int) -> None:
    server, client = pair
    server.deliver([stray(client, server)[:length]], client.endpoint)
    assert not answers(network, server)


def test_unknown_index_is_not_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    packet = stray(client, server)
    server.deliver([packet[:4] + b"none" + packet[8:]], client.endpoint)
    assert not answers(network, server)
    assert server.device.statistics.strays["unknown_index"] == 1


def test_counter_that_was_seen_is_not_answered(network: Network) -> None:
    """A recorded packet is worth nothing."""
    server, client = network.host(NEVER), network.host(STRICT)
    client.meet(server)
    server.meet(client, endpoint=False)
    client.send(server, b"recorded")
    network.run(1)
    recorded = network.sent(client, TYPE_TRANSPORT)[-1].payload
    lose_keys(server)
    server.deliver([recorded], client.endpoint)
    server.deliver([recorded], ELSEWHERE)
    assert not answers(network, server)
    assert server.device.statistics.strays["old_counter"] == 2


def test_session_older_than_180_s_is_not_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    packet = stray(client, server)
    network.run(185)
    network.wire.clear()
    server.deliver([packet], client.endpoint)
    assert not answers(network, server)


def test_who_has_a_session_again_is_not_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    packet = stray(client, server)
    client.initiate(server)
    network.run(1)
    network.wire.clear()
    server.deliver([packet], client.endpoint)
    server.deliver([packet], ELSEWHERE)
    assert not answers(network, server)


def test_who_missed_the_confirmations_is_told_again_once_a_second(
    network: Network, pair: tuple[Host, Host]
) -> None:
    """It goes on sending on the lost session, until it hears of the new one."""
    server, client = pair
    network.lose = lambda d: d.sender is server and d.type == TYPE_TRANSPORT and network.now < began + 3
    began = network.now
    for _ in range(60):
        client.send(server, b"x")
        network.run(0.1)
    told = [d.sent_at - began for d in network.sent(server, TYPE_TRANSPORT)]
    late = [at for at in told if at > 2]
    assert len(late) == 2, told
    assert late[1] - late[0] >= 1
    assert server.device.statistics.strays["confirmed"] >= len(late)
    assert server.peer(client).current.heard  # type: ignore[union-attr]


def test_only_where_it_is_known_to_be(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    packets = [stray(client, server) for _ in range(2)]
    network.lose = lambda d: d.sender is server and d.type == TYPE_TRANSPORT
    client.send(server, b"x")
    network.run(3)
    network.wire.clear()
    server.deliver([packets[0]], ELSEWHERE)
    assert not network.sent(server)
    assert server.device.statistics.strays["has_session"] == 1


def test_new_indices_avoid_those_that_are_remembered(
    network: Network, pair: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, client = pair
    (old,) = server.device._interface.lost
    draws = iter([old.to_bytes(4, "little"), b"new!"])
    monkeypatch.setattr("handfast_tunnel.core.interface.os.urandom", lambda _size: next(draws))
    server.initiate(client)
    assert network.sent(server, TYPE_INITIATION)[0].payload[4:8] == b"new!"


def test_frozen_device_answers_nobody(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.device.freeze(network.now)
    server.deliver([stray(client, server)], client.endpoint)
    network.run(5)
    assert not network.sent(server)


# --- a cookie for an answer ----------------------------------------------------------------------


def cookie_reply(answer: Datagram, client: Host) -> bytes:
    """Whoever holds an initiation can make one that opens."""
    return CookieChecker(client.key.public).reply(answer.payload, answer.source, answer.sent_at)


def has_mac2(datagram: Datagram) -> bool:
    return any(datagram.payload[-16:])


@pytest.mark.parametrize("knows_where", [True, False])
def test_cookie_for_an_answer_is_used_where_the_answer_went(
    network: Network, pair: tuple[Host, Host], knows_where: bool
) -> None:
    """A loaded client that moved is not at its former address."""
    server, client = pair
    if not knows_where:
        server.peer(client).endpoint = None
    server.deliver([stray(client, server)], ELSEWHERE)
    (answer,) = answers(network, server)
    server.deliver([cookie_reply(answer, client)], ELSEWHERE)
    silence(client)
    network.run(100)
    _, retried = answers(network, server)
    assert retried.destination == ELSEWHERE
    assert has_mac2(retried)


def test_cookie_that_a_stranger_planted_is_not_used_for_the_peer(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    packets = [stray(client, server) for _ in range(2)]
    server.deliver([packets[0]], ELSEWHERE)
    server.deliver([cookie_reply(answers(network, server)[0], client)], ELSEWHERE)
    server.deliver([packets[1]], client.endpoint)
    last = answers(network, server)[-1]
    assert last.destination == client.endpoint
    assert not has_mac2(last)


def test_nor_does_it_take_the_place_of_the_peers_own(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    silence(client)
    server.initiate(client)
    server.deliver([cookie_reply(answers(network, server)[0], client)], client.endpoint)
    assert has_mac2(answers(network, server)[-1])
    server.deliver([stray(client, server)], ELSEWHERE)
    elsewhere = answers(network, server)[-1]
    assert elsewhere.destination == ELSEWHERE
    assert not has_mac2(elsewhere)
    server.deliver([cookie_reply(elsewhere, client)], ELSEWHERE)
    server.initiate(client)
    assert has_mac2(answers(network, server)[-1])


# --- a hoarded initiation ------------------------------------------------------------------------


def test_hoarded_initiation_is_void_once_the_client_is_back(
    network: Network, pair: tuple[Host, Host]
) -> None:
    """Whoever sends a stray from elsewhere gets an initiation, which would move the client's endpoint
    there if it were the newest that the client sees."""
    server, client = pair
    server.deliver([stray(client, server)], ELSEWHERE)
    (hoarded,) = answers(network, server)
    client.initiate(server)
    network.run(3)
    assert server.peer(client).current is not None
    network.wire.clear()
    client.deliver([hoarded.payload], ELSEWHERE)
    network.run(1)
    assert client.peer(server).endpoint.address == server.endpoint.address  # type: ignore[union-attr]
    assert not network.sent(client)


def test_an_initiation_that_overtakes_an_answer_is_sent_again(network: Network) -> None:
    """A session is there, but a newer initiation than the one that was answered was lost."""
    server, client = network.connected_pair()
    network.run(25)
    server.initiate(client)
    network.lose = lambda datagram: datagram.sender is server
    network.run(0.015)
    server.device._handshakes.initiate(server.peer(client), network.now, Initiate.RECOVERY)
    server.turn()
    network.lose = lambda _: False
    lost = answers(network, server)[-1]
    network.run(8)
    network.wire.clear()
    client.deliver([lost.payload], ELSEWHERE)
    network.run(1)
    assert not network.sent(client)


def test_peer_is_not_back_before_the_newest_initiation_to_any_address_was_answered(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    server.deliver([stray(client, server)], client.endpoint)
    packet = stray(client, server)
    network.run(0.005)
    server.deliver([packet], ELSEWHERE)
    network.run(3)
    assert server.peer(client).method == "answered"
    assert not server.peer(client).unanswered_initiation
    last = answers(network, server)[-1]
    assert last.destination.address == client.endpoint.address


@pytest.fixture
def late_answer(network: Network, pair: tuple[Host, Host]) -> Datagram:
    """Two strays from two addresses were answered. The client's answer to the older initiation arrives
    when somebody else has the newer one; returned is that one."""
    server, client = pair
    packets = [stray(client, server) for _ in range(2)]
    server.deliver([packets[0]], Endpoint("198.51.100.1", 1))
    network.run(6)
    server.deliver([packets[1]], ELSEWHERE)
    older, newest = answers(network, server)
    network.wire.clear()
    client.deliver([older.payload], server.endpoint)
    network.run(0.03)
    assert server.peer(client).current is not None, "the late answer gave it a session"
    return newest


def test_late_answer_to_an_older_stray_does_not_bring_the_peer_back(
    network: Network, pair: tuple[Host, Host], late_answer: Datagram
) -> None:
    server, client = pair
    assert server.peer(client).method is None
    assert server.peer(client).unanswered_initiation
    network.run(3)
    (voiding,) = answers(network, server)
    assert voiding.destination.address == client.endpoint.address
    assert server.peer(client).method == "answered"
    network.wire.clear()
    client.deliver([late_answer.payload], ELSEWHERE)
    network.run(1)
    assert client.peer(server).endpoint.address == server.endpoint.address  # type: ignore[union-attr]
    assert not network.sent(client)


def test_newest_stray_that_is_answered_after_all_needs_no_other(
    network: Network, pair: tuple[Host, Host], late_answer: Datagram
) -> None:
    server, client = pair
    client.deliver([late_answer.payload], server.endpoint)
    network.run(3)
    assert server.peer(client).method == "answered"
    assert not answers(network, server)


@pytest.mark.usefixtures("late_answer")
def test_voiding_initiation_that_is_lost_is_repeated(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    network.lose = lambda d: d.sender is server and len(answers(network, server)) == 1
    network.run(3)
    assert len(answers(network, server)) == 2
    assert server.peer(client).method == "answered"
    latency = server.device.statistics.reconnect_latency["answered"]
    assert sum(latency.counts) == 1
    assert latency.sum == pytest.approx(6.01), "from the first stray"
