"""Nothing that happens per packet, tick or turn grows with the number of peers: calls are counted, not time.

A walk inside the interpreter is one call, so the tables of all peers are ones that cannot be walked.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import pytest

from handfast_tunnel.continuity.packed_configuration import PackedConfiguration, pack
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from handfast_tunnel.core.noise import static_key

from .network import Host, Network
from .packets import ip_packet

STRICT = Settings(timers="strict", announce=False)
MANY = 10_000


class Unwalkable(dict[Any, Any]):
    """A table in which one may look up, add and remove, and nothing else."""

    def _walk(self, *_: object) -> NoReturn:
        raise AssertionError("a table of all peers was walked")

    __iter__ = items = keys = values = copy = __or__ = __ror__ = _walk


def calls(action: Callable[..., object], *arguments: object) -> int:
    """How many functions an action calls, of Python and of C."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    former = sys.getprofile()
    sys.setprofile(note)
    try:
        action(*arguments)
    finally:
        sys.setprofile(former)
    return count


def others(count: int) -> tuple[PeerChange, ...]:
    """Peers that are somewhere, but not there."""
    return tuple(
        PeerChange(
            b"other".ljust(28, b"-") + number.to_bytes(4, "big"),
            endpoint=Endpoint("10.99.0.1", 1 + number % 60_000),
            persistent_keepalive=0,
            allowed_ips=(Prefix((0x0A000000 + number).to_bytes(4, "big"), 32),),
        )
        for number in range(count)
    )


class Scene:
    """A server with so many peers, one of which is there."""

    def __init__(self, count: int) -> None:
        self.network = Network(seed=1)
        self.server, self.client = self.network.host(Settings(announce=False)), self.network.host(STRICT)
        self.server.configure(InterfaceChange(peers=others(count)))
        self.server.meet(self.client)
        self.client.meet(self.server)
        self.network.run(1)
        interface = self.server.device._interface
        interface.peers, interface.indices = Unwalkable(interface.peers), Unwalkable(interface.indices)
        self.device = self.server.device

    def costs(self) -> dict[str, int]:
        """Of each thing that happens in a turn, once everything was done once."""
        self.client.send(self.server, b"hello")
        self.network.run(6)
        self.handshakes(), self.packets()
        return self.handshakes() | self.packets()

    def handshakes(self) -> dict[str, int]:
        server, client, device, now = self.server, self.client, self.device, self.network.now
        costs = {}
        with self.held_back():
            client.initiate(server)
            initiation = self.last(client, TYPE_INITIATION)
            costs["receive an initiation"] = calls(device.receive, initiation, client.endpoint, now)
            costs["answer it"] = calls(device.process_handshake, now)
        with self.held_back():
            server.initiate(client)
            client.deliver(self.last(server, TYPE_INITIATION), server.endpoint)
            response = self.last(client, TYPE_RESPONSE)
            costs["receive a response"] = calls(device.receive, response, client.endpoint, now)
            costs["complete a handshake"] = calls(device.process_handshake, now)
        return costs

    def packets(self) -> dict[str, int]:
        server, client, device, now = self.server, self.client, self.device, self.network.now
        costs = {}
        with self.held_back():
            client.send(server, b"x")
            (data,) = self.last(client, TYPE_TRANSPORT)
            stray = data[:4] + b"none" + data[8:]
            packet = ip_packet(server.inner, client.inner, b"x")
            costs["receive a packet"] = calls(device.receive, [data], client.endpoint, now)
            costs["drop a stray"] = calls(device.receive, [stray], client.endpoint, now)
            costs["send a packet"] = calls(device.send, [packet], now)
            costs["take what is to be sent"] = calls(device.take_transmissions)
            costs["find the next deadline"] = calls(device.next_deadline, now)
            costs["serve timers that are not due"] = calls(device.handle_timers, now)
            costs["serve timers that are due"] = calls(device.handle_timers, now + 16)
        return costs

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Nothing reaches anyone but by hand; then both sides find together again."""
        self.network.lose = lambda _: True
        yield
        self.network.lose = lambda _: False
        self.server.turn()
        self.network.run(30)

    def last(self, host: Host, kind: int) -> list[bytes]:
        return [self.network.sent(host, kind)[-1].payload]


def test_a_turn_costs_the_same_with_10_and_with_10_000_peers() -> None:
    few, many = Scene(10).costs(), Scene(MANY).costs()
    assert many == pytest.approx(few, rel=0.1, abs=3), "deadlines of others may be looked at"


def test_silent_peers_cost_nothing_after_their_recovery() -> None:
    network = Network()
    server = network.host(Settings(burst_per_second=1_000_000.0))
    server.configure(InterfaceChange(peers=others(300)))
    network.run(90 + 540 + 5)
    assert calls(network.run, 10_000) < 100


@pytest.fixture(scope="module")
def crowded() -> Host:
    server = Network().host(Settings(announce=False))
    server.configure(InterfaceChange(peers=others(MANY)))
    return server


def test_staging_one_peer_costs_the_same_however_many_there_are(crowded: Host) -> None:
    change = PeerChange(
        static_key(b"\x31" * 32).public,
        endpoint=Endpoint("10.98.0.1", 1),
        allowed_ips=(Prefix(bytes([11, 0, 0, 1]), 32), Prefix(bytes([10, 0, 0, 1]), 32)),
    )
    few = Network().host(STRICT)
    few.configure(InterfaceChange(peers=others(10)))
    costs = []
    for host in (few, crowded):
        transaction = host.device.transaction()
        transaction.stage_interface(InterfaceChange())
        costs.append(calls(transaction.stage, change))
    assert costs[0] == costs[1]


def steps(host: Host, change: InterfaceChange) -> Iterator[float]:
    """How long each step of a change takes, the commit last."""
    transaction = host.device.transaction()
    transaction.stage_interface(change)
    for peer in change.peers:
        began = time.process_time()
        transaction.stage(peer)
        yield time.process_time() - began
    began = time.process_time()
    host.device.commit(transaction, host.network.now)
    yield time.process_time() - began
    while host.device.building_up:
        host.device.build_up(host.network.now)


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
def test_10_000_peers_are_staged_in_small_steps_and_swapped_in_at_once(
    again: bool, record_property: Callable[[str, object], None]
) -> None:
    host = Network().host()
    change = InterfaceChange(replace_peers=True, peers=others(MANY))
    if again:
        list(steps(host, change))
    *stages, commit = steps(host, change)
    record_property("commit_ms", commit * 1000)
    assert sorted(stages)[len(stages) // 2] < 0.001
    assert sum(stages) < 4
    assert commit < 0.25, "some 10 ms where nothing else runs"
    assert len(host.device.peers) == MANY


def taking_over(count: int) -> dict[str, int]:
    """What a successor does before the first packets, with so many peers that nobody has looked at."""
    network = Network()
    server, client = network.host(Settings(announce=False)), network.host(STRICT)
    server.configure(InterfaceChange(peers=others(count)))
    server.meet(client, endpoint=True)
    client.meet(server)
    left = PackedConfiguration(b"".join(pack(server.device)))
    device, now = Device(server.settings), network.now
    costs = {"take over": calls(device.succeed, left, now), "come up": calls(device.up, now)}
    costs["send"] = calls(device.send, [ip_packet(server.inner, client.inner, b"x")], now)
    client.initiate(server)
    initiation = network.sent(client, TYPE_INITIATION)[-1].payload
    device.receive([initiation], client.endpoint, now)
    costs["answer an initiation"] = calls(device.process_handshake, now)
    costs["look at a few"] = calls(device.build_up, now)
    assert device.building_up
    return costs


def test_a_successor_serves_10_000_peers_as_soon_as_100() -> None:
    few, many = taking_over(100), taking_over(MANY)
    assert many == pytest.approx(few, rel=0.1, abs=30), "a search takes some steps more"


def test_diffie_hellman_is_done_on_first_use(crowded: Host) -> None:
    assert all(peer.static_static is None for peer in crowded.device.peers.values())


def test_idle_peer_holds_no_keys_queues_or_windows(crowded: Host) -> None:
    peer = next(iter(crowded.device.peers.values()))
    assert peer.staged is None
    assert peer.slots == {}
    assert peer.keypairs == []
    assert peer._mac1_key is peer._cookie_key is None
    assert not hasattr(peer, "__dict__")
    assert not hasattr(peer.timers, "__dict__")


def test_handshake_messages_of_strangers_cost_one_mac(crowded: Host) -> None:
    """A bad mac1 is refused before anything is computed or looked up."""
    noise = bytes([TYPE_INITIATION, 0, 0, 0]) + bytes(144)
    assert calls(crowded.device.receive, [noise], Endpoint("1.2.3.4", 5), crowded.network.now) < 25
