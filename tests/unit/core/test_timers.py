"""The whitepaper's section 6, for both kinds of timers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import inf

import pytest

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.constants import REKEY_AFTER_MESSAGES, STAGED_PACKETS
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT

from .network import Datagram, Host, Network

JITTER = 0.334
SLACK = 0.05
"""Some round trips of the network in memory."""


@pytest.fixture
def network() -> Network:
    return Network(seed=6)


@pytest.fixture(params=["strict", "recovery"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(timers=request.param, announce=False)


@pytest.fixture
def initiator(network: Network, settings: Settings) -> Host:
    return network.host(settings)


@pytest.fixture
def responder(network: Network, settings: Settings) -> Host:
    return network.host(settings)


@pytest.fixture
def session(network: Network, initiator: Host, responder: Host) -> tuple[Host, Host]:
    """Both hosts, with a session that is two seconds old and confirmed; nothing is armed any more."""
    initiator.meet(responder)
    responder.meet(initiator)
    initiator.send(responder, b"hello")
    network.run(0.1)
    responder.send(initiator, b"hello too")
    network.run(0.1)
    quiet(network, initiator, responder)
    return initiator, responder


def quiet(network: Network, *hosts: Host) -> None:
    """Both have heard from each other: no timer is left but those of the keys' lives."""
    network.run(2)
    for host in hosts:
        for peer in host.device.peers.values():
            peer.timers.keepalive = peer.timers.new_handshake = inf
    network.wire.clear()


def lose_from(host: Host, *types: int) -> Callable[[Datagram], bool]:
    return lambda d: d.sender is host and (not types or d.type in types)


def age(host: Host, other: Host) -> float:
    current = host.peer(other).current
    assert current is not None
    return host.network.now - current.born


def run_to_age(host: Host, other: Host, seconds: float) -> None:
    host.network.run(seconds - age(host, other))


# --- rekeying ------------------------------------------------------------------------------------


def test_initiator_rekeys_when_it_sends_after_120_s(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    run_to_age(initiator, responder, 119.5)
    initiator.send(responder, b"young")
    assert not network.sent(initiator, TYPE_INITIATION)
    run_to_age(initiator, responder, 120.5)
    initiator.send(responder, b"old")
    assert len(network.sent(initiator, TYPE_INITIATION)) == 1
    network.run(1)
    assert age(initiator, responder) < 1
    assert responder.inbox[-2:] == [b"young", b"old"], "on the old keys meanwhile"


def test_responder_does_not_rekey_by_time(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    run_to_age(responder, initiator, 150)
    responder.send(initiator, b"late")
    network.run(1)
    assert not network.sent(responder, TYPE_INITIATION)
    assert initiator.inbox[-1] == b"late"


@pytest.mark.usefixtures("session")
def test_idle_session_is_not_rekeyed(network: Network) -> None:
    network.run(170)
    assert not network.wire


def test_initiator_rekeys_when_it_receives_after_165_s(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    run_to_age(initiator, responder, 164.5)
    responder.send(initiator, b"early")
    network.run(0.1)
    assert not network.sent(initiator, TYPE_INITIATION)
    run_to_age(initiator, responder, 165.5)
    responder.send(initiator, b"last minute")
    network.run(0.5)
    assert len(network.sent(initiator, TYPE_INITIATION)) == 1
    assert age(initiator, responder) < 1


def test_last_minute_handshake_is_tried_once_a_session(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    network.lose = lose_from(initiator, TYPE_INITIATION)
    run_to_age(initiator, responder, 166)
    for _ in range(8):
        responder.send(initiator, b"data")
        network.run(0.5)
    assert len(network.sent(initiator, TYPE_INITIATION)) == 1


def test_responder_does_nothing_at_165_s(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    peer = initiator.peer(responder)
    assert peer.current is not None
    peer.current.rekey_age = inf
    run_to_age(responder, initiator, 170)
    initiator.send(responder, b"data")
    network.run(1)
    assert not network.sent(responder, TYPE_INITIATION)


@pytest.mark.parametrize("sender", [0, 1], ids=["initiator", "responder"])
def test_either_role_rekeys_after_2_to_the_60_messages(
    network: Network, session: tuple[Host, Host], sender: int
) -> None:
    host, other = session[sender], session[1 - sender]
    worn = host.peer(other).current
    assert worn is not None
    worn.counter = REKEY_AFTER_MESSAGES - 2
    network.run(6)
    host.send(other, b"last but one")
    assert not network.sent(host, TYPE_INITIATION)
    host.send(other, b"last")
    assert len(network.sent(host, TYPE_INITIATION)) == 1
    network.run(0.5)
    assert host.peer(other).current is not worn
    assert other.inbox[-2:] == [b"last but one", b"last"]


def test_nothing_is_sent_on_keys_older_than_180_s(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    run_to_age(responder, initiator, 180.5)
    responder.send(initiator, b"waits for new keys")
    assert [d.type for d in network.sent(responder)] == [TYPE_INITIATION]
    network.run(0.5)
    assert initiator.inbox[-1] == b"waits for new keys"


def test_nothing_is_opened_with_keys_older_than_180_s(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    initiator.send(responder, b"late")
    network.lose = lambda _: True
    late = network.sent(initiator, TYPE_TRANSPORT)[-1]
    network.run(1)
    responder.inbox.clear()
    run_to_age(responder, initiator, 180.5)
    network.inject(late)
    network.run(0.1)
    assert responder.inbox == []
    assert responder.device.statistics.dropped["expired"] == 1


def test_initiations_to_a_peer_are_at_least_5_s_apart(network: Network, settings: Settings) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    network.lose = lambda _: True
    for _ in range(200):
        host.send(other, b"data")
        network.run(0.1)
    times = [d.sent_at for d in network.sent(host, TYPE_INITIATION)]
    assert len(times) >= 4
    assert all(5 <= later - earlier <= 5 + JITTER + 0.1 for earlier, later in pairwise(times))


def test_answering_counts_as_asking(network: Network, session: tuple[Host, Host]) -> None:
    """Who has just answered does not initiate too: the peer's handshake is under way."""
    initiator, responder = session
    run_to_age(responder, initiator, 181)
    network.lose = lose_from(initiator, TYPE_TRANSPORT)
    initiator.send(responder, b"one")
    network.run(0.1)
    responder.send(initiator, b"two")
    network.run(4)
    assert network.sent(responder, TYPE_RESPONSE)
    assert not network.sent(responder, TYPE_INITIATION)


# --- keepalives ----------------------------------------------------------------------------------


def keepalives(network: Network, host: Host) -> list[float]:
    return [d.sent_at for d in network.sent(host, TYPE_TRANSPORT) if len(d.payload) == 32]


def test_keepalive_answers_data_after_10_s_of_silence(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    began = network.now
    responder.send(initiator, b"data")
    network.run(15)
    assert keepalives(network, initiator) == [pytest.approx(began + 10, abs=SLACK)]


def test_data_sent_back_saves_the_keepalive(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    responder.send(initiator, b"data")
    network.run(5)
    initiator.send(responder, b"data")
    network.run(20)
    assert keepalives(network, initiator) == []


def test_data_while_a_keepalive_is_due_asks_for_another(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    began = network.now
    for _ in range(2):
        responder.send(initiator, b"data")
        network.run(5)
    network.run(30)
    expected = [pytest.approx(began + 10, abs=SLACK), pytest.approx(began + 20, abs=SLACK)]
    assert keepalives(network, initiator) == expected


def test_keepalives_arm_no_data_timers(network: Network, session: tuple[Host, Host]) -> None:
    """Neither side answers a keepalive, and nobody misses an answer to it."""
    initiator, responder = session
    responder.send(initiator, b"data")
    network.run(100)
    assert len(keepalives(network, initiator)) == 1
    assert len(network.wire) == 2


@pytest.mark.parametrize("interval", [1, 25])
def test_persistent_keepalive_is_sent_at_its_interval(
    network: Network, session: tuple[Host, Host], interval: int
) -> None:
    initiator, responder = session
    initiator.meet(responder, keepalive=interval)
    network.run(0.5)
    network.wire.clear()
    began = network.now
    network.run(60)
    times = keepalives(network, initiator)
    assert began < times[0] <= began + interval
    assert all(later - earlier == pytest.approx(interval) for earlier, later in pairwise(times))


def test_persistent_keepalive_starts_at_once_when_it_is_switched_on(
    network: Network, session: tuple[Host, Host]
) -> None:
    initiator, responder = session
    began = network.now
    initiator.meet(responder, keepalive=25)
    network.run(30)
    assert keepalives(network, initiator) == [began, pytest.approx(began + 25)]


def test_persistent_keepalive_waits_for_silence(network: Network, session: tuple[Host, Host]) -> None:
    """Any authenticated packet, either way, begins the interval anew."""
    initiator, responder = session
    initiator.meet(responder, keepalive=8)
    network.run(1)
    network.wire.clear()
    for _ in range(5):
        network.run(3)
        initiator.send(responder, b"data")
        network.run(3)
        responder.send(initiator, b"data")
    assert keepalives(network, initiator) == []


def test_persistent_keepalive_can_be_switched_off(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    initiator.meet(responder, keepalive=5)
    network.run(7)
    initiator.meet(responder, keepalive=0)
    network.wire.clear()
    network.run(60)
    assert not network.wire


def test_persistent_keepalive_asks_for_a_session_where_there_is_none(
    network: Network, settings: Settings
) -> None:
    host, other = network.host(settings), network.host(settings)
    other.meet(host)
    host.meet(other, keepalive=10)
    network.run(12)
    assert host.peer(other).current is not None
    assert not other.inbox


# --- a peer that does not answer -----------------------------------------------------------------


def test_new_handshake_after_15_s_without_an_answer_to_data(
    network: Network, session: tuple[Host, Host]
) -> None:
    initiator, responder = session
    network.lose = lose_from(responder)
    responder.send(initiator, b"nothing comes back")
    began = network.now
    initiator.send(responder, b"nothing comes back")
    network.run(16)
    (initiation,) = network.sent(initiator, TYPE_INITIATION)
    assert 15 <= initiation.sent_at - began <= 15 + JITTER


def test_new_handshake_is_counted_from_the_first_unanswered_packet(
    network: Network, session: tuple[Host, Host]
) -> None:
    initiator, responder = session
    network.lose = lose_from(initiator)
    began = network.now
    for _ in range(16):
        initiator.send(responder, b"more")
        network.run(1)
    assert 15 <= network.sent(initiator, TYPE_INITIATION)[0].sent_at - began <= 15 + JITTER


def test_any_answer_calls_the_new_handshake_off(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    initiator.send(responder, b"answered by a keepalive")
    network.run(60)
    assert not network.sent(initiator, TYPE_INITIATION)


def test_initiation_is_repeated_every_5_s_with_jitter(network: Network, settings: Settings) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    host.send(other, b"data")
    network.run(80)
    times = [d.sent_at for d in network.sent(host, TYPE_INITIATION)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) >= 14
    assert all(5 <= pause <= 5 + JITTER for pause in pauses)
    assert len({round(pause, 4) for pause in pauses}) > 5, "jitter is drawn anew each time"


def test_gives_up_after_90_s(network: Network, settings: Settings) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    began = network.now
    host.send(other, b"never arrives")
    network.run(400)
    times = [d.sent_at - began for d in network.sent(host, TYPE_INITIATION)]
    assert 85 <= times[-1] <= 100
    assert host.device.statistics.handshakes["initiator", "timeout"] == 1
    assert host.device.statistics.dropped["handshake_timeout"] == 1
    assert host.peer(other).staged is None


def test_packet_after_giving_up_begins_anew(network: Network, settings: Settings) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    host.send(other, b"lost")
    network.run(120)
    other.meet(host)
    host.send(other, b"arrives")
    network.run(1)
    assert other.inbox == [b"arrives"]


def test_packet_while_trying_begins_the_90_s_anew(network: Network, settings: Settings) -> None:
    """Paper, section 6.4: a packet that is queued up explicitly resets the timer."""
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    began = network.now
    host.send(other, b"one")
    network.run(61)
    host.send(other, b"two")
    network.run(400)
    assert 145 <= network.sent(host, TYPE_INITIATION)[-1].sent_at - began <= 166


def test_giving_up_cancels_the_keepalive(network: Network, session: tuple[Host, Host]) -> None:
    """Or it would ask for a handshake again."""
    initiator, responder = session
    run_to_age(initiator, responder, 121)
    network.lose = lose_from(initiator, TYPE_INITIATION)
    initiator.send(responder, b"old")
    network.run_until(lambda: initiator.peer(responder).handshake_attempts == 18)
    initiator.peer(responder).timers.data_received(network.now)
    network.run_until(lambda: initiator.device.statistics.handshakes["initiator", "timeout"] == 1)
    tried = len(network.sent(initiator, TYPE_INITIATION))
    network.run(60)
    assert len(network.sent(initiator, TYPE_INITIATION)) == tried


def test_packets_wait_in_a_bounded_queue_whose_oldest_is_dropped(
    network: Network, settings: Settings
) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    payloads = [str(number).encode() for number in range(STAGED_PACKETS + 20)]
    for payload in payloads[:100]:
        host.send(other, payload)
    host.send(other, *payloads[100:])
    assert host.device.statistics.dropped["staging"] == 20
    other.meet(host)
    network.run(6)
    assert other.inbox == payloads[20:]


# --- keys that nobody needs any more -------------------------------------------------------------


def test_keys_are_zeroed_540_s_after_the_last_ones_were_made(
    network: Network, session: tuple[Host, Host]
) -> None:
    initiator, responder = session
    keypairs = [k for host, other in (session, session[::-1]) for k in host.peer(other).keypairs]
    run_to_age(initiator, responder, 539)
    assert initiator.peer(responder).current is not None
    network.run(2)
    for host, other in ((initiator, responder), (responder, initiator)):
        assert host.peer(other).keypairs == []
        assert host.device._interface.indices == {}
    assert all(keypair._facts is None for keypair in keypairs)


def test_new_keys_begin_the_540_s_anew(network: Network, session: tuple[Host, Host]) -> None:
    initiator, responder = session
    network.run(500)
    initiator.send(responder, b"again")
    network.run(500)
    assert initiator.peer(responder).current is not None


def test_what_is_left_of_an_unanswered_handshake_is_zeroed(network: Network, settings: Settings) -> None:
    host, other = network.host(settings), network.host(settings)
    host.meet(other)
    host.send(other, b"data")
    network.run(100 + 541)
    assert host.peer(other).slots == {}
    assert host.device._interface.indices == {}
    assert host.device.next_deadline(network.now) == inf
