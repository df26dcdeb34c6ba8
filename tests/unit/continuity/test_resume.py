"""What the next process does with what the last one left, in memory; `model` tries the combinations."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from tests.unit.core.network import UNIX_OFFSET, Datagram, Host, Network

from .model import ATTACKER
from .server import Server
from .words import StateDouble, Steps


def pair(*, endpoint: bool = False, announce: bool = True) -> tuple[Server, Host, Network]:
    """A server with state, and a stock client with a session."""
    network = Network()
    server = Server(network, Settings(announce=announce), StateDouble(Steps()))
    client = network.host(Settings(timers="strict", announce=False))
    server.meet(client, endpoint=endpoint)
    client.meet(server)
    client.send(server, b"hello")
    network.run(0.1)
    server.send(client, b"welcome")
    network.run(0.1)
    assert (server.inbox.pop(), client.inbox.pop()) == (b"hello", b"welcome")
    network.wire.clear()
    return server, client, network


def restart(server: Server, *, same_keeper: bool = True) -> None:
    server.die()
    server.start(same_keeper=same_keeper)


@pytest.mark.parametrize("same_keeper", [False, True])
def test_a_session_goes_on_without_a_handshake(same_keeper: bool) -> None:
    server, client, network = pair()
    restart(server, same_keeper=same_keeper)
    client.send(server, b"up")
    server.send(client, b"down")
    network.run(1.0)
    assert (server.inbox, client.inbox) == ([b"up"], [b"down"])
    assert {datagram.type for datagram in network.wire} == {TYPE_TRANSPORT}
    assert server.peer(client).method == "resumed"


def test_an_interrupted_answer_is_made_up_for_at_once() -> None:
    server, client, network = pair()
    client.send(server, b"question")
    network.run(0.1)
    restart(server)
    server.finish()
    network.run(0.0)
    assert len(network.sent(server, TYPE_TRANSPORT)) == 1


def test_a_keepalive_wants_no_answer() -> None:
    """10,000 peers that send nothing else would all get one at once."""
    server, client, network = pair()
    network.run(15.0)
    network.wire.clear()
    client.device._transport.keepalive(client.peer(server), network.now)
    network.run(1.0)
    restart(server)
    network.run(5.0)
    assert not network.sent(server)


def test_data_wants_one_though_a_keepalive_followed() -> None:
    server, client, network = pair()
    client.send(server, b"question")
    network.run(0.1)
    client.device._transport.keepalive(client.peer(server), network.now)
    network.run(0.1)
    network.wire.clear()
    restart(server)
    server.finish()
    network.run(0.0)
    assert len(network.sent(server, TYPE_TRANSPORT)) == 1


def restart_often(server: Server, network: Network, pause: float, times: int) -> None:
    for _ in range(times):
        network.run(pause)
        restart(server)
    network.run(pause)


@pytest.mark.parametrize("up_first", [False, True])
def test_persistent_keepalives_go_on_at_their_interval(up_first: bool) -> None:
    """A NAT forgets its client if each restart put them off."""
    server, client, network = pair()
    server.meet(client, endpoint=False, keepalive=25)
    network.run(15.0)
    network.wire.clear()
    last_heard = server.peer(client).last_received
    for _ in range(6):
        network.run(20.0)
        server.die()
        server.start(up_first=up_first)
    sent = [datagram.sent_at - last_heard for datagram in network.sent(server, TYPE_TRANSPORT)]
    assert sent == pytest.approx([25, 50, 75, 100, 125], abs=0.01)


def test_one_that_fell_due_meanwhile_is_sent_at_once() -> None:
    server, client, network = pair()
    server.meet(client, endpoint=False, keepalive=25)
    network.run(0.1)
    server.die()
    network.run(60.0)
    network.wire.clear()
    server.start()
    network.run(0.001)
    assert len(network.sent(server, TYPE_TRANSPORT)) == 1


def test_a_dead_peer_is_noticed_after_15_s_however_often_the_process_dies() -> None:
    server, client, network = pair()
    client.send(server, b"the last word")
    network.run(0.1)
    network.lose = lambda _: True
    began = network.now
    server.send(client, b"into the void")
    restart_often(server, network, 4.0, times=4)
    sent = [datagram.sent_at - began for datagram in network.sent(server, TYPE_INITIATION)]
    assert sent[0] == pytest.approx(15.2, abs=0.2)


@pytest.mark.parametrize("last_word", ["answered", "keepalive", "long ago"])
def test_no_silence_no_handshake(last_word: str) -> None:
    """Nor if nobody could have heard the peer: the next packet finds out."""
    server, client, network = pair()
    server.send(client, b"data")
    network.run(0.1)
    if last_word == "answered":
        client.send(server, b"thanks")
        network.run(0.1)
    elif last_word == "keepalive":
        network.run(11.0)
        server.device._transport.keepalive(server.peer(client), network.now)
        server.turn()
    server.die()
    network.run(40.0 if last_word == "long ago" else 1.0)
    network.wire.clear()
    server.start(same_keeper=True)
    network.run(30.0)
    assert not network.sent(server, TYPE_INITIATION)


def test_confirmations_go_on() -> None:
    """The client uses the new session only once it has heard one."""
    server, client, network = pair()
    network.run(25.0)
    network.lose = lambda datagram: datagram.type == TYPE_TRANSPORT
    server.initiate(client)
    network.run(0.5)
    lost = len(network.sent(server, TYPE_TRANSPORT))
    assert lost == 3
    network.lose = lambda _: False
    restart(server)
    network.run(0.1)
    assert len(network.sent(server, TYPE_TRANSPORT)) == lost + 1
    client.send(server, b"on the new session")
    network.run(5.0)
    assert len(network.sent(server, TYPE_TRANSPORT)) == lost + 1


def test_confirmations_end() -> None:
    """A client that is idle is not told again at each restart."""
    server, client, network = pair()
    network.run(25.0)
    server.initiate(client)
    network.run(5.0)
    network.wire.clear()
    restart(server)
    network.run(5.0)
    assert not network.sent(server)


def test_a_session_dies_of_age_wherever_it_lives() -> None:
    server, client, network = pair()
    server.die()
    network.run(180.0)
    server.start(same_keeper=True)
    assert not server.peer(client).keypairs


def test_a_session_that_expired_before_the_link_came_up_is_none() -> None:
    """The peer was configured, and the link came up minutes later."""
    server, client, network = pair(endpoint=True)
    network.run(15.0)
    server.die()
    with patch.object(Device, "up"):
        server.start()
    assert server.peer(client).current is not None
    network.run(185.0)
    network.wire.clear()
    server.device.up(network.now)
    network.run(1.0)
    assert network.sent(server, TYPE_INITIATION)
    assert server.peer(client).method == "announced"


def test_counters_go_on_above_the_ceiling() -> None:
    server, client, network = pair()
    server.send(client, b"one", b"two")
    numbers = server.peer(client).keypairs[0].numbers
    highest, ceiling = network.sent(server, TYPE_TRANSPORT)[-1].counter, numbers.ceiling
    restart(server)
    server.send(client, b"three")
    assert network.sent(server, TYPE_TRANSPORT)[-1].counter == ceiling > highest


def test_an_endpoint_outlives_the_process() -> None:
    server, client, network = pair()
    client.roam("10.9.9.9")
    client.send(server, b"from elsewhere")
    network.run(0.1)
    restart(server)
    server.finish()
    endpoint = server.peer(client).endpoint
    assert endpoint is not None
    assert endpoint.host == "10.9.9.9"


def test_an_endpoint_that_a_person_set_outlives_the_process() -> None:
    """Where the peer was last heard is older news."""
    server, client, _ = pair()
    moved = Endpoint("10.7.7.7", 7)
    change = PeerChange(client.key.public, endpoint=moved)
    server.configure(InterfaceChange(peers=(change,)))
    restart(server)
    endpoint = server.peer(client).endpoint
    assert endpoint is not None
    assert endpoint.address == moved.address


def say_where(server: Server, client: Host, where: Endpoint) -> None:
    """Edits the configuration file."""
    key = client.key.public
    server.peers[key] = server.peers[key]._replace(endpoint=where)


def endpoint_of(server: Server, client: Host) -> tuple[str, int, int]:
    endpoint = server.peer(client).endpoint
    assert endpoint is not None
    return endpoint.address


@pytest.mark.parametrize("asleep", [0.0, 200.0], ids=["session", "no-session"])
def test_an_endpoint_that_was_edited_meanwhile_counts(asleep: float) -> None:
    """The client moved while nobody listened, and waits for the server to speak."""
    server, client, network = pair(endpoint=True)
    server.die()
    client.roam("10.7.7.7")
    say_where(server, client, client.endpoint)
    network.run(asleep)
    server.start()
    server.send(client, b"found")
    network.run(1.0)
    assert client.inbox == [b"found"]
    client.roam("10.8.8.8")
    client.send(server, b"and moved on")
    network.run(0.1)
    restart(server, same_keeper=False)
    assert endpoint_of(server, client) == client.endpoint.address


@pytest.mark.parametrize("asleep", [0.0, 200.0], ids=["session", "no-session"])
@pytest.mark.parametrize("named", [False, True])
def test_an_endpoint_that_nobody_edited_is_older_than_where_the_client_was_heard(
    asleep: float, named: bool
) -> None:
    server, client, network = pair(endpoint=named)
    client.roam("10.9.9.9")
    client.send(server, b"from elsewhere")
    network.run(0.1)
    for _ in range(2):
        server.die()
        network.run(asleep)
        server.start()
        assert endpoint_of(server, client) == client.endpoint.address
    server.send(client, b"found")
    network.run(1.0)
    assert client.inbox == [b"found"]


def test_an_endpoint_that_was_set_while_it_ran_is_no_news_afterwards() -> None:
    server, client, network = pair(endpoint=True)
    say_where(server, client, Endpoint("10.7.7.7", 7))
    server.configure(InterfaceChange(peers=tuple(server.peers.values())))
    client.send(server, b"from where it always was")
    network.run(0.1)
    restart(server, same_keeper=False)
    assert endpoint_of(server, client) == client.endpoint.address


def test_after_link_down_and_a_restart_a_stray_is_answered() -> None:
    server, client, network = pair(announce=False)
    server.device.down(network.now)
    restart(server)
    assert not server.peer(client).keypairs
    assert not network.sent(server)
    client.send(server, b"lost")
    network.run(1.0)
    client.send(server, b"kept")
    network.run(1.0)
    assert network.sent(server, TYPE_INITIATION)
    assert server.inbox == [b"kept"]


# --- an initiation that a former process sent, and that somebody may hoard ------------------------


def assert_void(hoarded: Datagram, client: Host, network: Network) -> None:
    network.wire.clear()
    client.deliver([hoarded.payload], ATTACKER)
    network.run(1.0)
    assert not network.sent(client)


def test_a_hoarded_initiation_is_void_once_the_client_came_by_itself() -> None:
    server, client, network = pair(announce=False)
    server.device.down(network.now)
    server.device.up(network.now)
    server.deliver([next_packet(client, server)], ATTACKER)
    [hoarded] = network.sent(server, TYPE_INITIATION)
    restart(server)
    client.initiate(server)
    network.run(3.0)
    assert_void(hoarded, client, network)


def test_a_hoarded_initiation_is_void_once_the_client_used_a_resumed_session() -> None:
    server, client, network = pair(announce=False)
    network.lose = lambda _: True
    server.initiate(client)
    network.lose = lambda _: False
    [hoarded] = network.sent(server, TYPE_INITIATION)
    restart(server)
    client.send(server, b"on the same session")
    network.run(3.0)
    assert server.peer(client).method == "resumed"
    assert_void(hoarded, client, network)


def next_packet(client: Host, server: Server) -> bytes:
    """What the client sends next, kept from the network."""
    client.network.lose = lambda _: True
    client.send(server, b"stray")
    client.network.lose = lambda _: False
    return client.network.sent(client, TYPE_TRANSPORT)[-1].payload


# --- clocks --------------------------------------------------------------------------------------


def warnings(server: Server) -> list[str]:
    return [event.what for event in server.device.take_events() if event.warning]


@pytest.mark.parametrize(("skew", "said"), [(3700.0, "3700 s ahead"), (-3700.0, "3700 s behind")])
@pytest.mark.parametrize("while_running", [True, False])
def test_a_clock_that_was_set_by_more_than_an_hour_is_told_of(
    skew: float, said: str, while_running: bool
) -> None:
    server, _, network = pair()
    assert not warnings(server)
    server.clock_skew = skew
    if while_running:
        server.turn()
    else:
        restart(server)
    [told] = warnings(server)
    assert said in told
    network.run(5.0)
    server.initiate()
    restart(server)
    assert not any("ahead" in what for what in warnings(server)), "once"


@pytest.mark.parametrize("skew", [3500.0, -3500.0])
def test_less_is_not(skew: float) -> None:
    server, _, _ = pair()
    server.clock_skew = skew
    restart(server)
    assert not warnings(server)


def test_a_clock_behind_a_peers_stamp_is_told_of_once() -> None:
    """The stamps may be another's: nothing was known of this clock before."""
    server, client, network = pair()
    server.peer(client).marks.outbound_stamp += 4000 * 10**9 + int((network.now + UNIX_OFFSET) * 1e9)
    for _ in range(2):
        server.initiate(client)
        network.run(1.0)
    [told] = warnings(server)
    assert "behind" in told


# --- drained, committed --------------------------------------------------------------------------


def test_drained_the_next_worker_comes_up_frozen_and_thaws() -> None:
    server, client, network = pair()
    client.send(server, b"question")
    network.run(0.1)
    server.drain()
    restart(server)
    assert server.device.frozen
    network.run(30.0)
    assert not network.sent(server)
    server.thaw()
    client.send(server, b"again")
    network.run(1.0)
    assert server.inbox[-1] == b"again"


def test_drained_another_keepers_worker_serves() -> None:
    server, _, _ = pair()
    server.drain()
    restart(server, same_keeper=False)
    assert not server.device.frozen
    restart(server)
    assert not server.device.frozen


@pytest.mark.parametrize("same_keeper", [False, True])
def test_once_another_took_over_nothing_is_ever_sent_again(same_keeper: bool) -> None:
    server, client, network = pair(endpoint=True)
    server.device.commit_handover(1, network.now)
    server.thaw()
    assert server.device.frozen
    restart(server, same_keeper=same_keeper)
    server.thaw()
    server.device.down(network.now)
    server.device.up(network.now)
    server.initiate(client)
    server.send(client, b"nothing")
    client.send(server, b"nothing")
    network.run(60.0)
    assert not network.sent(server)
    assert not server.inbox
    assert not server.peer(client).keypairs
