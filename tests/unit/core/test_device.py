"""The life of an interface: up, down, keys, peers that come and go."""

from __future__ import annotations

from math import inf

import pytest

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from handfast_tunnel.core.noise import static_key

from .network import START, UNIX_OFFSET, Host, Network
from .packets import address, ip_packet

QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)
OTHER_KEY = static_key(b"\x42" * 32)


@pytest.fixture
def network() -> Network:
    return Network(seed=9)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    server, client = network.host(QUIET), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    client.send(server, b"hello")
    network.run(6)
    server.inbox.clear()
    network.wire.clear()
    return server, client


def down(host: Host) -> None:
    host.device.down(host.network.now)
    host.turn()


def up(host: Host) -> None:
    host.device.up(host.network.now)
    host.turn()


# --- link up and down ----------------------------------------------------------------------------


def test_new_device_is_down_and_does_nothing() -> None:
    device = Device()
    device.send([ip_packet("10.0.0.1", "10.0.0.2")], START)
    device.handle_timers(START)
    assert device.receive([bytes([4]) + bytes(40)], None, START) == []  # type: ignore[arg-type]
    assert device.initiate(None, START) == 0
    assert device.next_deadline(START) == inf
    assert device.take_transmissions() == []
    assert (device.public_key, device.private_key) == (None, None)


def test_down_zeroes_keys_and_keeps_endpoints(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    keypairs = server.peer(client).keypairs
    server.send(client, b"x")
    down(server)
    peer = server.peer(client)
    assert peer.keypairs == []
    assert peer.slots == {}
    assert all(keypair._facts is None for keypair in keypairs)
    assert server.device._interface.indices == {}
    assert peer.endpoint is not None
    assert server.device.next_deadline(network.now) == inf


def test_down_drops_what_waits(network: Network) -> None:
    server, stranger = network.host(), network.host()
    server.meet(stranger)
    server.send(stranger, b"waits")
    down(server)
    assert server.peer(stranger).staged is None
    assert server.device.statistics.dropped["handshake_timeout"] == 1


def test_down_forgets_handshake_messages_that_were_queued(network: Network, pair: tuple[Host, Host]) -> None:
    """Or they would make keys that nobody zeroes."""
    server, client = pair
    network.lose = lambda _: True
    client.initiate(server)
    initiation = network.sent(client, TYPE_INITIATION)[0].payload
    server.device.receive([initiation], client.endpoint, network.now)
    down(server)
    assert not server.device.handshake_backlog
    assert server.peer(client).keypairs == []


def test_nothing_is_sent_or_received_while_down(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.meet(client, keepalive=5)
    network.run(1)
    network.wire.clear()
    down(server)
    server.send(client, b"x")
    client.send(server, b"x")
    network.run(60)
    assert not network.sent(server)
    assert server.inbox == []


def test_up_again_starts_anew(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    down(server)
    network.run(1)
    up(server)
    server.send(client, b"down")
    network.run(1)
    client.send(server, b"up")
    network.run(1)
    assert (client.inbox, server.inbox) == ([b"down"], [b"up"])


def test_up_twice_and_down_twice_are_once(network: Network) -> None:
    server, client = network.host(), network.host(STRICT)
    server.meet(client)
    network.run(0.1)
    up(server)
    assert len(network.sent(server, TYPE_INITIATION)) == 1
    down(server)
    down(server)
    assert not server.device.is_up


def test_persistent_keepalives_go_on_after_down_and_up(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.meet(client, keepalive=10)
    down(server)
    network.run(100)
    up(server)
    network.run(11)
    assert server.peer(client).current is not None


def test_outage_is_measured_over_down_and_up(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.send(server, b"x")
    network.run(0.1)
    down(server)
    network.run(1)
    up(server)
    network.run(30)
    client.send(server, b"x")
    network.run(30)
    assert sum(server.device.statistics.outage["waited"].counts) == 1


# --- keys ----------------------------------------------------------------------------------------


def test_new_private_key_stops_sending_on_old_sessions_and_voids_handshakes(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    network.lose = lambda _: True
    server.initiate(client)
    server.configure(InterfaceChange(private_key=OTHER_KEY.secret))
    peer = server.peer(client)
    assert peer.slots == {}
    assert peer.current is not None
    assert not peer.current.can_send(network.now)
    assert server.device.public_key == OTHER_KEY.public
    network.wire.clear()
    server.send(client, b"waits for a session of the new key")
    assert not network.sent(server, TYPE_TRANSPORT)


def test_old_sessions_still_open_after_a_new_private_key(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.send(server, b"on its way")
    server.configure(InterfaceChange(private_key=OTHER_KEY.secret))
    network.run(0.1)
    assert server.inbox == [b"on its way"]


def test_new_private_key_is_used_for_new_handshakes(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.configure(InterfaceChange(private_key=OTHER_KEY.secret))
    server.key = OTHER_KEY
    client.meet(server)
    client.send(server, b"hello again")
    network.run(1)
    assert server.inbox == [b"hello again"]


def test_without_a_private_key_nothing_is_sent_or_answered(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.configure(InterfaceChange(private_key=bytes(32)))
    assert (server.device.public_key, server.device.private_key) == (None, None)
    client.initiate(server)
    server.initiate(client)
    server.send(client, b"x")
    network.run(20)
    assert not network.sent(server)


def test_peer_with_the_interfaces_own_key_is_ignored(network: Network) -> None:
    server = network.host()
    own = PeerChange(server.key.public, endpoint=server.endpoint, allowed_ips=(Prefix(bytes(4), 0),))
    server.configure(InterfaceChange(peers=(own,)))
    assert server.device.peers == {}
    assert server.device._interface.routes.lookup(address("1.2.3.4")) is None


def test_peer_whose_key_becomes_the_interfaces_own_goes(network: Network) -> None:
    server = network.host()
    peer = PeerChange(OTHER_KEY.public, allowed_ips=(Prefix(bytes(4), 0),))
    server.configure(InterfaceChange(peers=(peer,)))
    server.configure(InterfaceChange(private_key=OTHER_KEY.secret))
    assert server.device.peers == {}
    assert server.device._interface.routes.lookup(address("1.2.3.4")) is None


def test_sessions_of_a_peer_whose_key_becomes_the_interfaces_own_are_zeroed(
    pair: tuple[Host, Host],
) -> None:
    server, client = pair
    server.configure(InterfaceChange(private_key=client.key.secret))
    assert server.device.peers == {}
    assert server.device._interface.indices == {}


# --- peers that go -------------------------------------------------------------------------------


def test_removed_peer_leaves_nothing_behind(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    peer = server.peer(client)
    keypairs = peer.keypairs
    server.configure(InterfaceChange(peers=(PeerChange(client.key.public, remove=True),)))
    assert server.device._interface.indices == {}
    assert all(keypair._facts is None for keypair in keypairs)
    assert peer.marks.inbound_stamp == b""
    assert peer.timers.owner is None
    server.send(client, b"nowhere")
    client.send(server, b"nobody")
    network.run(600)
    assert not network.sent(server)
    assert server.inbox == []
    assert server.device.next_deadline(network.now) == inf


def test_peer_that_was_removed_in_the_middle_of_its_recovery_is_not_greeted(network: Network) -> None:
    server, client = network.host(), network.host(STRICT)
    server.meet(client)
    network.run(0.3)
    network.wire.clear()
    server.configure(InterfaceChange(peers=(PeerChange(client.key.public, remove=True),)))
    network.run(200)
    assert not network.wire


def test_many_deadlines_at_once_are_all_served(network: Network) -> None:
    """A bounded part of them in each turn."""
    server = network.host(QUIET)
    for _ in range(100):
        other = network.host(STRICT)
        other.meet(server)
        server.meet(other, keepalive=10)
    network.run(9.9)
    network.now += 0.2
    server.device.handle_timers(network.now)
    served = len(server.device.take_transmissions())
    assert 0 < served < 100
    server.turn()
    network.run(0.1)
    assert served + len(network.sent(server, TYPE_INITIATION)) == 100


# --- asking for handshakes -----------------------------------------------------------------------


def test_forced_handshakes_are_counted_where_there_is_an_endpoint(network: Network) -> None:
    server = network.host(QUIET)
    near, far = network.host(STRICT), network.host(STRICT)
    server.meet(near)
    server.meet(far, endpoint=False)
    assert server.device.initiate(None, network.now) == 1
    assert server.device.initiate([far.key.public, OTHER_KEY.public], network.now) == 0
    assert server.device.initiate([near.key.public], network.now) == 1


def test_forced_handshake_renews_a_live_session(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    before = server.peer(client).current
    assert server.initiate(client) == 1
    network.run(0.1)
    assert server.peer(client).current is not before
    assert server.peer(client).previous is before


# --- what others read ----------------------------------------------------------------------------


def test_last_handshake_is_in_unix_time_for_both_roles(network: Network, pair: tuple[Host, Host]) -> None:
    for host, other in (pair, pair[::-1]):
        at = host.peer(other).last_handshake_wall / 1e9
        assert network.now + UNIX_OFFSET - at == pytest.approx(6, abs=0.1)


def test_events_say_who_and_what_and_are_taken_once(pair: tuple[Host, Host]) -> None:
    server, client = pair
    events = server.device.take_events()
    assert [(event.public_key, event.what) for event in events] == [
        (client.key.public, "handshake completed as responder")
    ]
    assert server.device.take_events() == []


def test_mtu_bounds_the_padding(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.device.set_mtu(100)
    server.send(client, b"x" * 79)
    assert len(network.wire[-1].payload) == 100 + 32


def test_response_to_a_handshake_from_before_a_restart_is_ignored(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    network.lose = lambda d: d.type == TYPE_RESPONSE
    client.initiate(server)
    network.run(1)
    response = network.sent(server, TYPE_RESPONSE)[0]
    down(client)
    up(client)
    network.lose = lambda _: False
    network.inject(response)
    network.run(0.1)
    assert client.device.statistics.dropped["unexpected_response"] == 1
