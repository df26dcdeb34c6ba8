"""Both sides of the handshake: RECOVERY, sections 3 and 4, and the paper's section 5."""

from __future__ import annotations

from itertools import pairwise

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.constants import HANDSHAKE_DSCP, HANDSHAKE_SLOTS
from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import (
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from handfast_tunnel.core.noise import mac1_key

from .memories import LastingMemory
from .network import Datagram, Host, Network
from .vectors import standards

PSK = b"\x77" * 32
ELSEWHERE = Endpoint("203.0.113.9", 4444)
QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)


@pytest.fixture
def network() -> Network:
    return Network(seed=4)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    """A server that would use the recovery's rules, and a client like any other; each knows the other."""
    server, client = network.host(QUIET), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    return server, client


def lose(network: Network, sender: Host, *types: int) -> None:
    network.lose = lambda d: d.sender is sender and (not types or d.type in types)


def completed(host: Host, role: str) -> int:
    return host.device.statistics.handshakes[role, "completed"]


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


# --- slots: RECOVERY, section 4 ------------------------------------------------------------------


@pytest.fixture
def initiations(network: Network, pair: tuple[Host, Host]) -> list[Datagram]:
    """Four initiations of the server in flight, which the network holds back."""
    server, client = pair
    lose(network, server, TYPE_INITIATION)
    for _ in range(4):
        server.initiate(client)
        network.run(0.03)
        recovery = server.peer(client).recovery
        assert recovery is not None
        recovery.state = "waiting"
    sent = network.sent(server, TYPE_INITIATION)
    assert len(sent) == len(server.peer(client).slots) == 4
    network.wire.clear()
    return sent


def answers_to(network: Network, client: Host, initiations: list[Datagram]) -> list[Datagram]:
    """The client's answers, held back by the network."""
    lose(network, client)
    for initiation in initiations:
        network.inject(initiation)
        network.run(0.03)
    answers = network.sent(client, TYPE_RESPONSE)
    assert len(answers) == len(initiations)
    network.lose = lambda _: False
    return answers


def test_initiators_state_survives_answering_the_peers_own_initiation(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram]
) -> None:
    server, client = pair
    answers = answers_to(network, client, initiations[3:])
    lose(network, client, TYPE_TRANSPORT)
    client.initiate(server)
    network.run(0.05)
    assert network.sent(server, TYPE_RESPONSE)
    network.lose = lambda _: False
    network.inject(answers[0])
    network.run(0.05)
    assert completed(server, "initiator") == 1


def test_up_to_six_initiations_are_in_flight_and_the_oldest_goes_first(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    lose(network, server)
    for _ in range(10):
        server.initiate(client)
        network.run(0.03)
    sent = [int.from_bytes(d.payload[4:8], "little") for d in network.sent(server, TYPE_INITIATION)]
    assert list(server.peer(client).slots) == sent[-HANDSHAKE_SLOTS:]
    assert set(server.device._interface.indices) == set(sent[-HANDSHAKE_SLOTS:])


def test_each_initiation_has_its_own_ephemeral_index_and_mac1(initiations: list[Datagram]) -> None:
    for part in (slice(4, 8), slice(8, 40), slice(116, 132)):
        assert len({d.payload[part] for d in initiations}) == 4


@pytest.mark.usefixtures("initiations")
def test_slots_are_erased_after_90_s(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    peer = server.peer(client)
    peer.timers.retransmit = float("inf")
    network.run(89)
    assert len(peer.slots) == 4
    network.run(2)
    assert peer.slots == {}
    assert server.device._interface.indices == {}


def test_answer_after_90_s_is_refused(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram]
) -> None:
    server, client = pair
    (answer,) = answers_to(network, client, initiations[3:])
    network.lose = lambda _: True
    server.peer(client).timers.retransmit = float("inf")
    network.run(91)
    network.inject(answer)
    network.run(0.1)
    assert server.peer(client).current is None


def test_answer_discards_older_slots_and_keeps_newer_ones(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram]
) -> None:
    server, client = pair
    (answer,) = answers_to(network, client, initiations[1:2])
    indices = list(server.peer(client).slots)
    network.inject(answer)
    network.run(0.01)
    assert list(server.peer(client).slots) == indices[2:]


def test_late_answer_to_an_older_initiation_is_ignored(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram]
) -> None:
    server, client = pair
    first, second = answers_to(network, client, initiations[:2])
    network.inject(second)
    network.run(0.01)
    adopted = server.peer(client).current
    network.inject(first)
    network.run(0.01)
    assert server.peer(client).current is adopted
    assert server.device.statistics.dropped["unexpected_response"] == 1


def test_newest_is_the_highest_stamped_initiation_not_the_latest_answer(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram]
) -> None:
    """The client has one state: the session of its last answer is the one that lives."""
    server, client = pair
    first, second = answers_to(network, client, initiations[:2])
    network.inject(first)
    network.inject(second, delay=0.005)
    network.run(0.1)
    server.send(client, b"on the newest")
    network.run(0.1)
    assert client.inbox == [b"on the newest"]


@pytest.mark.usefixtures("initiations")
def test_peer_that_uses_a_session_we_answered_cancels_our_initiations_and_gets_one_that_voids_them(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    client.send(server, b"mine")
    network.run(0.1)
    assert server.inbox == [b"mine"]
    assert len(server.peer(client).slots) == 1, "the one that voids those before it"
    network.run(4)
    (voiding,) = network.sent(server, TYPE_INITIATION)
    assert voiding.destination == client.endpoint


@pytest.mark.parametrize("position", [12, 44, 59])
def test_garbage_response_clears_nothing(
    network: Network, pair: tuple[Host, Host], initiations: list[Datagram], position: int
) -> None:
    server, client = pair
    (answer,) = answers_to(network, client, initiations[3:])
    garbage = bytearray(answer.payload)
    garbage[position] ^= 1
    network.inject(answer, payload=with_mac1(bytes(garbage), server))
    network.run(0.01)
    assert server.device.statistics.handshakes["initiator", "invalid"] == 1
    assert len(server.peer(client).slots) == 4
    network.inject(answer)
    network.run(0.1)
    assert completed(server, "initiator") == 1


def with_mac1(datagram: bytes, receiver: Host) -> bytes:
    """A mac1 needs only the receiver's public key: anyone can make it."""
    return add_macs(datagram[:-32], mac1_key(receiver.key.public), None)


def test_crossing_initiations_end_in_working_sessions_and_silence(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    server.initiate(client)
    client.initiate(server)
    network.run(1)
    for number in range(5):
        server.send(client, b"down %d" % number)
        client.send(server, b"up %d" % number)
        network.run(0.5)
    assert client.inbox == [b"down %d" % number for number in range(5)]
    assert server.inbox == [b"up %d" % number for number in range(5)]
    network.run(30)
    network.wire.clear()
    network.run(60)
    assert not network.wire


@pytest.mark.parametrize("timers", ["recovery", "strict"])
def test_two_of_a_kind_that_cross_end_in_working_sessions_and_silence(network: Network, timers: str) -> None:
    settings = Settings(timers=timers, announce=False)  # type: ignore[arg-type]
    one, other = network.host(settings), network.host(settings)
    one.meet(other)
    other.meet(one)
    for attempt in range(3):
        one.send(other, b"a")
        other.send(one, b"b")
        network.run(200)
        assert (len(one.inbox), len(other.inbox)) == (attempt + 1, attempt + 1)
        assert network.now - network.wire[-1].sent_at > 100


# --- confirming packets: RECOVERY, section 4 -----------------------------------------------------


def test_confirmation_is_repeated_until_the_peer_uses_the_new_key(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    server.initiate(client)
    network.run(10)
    first, *repeats = network.sent(server, TYPE_TRANSPORT)
    pauses = [d.sent_at - first.sent_at for d in repeats]
    assert pauses == [pytest.approx(after) for after in (0.1, 0.3, 0.7, 1.5)]
    assert [d.counter for d in (first, *repeats)] == list(range(5)), "with fresh nonces"


def test_confirmation_is_not_repeated_once_the_peer_was_heard_on_the_new_key(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    server.initiate(client)
    network.run(0.2)
    client.send(server, b"on the new key")
    network.run(5)
    assert len(network.sent(server, TYPE_TRANSPORT)) == 2


def test_strict_confirms_once(network: Network) -> None:
    server, client = network.host(STRICT), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    server.initiate(client)
    network.run(10)
    assert len(network.sent(server, TYPE_TRANSPORT)) == 1


@pytest.fixture
def unconfirmed(network: Network, pair: tuple[Host, Host]) -> tuple[Host, Host]:
    """The server rekeyed; the client, which never heard a confirmation, still sends on the old key."""
    server, client = pair
    client.send(server, b"old session")
    network.run(1)
    server.initiate(client)
    network.run(0.015)
    lose(network, server)
    network.run(5)
    assert server.peer(client).current is not client.peer(server).current
    network.wire.clear()
    return server, client


@pytest.mark.parametrize("keepalive", [False, True])
def test_packet_on_an_older_key_is_answered_by_a_confirmation_once_a_second(
    network: Network, unconfirmed: tuple[Host, Host], *, keepalive: bool
) -> None:
    server, client = unconfirmed
    for _ in range(50):
        if keepalive:
            client.device._transport.keepalive(client.peer(server), network.now)
            client.turn()
        else:
            client.send(server, b"x")
        network.run(0.1)
    times = [d.sent_at for d in network.sent(server, TYPE_TRANSPORT) if len(d.payload) == 32]
    assert len(times) == 5
    assert all(later - earlier >= 1 for earlier, later in pairwise(times))


def test_one_confirmation_that_arrives_is_enough(network: Network, unconfirmed: tuple[Host, Host]) -> None:
    server, client = unconfirmed
    network.lose = lambda _: False
    client.send(server, b"on the old key")
    network.run(0.1)
    network.wire.clear()
    client.send(server, b"on the new key")
    network.run(0.1)
    assert client.peer(server).previous is not None
    assert server.peer(client).current.heard  # type: ignore[union-attr]
