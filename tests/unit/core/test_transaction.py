"""Configuration changes, against wireguard-go's way of applying them line by line."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.noise import NO_PRESHARED_KEY, static_key
from handfast_tunnel.core.peer import Peer

from .network import START, Host, Network
from .packets import address

KEYS = [static_key(bytes([number]) * 32) for number in range(1, 5)]
PUBLIC = [key.public for key in KEYS]
ENDPOINTS = [Endpoint("192.0.2.1", 1), Endpoint("192.0.2.2", 2), Endpoint("2001:db8::1", 3)]
PREFIXES = [
    Prefix(address(network), length)
    for network, length in [
        ("0.0.0.0", 0), ("10.0.0.0", 8), ("10.0.0.0", 24), ("10.0.0.1", 32), ("::", 0), ("fd00::", 64),
    ]
]  # fmt: skip
PROBES = [address(text) for text in ("1.2.3.4", "10.9.9.9", "10.0.0.9", "10.0.0.1", "::1", "fd00::1")]


# --- a model: one line after the other -----------------------------------------------------------


@dataclass
class ModelPeer:
    preshared_key: bytes = NO_PRESHARED_KEY
    endpoint: Endpoint | None = None
    persistent_keepalive: int = 0
    identity: object = field(default_factory=object)
    """A peer that was never gone keeps its sessions."""


class Model:
    def __init__(self) -> None:
        self.own: bytes | None = None
        self.peers: dict[bytes, ModelPeer] = {}
        self.routes: dict[Prefix, bytes] = {}

    def apply(self, change: InterfaceChange) -> None:
        if change.private_key is not None:
            self.own = static_key(change.private_key).public if any(change.private_key) else None
            self.remove(self.own)
        former = {}
        if change.replace_peers:
            former, self.peers, self.routes = self.peers, {}, {}
        for each in change.peers:
            if each.public_key != self.own:
                self.apply_peer(each, former)

    def apply_peer(self, change: PeerChange, former: dict[bytes, ModelPeer]) -> None:
        key = change.public_key
        if change.remove:
            self.remove(key)
            former.pop(key, None)
            return
        if key not in self.peers:
            if change.update_only:
                return
            self.peers[key] = ModelPeer()
            if key in former:  # as a difference: the peer was never gone, nor was what it was heard from
                self.peers[key].identity = former[key].identity
                self.peers[key].endpoint = former[key].endpoint
        peer = self.peers[key]
        if change.preshared_key is not None:
            peer.preshared_key = change.preshared_key
        if change.endpoint is not None:
            peer.endpoint = change.endpoint
        if change.persistent_keepalive is not None:
            peer.persistent_keepalive = change.persistent_keepalive
        gone = set(change.removed_allowed_ips)
        if change.replace_allowed_ips:
            gone |= set(self.routes)
        self.routes = {p: owner for p, owner in self.routes.items() if owner != key or p not in gone}
        self.routes |= dict.fromkeys(change.allowed_ips, key)

    def remove(self, key: bytes | None) -> None:
        if key in self.peers:
            del self.peers[key]
        self.routes = {prefix: owner for prefix, owner in self.routes.items() if owner != key}

    def lookup(self, raw: bytes) -> bytes | None:
        matches = [prefix for prefix in self.routes if ip_address(raw) in ip_network(prefix)]
        return self.routes[max(matches, key=lambda prefix: prefix.length)] if matches else None


def some(values: list[Prefix]) -> st.SearchStrategy[tuple[Prefix, ...]]:
    return st.lists(st.sampled_from(values), max_size=3).map(tuple)


peer_changes = st.builds(
    PeerChange,
    st.sampled_from(PUBLIC),
    remove=st.sampled_from([False, False, False, True]),
    update_only=st.booleans(),
    preshared_key=st.sampled_from([None, NO_PRESHARED_KEY, b"p" * 32]),
    endpoint=st.sampled_from([None, *ENDPOINTS]),
    persistent_keepalive=st.sampled_from([None, 0, 25]),
    replace_allowed_ips=st.booleans(),
    allowed_ips=some(PREFIXES),
    removed_allowed_ips=some(PREFIXES),
)
interface_changes = st.builds(
    InterfaceChange,
    private_key=st.sampled_from([None, None, None, bytes(32), KEYS[0].secret, KEYS[1].secret]),
    replace_peers=st.booleans(),
    peers=st.lists(peer_changes, max_size=6).map(tuple),
)
histories = st.lists(interface_changes, min_size=1, max_size=5)


def seen(device: Device) -> object:
    """All that a configuration decides."""
    interface = device._interface
    peers = [
        (peer, peer.preshared_key, peer.endpoint, peer.persistent_keepalive, *peer.allowed_ips)
        for peer in device.peers.values()
    ]
    timers = [peer.timers.persistent_interval for peer in device.peers.values()]
    lookups = [interface.routes.lookup(probe) for probe in PROBES]
    numbers = (device.listen_port, device.fwmark, device.next_deadline(START))
    return (device.private_key, numbers, peers, timers, lookups)


def agree(device: Device, model: Model, identities: dict[object, Peer]) -> None:
    assert device.public_key == model.own
    assert device.peers.keys() == model.peers.keys()
    for key, expected in model.peers.items():
        peer = device.peers[key]
        assert peer.preshared_key == expected.preshared_key
        assert peer.endpoint == expected.endpoint
        assert peer.persistent_keepalive == peer.timers.persistent_interval == expected.persistent_keepalive
        assert set(peer.allowed_ips) == {p for p, owner in model.routes.items() if owner == key}
        assert len(peer.allowed_ips) == len(set(peer.allowed_ips))
        assert identities.setdefault(expected.identity, peer) is peer
    for probe in PROBES:
        owner = device._interface.routes.lookup(probe)
        assert (owner and owner.public_key) == model.lookup(probe)
        assert owner is None or device.peers[owner.public_key] is owner


@given(histories, st.booleans())
def test_changes_end_as_wireguard_go_would(history: list[InterfaceChange], up: bool) -> None:
    device, model = Device(random=Random(0)), Model()
    identities: dict[object, Peer] = {}
    if up:
        device.up(START)
    for change in history:
        device.configure(change, START)
        model.apply(change)
        agree(device, model, identities)


@given(histories)
def test_staging_changes_nothing_that_anyone_sees(history: list[InterfaceChange]) -> None:
    device = Device(random=Random(0))
    device.up(START)
    for change in history:
        before = seen(device)
        transaction = device.transaction()
        transaction.stage_interface(change)
        for each in change.peers:
            transaction.stage(each)
            assert seen(device) == before
        device.commit(transaction, START)


@given(histories)
def test_change_that_is_given_up_leaves_no_trace(history: list[InterfaceChange]) -> None:
    *done, abandoned = history
    device, twin = Device(random=Random(0)), Model()
    for change in done:
        device.configure(change, START)
        twin.apply(change)
    transaction = device.transaction()
    transaction.stage_interface(abandoned)
    for each in abandoned.peers:
        transaction.stage(each)
    del transaction
    agree(device, twin, {})


# --- what a change does to sessions --------------------------------------------------------------


@pytest.fixture
def network() -> Network:
    return Network(seed=2)


@pytest.fixture
def pair(network: Network) -> tuple[Host, Host]:
    server, client = network.host(Settings(announce=False)), network.host(Settings(timers="strict"))
    server.meet(client, endpoint=False)
    client.meet(server)
    network.run(6)
    network.wire.clear()
    return server, client


def talks(network: Network, server: Host, client: Host) -> bool:
    """Both ways, on the session at hand."""
    server.inbox.clear()
    client.inbox.clear()
    handshakes = len([d for d in network.wire if d.type != 4])
    server.send(client, b"down")
    client.send(server, b"up")
    network.run(0.1)
    again = len([d for d in network.wire if d.type != 4])
    return (server.inbox, client.inbox, again) == ([b"up"], [b"down"], handshakes)


def test_the_same_private_key_again_changes_nothing(network: Network, pair: tuple[Host, Host]) -> None:
    """`wg syncconf` names the private key every time."""
    server, client = pair
    server.configure(InterfaceChange(private_key=server.key.secret))
    assert talks(network, server, client)


def test_peer_that_is_replaced_by_itself_keeps_session_and_endpoint(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    change = InterfaceChange(server.key.secret, replace_peers=True, peers=tuple(server.peers.values()))
    server.configure(change)
    assert server.peer(client).endpoint is not None
    assert talks(network, server, client)


def test_peer_that_is_removed_and_added_in_one_change_is_a_new_one(
    pair: tuple[Host, Host],
) -> None:
    server, client = pair
    former = server.peer(client)
    remove = PeerChange(client.key.public, remove=True)
    server.configure(InterfaceChange(peers=(remove, *server.peers.values())))
    assert server.peer(client) is not former
    assert server.peer(client).endpoint is None
    assert former.keypairs == []


def test_other_peers_keep_their_sessions_when_one_is_added(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    server.meet(network.host())
    assert talks(network, server, client)


def test_configured_endpoint_moves_the_peer_at_once(network: Network, pair: tuple[Host, Host]) -> None:
    server, client = pair
    client.roam("10.5.5.5", 5)
    server.meet(client)
    server.send(client, b"there")
    network.run(0.1)
    assert client.inbox == [b"there"]


def test_configured_endpoint_that_is_the_present_one_keeps_the_local_address(
    pair: tuple[Host, Host],
) -> None:
    server, client = pair
    present = server.peer(client).endpoint
    assert present is not None
    assert present.local
    server.meet(client)
    assert server.peer(client).endpoint == present


def test_allowed_ip_that_another_peer_takes_is_gone_from_the_first(
    network: Network, pair: tuple[Host, Host]
) -> None:
    server, client = pair
    taken = server.peer(client).allowed_ips
    other = PeerChange(PUBLIC[0], allowed_ips=tuple(taken))
    server.configure(InterfaceChange(peers=(other,)))
    assert server.peer(client).allowed_ips == []
    client.send(server, b"no longer allowed")
    network.run(0.1)
    assert server.inbox == []


def test_port_and_mark_are_kept_where_they_are_not_named() -> None:
    device = Device()
    device.configure(InterfaceChange(listen_port=1234, fwmark=7), START)
    device.configure(InterfaceChange(), START)
    assert (device.listen_port, device.fwmark) == (1234, 7)
    device.configure(InterfaceChange(listen_port=0, fwmark=0), START)
    assert (device.listen_port, device.fwmark) == (0, 0)
