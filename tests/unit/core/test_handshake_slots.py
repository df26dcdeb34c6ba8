"""Initiations in flight, and how the peer learns that it was heard: RECOVERY, section 4."""

from __future__ import annotations

from itertools import pairwise

import pytest

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.constants import HANDSHAKE_SLOTS, REKEY_TIMEOUT
from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.messages import (
    TYPE_INITIATION,
    TYPE_RESPONSE,
    TYPE_TRANSPORT,
)
from handfast_tunnel.core.noise import mac1_key

from .handshakes import STRICT, completed, lose, make_network, make_pair  # noqa: F401
from .network import Datagram, Host, Network

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


@pytest.fixture
def abandoned(network: Network, pair: tuple[Host, Host]) -> list[Datagram]:
    """Initiations of a server that has a session; nobody answered any, and it gave up."""
    server, client = pair
    server.initiate(client)
    network.run(20)
    lose(network, server)
    server.send(client, b"into the void")
    network.run(120)
    network.lose = lambda _: False
    sent = network.sent(server, TYPE_INITIATION)[1:]
    assert server.peer(client).timers.retransmit == float("inf")
    network.wire.clear()
    return sent


@pytest.mark.usefixtures("abandoned")
def test_initiations_that_were_given_up_are_voided_once_the_peer_is_heard(
    network: Network, pair: tuple[Host, Host]
) -> None:
    """On the session that it has all along; and from wherever it is by now."""
    server, client = pair
    client.roam("10.1.0.7")
    client.send(server, b"here I am")
    network.run(4)
    (voiding,) = network.sent(server, TYPE_INITIATION)
    assert voiding.destination == client.endpoint


def test_initiations_that_were_given_up_are_voided_once_one_of_them_is_answered(
    network: Network, pair: tuple[Host, Host], abandoned: list[Datagram]
) -> None:
    server, client = pair
    network.inject(abandoned[-3])
    network.run(REKEY_TIMEOUT + 1)
    (voiding,) = network.sent(server, TYPE_INITIATION)
    assert voiding.destination == client.endpoint
    assert not server.peer(client).unanswered_initiation


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
