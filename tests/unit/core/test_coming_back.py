"""How long a client is away when its server restarts: RECOVERY, sections 4 and 6."""

from __future__ import annotations

import pytest

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT

from .network import Datagram, Host, Network, Path

STRICT = Settings(timers="strict", announce=False)


@pytest.fixture
def network() -> Network:
    return Network(seed=3)


@pytest.fixture
def client(network: Network) -> Host:
    return network.host(STRICT)


def initiations(network: Network, host: Host) -> list[Datagram]:
    return network.sent(host, TYPE_INITIATION)


def lose_initiations(network: Network, *numbers: int) -> None:
    """Loses the first, second... initiation of a recovery, counted from 0."""
    seen = iter(range(10**6))
    network.lose = lambda d: d.type == TYPE_INITIATION and next(seen) in numbers


# --- coming back ---------------------------------------------------------------------------------


@pytest.fixture
def known(network: Network, client: Host) -> tuple[Host, Host]:
    """A server that knows where its client is, both with a session, just before a restart."""
    server = network.host()
    client.meet(server)
    server.meet(client)
    network.run(20)
    client.send(server, b"before")
    network.run(0.05)
    network.wire.clear()
    return server, client


def outage(network: Network, server: Host, client: Host) -> float:
    """From the crash to the first packet of the client that goes through, with one every 20 ms."""
    server.crash()
    server.inbox.clear()
    began = network.now
    while not server.inbox:
        client.send(server, b"probe")
        network.run(0.02)
        assert network.now - began < 200
    return network.now - began


def test_client_is_back_after_two_round_trips(network: Network, known: tuple[Host, Host]) -> None:
    assert outage(network, *known) < 0.07
    server, client = known
    assert server.peer(client).method == "announced"


@pytest.mark.parametrize(
    ("lost", "limit"), [((0,), 0.35), ((0, 1), 0.6), ((0, 1, 2), 1.1), ((0, 1, 2, 3), 2.1)]
)
def test_lost_initiations_cost_the_pauses_of_the_cadence(
    network: Network, known: tuple[Host, Host], lost: tuple[int, ...], limit: float
) -> None:
    lose_initiations(network, *lost)
    assert outage(network, *known) < limit


@pytest.mark.parametrize("kind", [TYPE_RESPONSE, TYPE_TRANSPORT])
def test_lost_response_or_confirmation_costs_a_quarter_of_a_second(
    network: Network, known: tuple[Host, Host], kind: int
) -> None:
    server, client = known
    sender = client if kind == TYPE_RESPONSE else server
    lost: list[Datagram] = []

    def lose(datagram: Datagram) -> bool:
        if datagram.sender is sender and datagram.type == kind and not lost:
            lost.append(datagram)
            return True
        return False

    network.lose = lose
    assert outage(network, server, client) < 0.35
    assert lost


def test_everything_lost_once_costs_little_more(network: Network, known: tuple[Host, Host]) -> None:
    lost: set[tuple[Host, int]] = set()

    def lose(datagram: Datagram) -> bool:
        kind = (datagram.sender, datagram.type)
        if datagram.sender is known[1] and datagram.type == TYPE_TRANSPORT:
            return False
        return not (kind in lost or lost.add(kind))  # type: ignore[func-returns-value]

    network.lose = lose
    assert outage(network, *known) < 0.75


@pytest.mark.parametrize("delay", [0.001, 0.05, 0.15, 0.4, 0.8])
def test_every_round_trip_time_recovers_within_three_of_them(
    network: Network, known: tuple[Host, Host], delay: float
) -> None:
    """Long ones have several initiations in flight: the newest is the session that lives."""
    network.path = Path(delay=delay)
    assert outage(network, *known) < 0.1 + 6 * delay + 0.5


def test_packets_to_a_dropped_peer_are_sent_after_the_handshake(
    network: Network, known: tuple[Host, Host]
) -> None:
    server, client = known
    server.crash()
    server.send(client, b"one", b"two")
    network.run(0.1)
    assert client.inbox == [b"one", b"two"]


def test_client_that_comes_by_itself_is_back_as_waited(network: Network, client: Host) -> None:
    server = network.host()
    server.meet(client, endpoint=False)
    client.meet(server)
    client.send(server, b"x")
    network.run(1)
    assert server.peer(client).method == "waited"


def test_session_that_our_data_asked_for_is_called_announced(network: Network, client: Host) -> None:
    """The client did not wait for its own timers: it answered."""
    server = network.host(Settings(announce=False))
    client.meet(server)
    server.meet(client)
    server.send(client, b"x")
    network.run(1)
    assert server.peer(client).method == "announced"


def test_after_the_burst_the_local_address_is_chosen_anew(network: Network, known: tuple[Host, Host]) -> None:
    server, client = known
    assert server.peer(client).endpoint.local  # type: ignore[union-attr]
    network.lose = lambda _: True
    server.initiate(client)
    network.run(10)
    assert server.peer(client).endpoint.local  # type: ignore[union-attr]
    network.run(10)
    assert server.peer(client).endpoint == client.endpoint


def test_session_born_in_a_recovery_rekeys_at_a_random_age_of_90_to_120_s(network: Network) -> None:
    server = network.host()
    ages = []
    for _ in range(20):
        client = network.host(STRICT)
        client.meet(server)
        server.meet(client)
        network.run(0.1)
        current = server.peer(client).current
        assert current is not None
        ages.append(current.rekey_age)
    assert all(90 <= age <= 120 for age in ages)
    assert len(set(ages)) == len(ages)
    assert max(ages) - min(ages) > 10


def test_later_session_rekeys_at_120_s(network: Network, known: tuple[Host, Host]) -> None:
    server, client = known
    network.run(125)
    server.send(client, b"rekey")
    network.run(1)
    assert server.peer(client).current.rekey_age == 120  # type: ignore[union-attr]


def test_reconnect_latency_is_counted_from_the_first_initiation(
    network: Network, known: tuple[Host, Host]
) -> None:
    server, client = known
    lose_initiations(network, 0)
    server.crash()
    network.run(5)
    histogram = server.device.statistics.reconnect_latency["announced"]
    assert sum(histogram.counts) == 1
    assert histogram.sum == server.peer(client).latency == pytest.approx(0.27)


# --- the newest initiation: RECOVERY, section 6 ----------------------------------------------------


@pytest.fixture
def half_answered(network: Network, client: Host) -> tuple[Host, Host]:
    """The answer to the newest initiation was lost, one to an older initiation arrived."""
    network.path = Path(delay=0.2)
    server = network.host()
    client.meet(server)
    responses = iter(range(100))
    network.lose = lambda d: d.type == TYPE_RESPONSE and next(responses) == 1
    server.meet(client)
    network.run_until(lambda: server.peer(client).current is not None)
    return server, client


def test_peer_is_back_only_when_the_newest_initiation_was_answered(
    network: Network, half_answered: tuple[Host, Host]
) -> None:
    server, client = half_answered
    assert len(server.peer(client).slots) == 1
    assert server.peer(client).method is None
    network.run(5)
    assert server.peer(client).method == "announced"
    assert server.peer(client).slots == {}


def test_otherwise_one_more_goes_to_its_authenticated_endpoint_within_a_second(
    network: Network, half_answered: tuple[Host, Host]
) -> None:
    server, client = half_answered
    tried = len(initiations(network, server))
    began = network.now
    network.run(5)
    (another,) = initiations(network, server)[tried:]
    assert another.sent_at - began <= 1
    assert another.destination.address == client.endpoint.address


def test_session_that_the_lost_answer_killed_is_mended(
    network: Network, half_answered: tuple[Host, Host]
) -> None:
    server, client = half_answered
    network.run(2)
    server.send(client, b"down")
    client.send(server, b"up")
    network.run(1)
    assert (client.inbox, server.inbox) == ([b"down"], [b"up"])
