"""Both sides of the handshake: the paper's section 5, and RECOVERY, section 3."""

from __future__ import annotations

from itertools import pairwise

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange
from handfast_tunnel.core.constants import HANDSHAKE_DSCP
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import (
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)

from .handshakes import QUIET, STRICT, completed, lose, make_network, make_pair  # noqa: F401
from .memories import LastingMemory
from .network import Datagram, Host, Network
from .vectors import standards

PSK = b"\x77" * 32
ELSEWHERE = Endpoint("203.0.113.9", 4444)


# --- one handshake -------------------------------------------------------------------------------


def test_first_packet_costs_one_handshake_and_is_its_confirmation(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.send(server, b"first")
    network.run(0.05)
    assert [d.type for d in network.wire] == [TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT]
    assert server.inbox == [b"first"]
    assert (completed(client, "initiator"), completed(server, "responder")) == (1, 1)


def test_initiator_confirms_with_a_keepalive_if_nothing_waits(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.initiate(server)
    network.run(0.05)
    assert [len(d.payload) for d in network.wire] == [148, 92, 32]
    assert server.peer(client).current is not None


def test_responder_does_not_use_its_keys_before_they_are_confirmed(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    lose(network, client, TYPE_TRANSPORT)
    client.send(server, b"lost")
    network.run(0.05)
    assert server.peer(client).current is None
    server.send(client, b"waits")
    network.run(0.05)
    assert not network.sent(server, TYPE_TRANSPORT)


def test_preshared_key_of_both_sides_must_be_the_same(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.meet(client, psk=PSK)
    client.send(server, b"waits")
    network.run(1)
    assert client.device.statistics.handshakes["initiator", "invalid"] == 1
    client.meet(server, psk=PSK)
    network.run(6)
    assert server.inbox == [b"waits"]


def test_preshared_key_can_change_at_run_time(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.send(server, b"one")
    network.run(1)
    for host, other in (pair, pair[::-1]):
        host.meet(other, psk=PSK)
    client.send(server, b"still on the old keys")
    network.run(130)
    client.send(server, b"rekeys")
    network.run(1)
    client.send(server, b"on the new keys")
    network.run(1)
    assert server.inbox == [b"one", b"still on the old keys", b"rekeys", b"on the new keys"]
    assert completed(client, "initiator") == 2


def test_response_moves_the_endpoint_to_where_it_came_from(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.initiate(server)
    network.run(0.015)
    server.roam("10.4.4.4")
    network.inject(network.sent(server, TYPE_RESPONSE)[0], source=server.endpoint)
    network.run(0.001)
    assert client.peer(server).endpoint.address == server.endpoint.address  # type: ignore[union-attr]


def test_unknown_peer_is_not_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.configure(InterfaceChange(peers=(PeerChange(client.key.public, remove=True),)))
    client.send(server, b"who are you")
    network.run(1)
    assert not network.sent(server)
    assert server.device.statistics.handshakes["responder", "invalid"] == 1


def test_wrong_mac1_is_dropped_before_any_work(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    lose(network, client)
    client.send(server, b"lost")
    payload = bytearray(network.wire[0].payload)
    payload[116] ^= 1
    network.inject(network.wire[0], payload=bytes(payload))
    network.run(0.1)
    assert server.device.statistics.dropped["mac1"] == 1
    assert not server.device.handshake_backlog


def test_handshake_messages_leave_with_dscp_af41(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.send(server, b"x")
    network.run(0.1)
    classes = {d.traffic_class for d in network.wire if d.type != TYPE_TRANSPORT}
    assert classes == {HANDSHAKE_DSCP} == {0x88}


def test_peer_whose_key_is_of_low_order_costs_nothing_and_is_never_sent_to(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, _ = pair
    for point in standards("x25519")["low_order_points"]:
        change = PeerChange(point, endpoint=Endpoint("10.9.9.9", 1), persistent_keepalive=1)
        server.configure(InterfaceChange(peers=(change,)))
    network.run(10)
    assert not network.sent(server)
    assert server.device.statistics.dropped["low_order_key"] > 0


# --- timestamps: RECOVERY, section 3 -------------------------------------------------------------


def replay_elsewhere(network: Network, datagram: Datagram) -> None:
    network.inject(datagram, source=ELSEWHERE)
    network.run(0.05)


def test_replayed_initiation_is_not_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.send(server, b"x")
    network.run(1)
    answers = len(network.sent(server, TYPE_RESPONSE))
    replay_elsewhere(network, network.sent(client, TYPE_INITIATION)[0])
    assert len(network.sent(server, TYPE_RESPONSE)) == answers
    assert server.device.statistics.handshakes["responder", "replayed"] == 1
    assert server.peer(client).endpoint.address == client.endpoint.address  # type: ignore[union-attr]


def test_stamps_rise_strictly_even_if_the_clock_runs_back(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    lose(network, client)
    for skew in (0, -3600, 10, 10, -7200):
        client.clock_skew = skew
        client.initiate(server)
        network.run(0.01)
    stamps = [server.stamp_of(d) for d in network.sent(client, TYPE_INITIATION)]
    assert len(stamps) >= 5
    assert all(earlier < later for earlier, later in pairwise(stamps))


def test_successor_on_a_slower_clock_is_not_locked_out(network: Network) -> None:
    memory = LastingMemory()
    server, client = network.host(memory=memory), network.host(STRICT)
    client.meet(server)
    server.meet(client)
    network.run(1)
    server.clock_skew = -3600
    server.crash(memory)
    network.run(1)
    assert server.peer(client).method == "announced"


def test_stamp_is_stored_before_it_is_sent(network: Network) -> None:
    memory = LastingMemory()
    server, client = network.host(QUIET, memory), network.host(STRICT)
    stored: list[int] = []

    def note(_: Datagram) -> bool:
        stored.append(memory.marks[client.key.public].outbound_stamp)
        return True

    network.lose = note
    server.meet(client)
    server.send(client, b"x")
    assert len(stored) == 1
    assert stored[0] > 0


@pytest.fixture
def hoarded(network: Network, pair: tuple[Host, Host]) -> list[Datagram]:
    """Three initiations of the client, each later than the other, of which the server saw the last."""
    server, client = pair
    lose(network, client, TYPE_INITIATION)
    for _ in range(2):
        client.initiate(server)
        network.run(1)
    network.lose = lambda _: False
    client.initiate(server)
    network.run(1)
    assert server.peer(client).current is not None
    return network.sent(client, TYPE_INITIATION)


def test_exact_inbound_mark_refuses_every_older_initiation(
    network: Network, pair: tuple[Host, Host], hoarded: list[Datagram]
) -> None:
    server, _ = pair
    network.wire.clear()
    for initiation in hoarded:
        replay_elsewhere(network, initiation)
    assert not network.sent(server)


def test_inbound_mark_outlives_the_process_where_memory_does(network: Network) -> None:
    memory = LastingMemory()
    server, client = network.host(QUIET, memory), network.host(STRICT)
    server.meet(client, endpoint=False)
    client.meet(server)
    client.send(server, b"x")
    network.run(1)
    initiation = network.sent(client, TYPE_INITIATION)[0]
    server.crash(memory)
    network.wire.clear()
    replay_elsewhere(network, initiation)
    assert not network.sent(server)


def test_without_an_exact_mark_an_old_initiation_does_not_move_the_endpoint(
    network: Network, pair: tuple[Host, Host], hoarded: list[Datagram]
) -> None:
    """It is answered, to where it came from: it may be genuine. Only the confirmation proves it."""
    server, client = pair
    server.crash()
    network.wire.clear()
    for initiation in hoarded:
        replay_elsewhere(network, initiation)
        assert server.peer(client).endpoint.address == client.endpoint.address  # type: ignore[union-attr]
    assert {d.destination.address for d in network.sent(server)} == {ELSEWHERE.address}
    assert server.peer(client).current is None


def test_without_an_exact_mark_a_genuine_client_is_adopted_where_it_confirms(network: Network) -> None:
    server, client = network.pair()
    client.roam("10.7.7.7", 7777)
    client.send(server, b"here I am")
    network.run(0.025)
    assert network.sent(server, TYPE_RESPONSE)
    assert server.peer(client).endpoint is None
    network.run(0.025)
    assert server.inbox == [b"here I am"]
    assert server.peer(client).endpoint.address == client.endpoint.address  # type: ignore[union-attr]


def test_with_an_exact_mark_an_initiation_moves_the_endpoint(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.send(server, b"x")
    network.run(1)
    client.roam("10.7.7.7", 7777)
    lose(network, client, TYPE_TRANSPORT)
    client.initiate(server)
    network.run(0.1)
    assert server.peer(client).endpoint.address == client.endpoint.address  # type: ignore[union-attr]


# --- floods --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("spacing", "answers"), [(0.019, 30), (0.025, 60)])
def test_initiations_of_a_peer_closer_than_20_ms_are_ignored(
    network: Network, pair: tuple[Host, Host], spacing: float, answers: int
) -> None:
    server, client = pair
    lose(network, server)
    for _ in range(60):
        client.initiate(server)
        network.run(spacing)
    assert abs(len(network.sent(server, TYPE_RESPONSE)) - answers) <= 1
