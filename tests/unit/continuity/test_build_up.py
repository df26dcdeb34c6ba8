"""A start serves packets before it has looked at every peer; nobody notices in which order it looks."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

import pytest

from handfast_tunnel.continuity.layout import PeerSlot
from handfast_tunnel.core import build_up
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from tests.unit.core.network import Host, Network
from tests.unit.core.packets import ip_packet

from .server import Server
from .words import StateDouble, Steps

COUNT = 4


@pytest.fixture(autouse=True)
def _one_peer_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_up, "PEERS_PER_STEP", 1)


class Scene:
    """A server whose worker is to die, and its clients, each with a session but the last."""

    def __init__(self, *, announce: bool = True, keepalive: int = 0) -> None:
        self.network = Network()
        self.server = Server(self.network, Settings(announce=announce), StateDouble(Steps()))
        self.clients = [self.network.host(Settings(timers="strict", announce=False)) for _ in range(COUNT)]
        for client in self.clients:
            self.server.meet(client, endpoint=client is self.clients[-1], keepalive=keepalive)
            client.meet(self.server)
        self.network.lose = lambda datagram: (
            self.clients[-1].endpoint.address
            in (
                datagram.source.address,
                datagram.destination.address,
            )
        )
        for client in self.clients[:-1]:
            client.send(self.server, b"hello")
        self.network.run(1.0)
        for client in self.clients[:-1]:
            self.server.send(client, b"welcome")
        self.network.run(0.1)
        self.network.lose = lambda _: False
        self.order = list(self.server.device.peers)
        self.routes = [(p.public_key, p.allowed_ips) for p in self.server.device.peers.values()]
        self.server.builds_in_this_turn = lambda: False

    def restart(self, *, same_keeper: bool = True) -> None:
        """Nothing is looked at unless it is asked for."""
        self.server.die()
        self.server.inbox.clear()
        self.network.wire.clear()
        self.server.start(same_keeper=same_keeper)
        assert self.server.device.building_up

    def held(self) -> list[Host]:
        """Clients whose sessions the server has."""
        peers = self.server.device.peers
        return [c for c in self.clients if c.key.public in peers and peers[c.key.public].keypairs]


@pytest.fixture
def scene() -> Scene:
    return Scene()


both_keepers = pytest.mark.parametrize("same_keeper", [False, True])


@both_keepers
def test_a_packet_finds_its_session(scene: Scene, same_keeper: bool) -> None:
    scene.restart(same_keeper=same_keeper)
    assert scene.held() == []
    client = scene.clients[2]
    client.send(scene.server, b"up")
    scene.network.run(1.0)
    assert scene.server.inbox == [b"up"]
    assert scene.held() == [client]
    assert {d.type for d in scene.network.wire} == {TYPE_TRANSPORT}
    assert scene.server.peer(client).method == "resumed"


@both_keepers
def test_a_packet_that_leaves_finds_its_session(scene: Scene, same_keeper: bool) -> None:
    scene.restart(same_keeper=same_keeper)
    client = scene.clients[1]
    scene.server.send(client, b"down")
    scene.network.run(1.0)
    assert client.inbox[-1] == b"down"
    assert scene.held() == [client]
    assert not scene.network.sent(scene.server, TYPE_INITIATION)


@both_keepers
def test_an_initiation_finds_its_peer(scene: Scene, same_keeper: bool) -> None:
    scene.restart(same_keeper=same_keeper)
    client = scene.clients[0]
    client.crash()
    client.send(scene.server, b"anew")
    scene.network.run(1.0)
    assert scene.server.inbox == [b"anew"]
    assert scene.held() == [client]


def test_an_old_initiation_is_not_answered_either(scene: Scene) -> None:
    """The stamp that an initiation must be above is looked at with the peer."""
    old = scene.network.sent(scene.clients[0], TYPE_INITIATION)[-1]
    scene.restart()
    scene.network.inject(old)
    scene.network.run(1.0)
    assert scene.server.device.statistics.handshakes["responder", "replayed"] == 1
    assert not scene.network.sent(scene.server)


def test_an_inner_source_is_checked_against_peers_that_nobody_looked_at(scene: Scene) -> None:
    scene.restart()
    liar, other = scene.clients[:2]
    liar.device.send([ip_packet(other.inner, scene.server.inner, b"lie")], scene.network.now)
    liar.turn()
    scene.network.run(1.0)
    assert scene.server.inbox == []
    assert scene.server.device.statistics.dropped["source_not_allowed"] == 1


def test_the_longest_prefix_wins_whoever_was_looked_at_first(scene: Scene) -> None:
    wide, narrow = scene.clients[:2]
    claims = {wide: Prefix(bytes([172, 0, 0, 0]), 8), narrow: Prefix(bytes([172, 16, 0, 0]), 12)}
    for client, claimed in claims.items():
        change = scene.server.peers[client.key.public]
        scene.server.peers[client.key.public] = PeerChange(
            change.public_key, allowed_ips=(*change.allowed_ips, claimed)
        )
    scene.server.configure(InterfaceChange(peers=tuple(scene.server.peers.values())))
    scene.server.finish()
    scene.restart()
    scene.server.send(wide, b"looked at")
    for address in ("172.1.1.1", "172.17.1.1"):
        scene.server.device.send([ip_packet(scene.server.inner, address, b"x")], scene.network.now)
        scene.server.turn()
    sent = [d.destination.address for d in scene.network.sent(scene.server, TYPE_TRANSPORT)]
    assert sent == [wide.endpoint.address, wide.endpoint.address, narrow.endpoint.address]
    unknown = ip_packet(scene.server.inner, str(ip_address("9.9.9.9")), b"x")
    scene.server.device.send([unknown], scene.network.now)
    assert scene.server.device.statistics.dropped["no_route"] == 1


@both_keepers
def test_who_has_no_session_is_greeted_when_all_who_have_one_are_served(same_keeper: bool) -> None:
    scene = Scene()
    scene.restart(same_keeper=same_keeper)
    for _ in range(COUNT - 1):
        scene.server.build()
        scene.server.turn()
        assert not scene.network.sent(scene.server, TYPE_INITIATION)
    scene.server.finish()
    scene.server.turn()
    [greeting] = scene.network.sent(scene.server, TYPE_INITIATION)
    assert greeting.destination.address == scene.clients[-1].endpoint.address


def test_in_the_end_all_is_as_it_was(scene: Scene) -> None:
    scene.restart()
    scene.clients[2].send(scene.server, b"first")
    scene.network.run(0.1)
    scene.server.finish()
    peers = scene.server.device.peers
    assert list(peers) == scene.order
    assert [(p.public_key, p.allowed_ips) for p in peers.values()] == scene.routes
    assert scene.held() == scene.clients[:-1]
    routes = scene.server.device._interface.routes
    for client in scene.clients:
        assert routes.lookup(ip_address(client.inner).packed) is scene.server.peer(client)


def test_a_change_waits_for_the_rest_and_is_right(scene: Scene) -> None:
    scene.restart()
    gone, kept = scene.clients[:2]
    change = PeerChange(gone.key.public, remove=True)
    with pytest.raises(AssertionError):
        scene.server.device.transaction()
    scene.server.configure(InterfaceChange(peers=(change,)))
    assert gone.key.public not in scene.server.device.peers
    for client in (gone, kept):
        client.send(scene.server, client.inner.encode())
    scene.network.run(1.0)
    assert scene.server.inbox == [kept.inner.encode()]


@both_keepers
def test_link_down_loses_all_keys_and_no_index(scene: Scene, same_keeper: bool) -> None:
    scene.restart(same_keeper=same_keeper)
    scene.server.device.down(scene.network.now)
    assert scene.held() == []
    assert len(scene.server.device._interface.lost) == COUNT - 1
    scene.server.device.up(scene.network.now)
    scene.clients[0].send(scene.server, b"lost")
    scene.network.run(1.0)
    assert scene.network.sent(scene.server, TYPE_INITIATION)


def test_link_up_after_a_new_keepers_configuration_greets_nobody_with_a_session(scene: Scene) -> None:
    scene.server.die()
    scene.network.wire.clear()
    scene.server.start(up_first=False)
    assert scene.server.device.building_up
    scene.server.turn()
    assert not scene.network.sent(scene.server)
    scene.server.finish()
    scene.server.turn()
    assert {d.destination for d in scene.network.sent(scene.server, TYPE_INITIATION)} == {
        scene.clients[-1].endpoint
    }


def test_a_forced_handshake_leaves_nobody_out(scene: Scene) -> None:
    scene.restart()
    assert scene.server.initiate() == COUNT
    assert not scene.server.device.building_up


def test_a_new_keepers_persistent_keepalives_need_no_handshake() -> None:
    scene = Scene(keepalive=2, announce=False)
    scene.restart(same_keeper=False)
    scene.network.run(3.0)
    sent = {kind: scene.network.sent(scene.server, kind) for kind in (TYPE_TRANSPORT, TYPE_INITIATION)}
    reached = {kind: {d.destination.address for d in datagrams} for kind, datagrams in sent.items()}
    assert reached[TYPE_TRANSPORT] == {client.endpoint.address for client in scene.clients}
    assert reached[TYPE_INITIATION] == {scene.clients[-1].endpoint.address}


def test_an_index_that_a_session_has_is_not_given_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    [keypair] = scene.server.peer(scene.clients[0]).keypairs
    scene.restart()
    drawn = iter([keypair.local_index, 77])
    monkeypatch.setattr("os.urandom", lambda _: next(drawn).to_bytes(4, "little"))
    assert scene.server.device._interface.new_index() == 77


@pytest.mark.parametrize("change", ["another psk", "removed"])
def test_what_is_not_configured_any_more_is_not_resumed(scene: Scene, change: str) -> None:
    client = scene.clients[0]
    change_of: dict[str, Callable[[], PeerChange]] = {
        "another psk": lambda: PeerChange(client.key.public, preshared_key=b"\5" * 32),
        "removed": lambda: PeerChange(client.key.public, remove=True),
    }
    scene.server.configure(InterfaceChange(peers=(change_of[change](),)))
    scene.server.finish()
    scene.server.saved = scene.server.saved and (scene.server.saved[0], scene.server._configuration())
    scene.restart()
    client.send(scene.server, b"stale")
    scene.network.run(1.0)
    assert scene.server.inbox == []


def test_drained_it_goes_on_and_says_nothing(scene: Scene) -> None:
    scene.server.drain()
    scene.restart()
    assert scene.server.device.frozen
    scene.server.finish()
    scene.server.turn()
    assert not scene.network.sent(scene.server)
    assert scene.held() == scene.clients[:-1]


def test_a_damaged_slot_is_nobodys(scene: Scene) -> None:
    memory = scene.server.device._interface.memory
    client = scene.clients[0]
    number = memory._slots[client.key.public]  # type: ignore[attr-defined]
    words, start = memory._place(number)  # type: ignore[attr-defined]
    words.values[start + PeerSlot.CHECKSUM] ^= 1
    scene.restart()
    client.send(scene.server, b"nobody's")
    scene.network.run(1.0)
    scene.server.finish()
    assert scene.server.inbox == []
    assert not words.values[start + PeerSlot.VALID]
