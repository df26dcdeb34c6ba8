"""Devices joined by a hostile network, in memory, under a clock that only `run` moves.

    network = Network(seed=1)
    server, client = network.pair()
    client.send(server, b"ping")
    network.run(1.0)
    assert server.inbox == [b"ping"]

Every datagram that a host puts on the wire is kept in `Network.wire`, whatever becomes of it, and can be
put there again from anywhere. A host takes its turns as `adapters/tunnel.py` does.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s
from ipaddress import IPv4Address
from math import inf
from random import Random

from handfast_tunnel.adapters.data_plane import PURE, PacketPlane
from handfast_tunnel.continuity.storage import Memory, PlainMemory
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from handfast_tunnel.core.device import Device, Transmission
from handfast_tunnel.core.ecn import CE, ECN_MASK
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_TRANSPORT, unpack_initiation
from handfast_tunnel.core.noise import diffie_hellman, finish_initiation, open_initiation, static_key
from handfast_tunnel.core.peer import Peer

from .packets import ip_packet, payload_of

START = 10_000.0
UNIX_OFFSET = 1_700_000_000.0
PORT = 51820
ANSWER_TIME = 0.001
_TURNS_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class Path:
    """What a direction of the network does to datagrams."""

    delay: float = 0.010
    jitter: float = 0.0
    """Up to so much is added to the delay: datagrams overtake each other."""
    loss: float = 0.0
    duplication: float = 0.0


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram as it left a host."""

    sent_at: float
    sender: Host
    incarnation: int
    """The sender's, when it left."""
    source: Endpoint
    destination: Endpoint
    payload: bytes
    traffic_class: int

    @property
    def type(self) -> int:
        return self.payload[0]

    @property
    def counter(self) -> int:
        assert self.type == TYPE_TRANSPORT
        return int.from_bytes(self.payload[8:16], "little")


class Host:
    """A device with a socket, a TUN and a configuration file."""

    def __init__(self, network: Network, number: int, settings: Settings, memory: Memory) -> None:
        self.network = network
        digest = blake2s(number.to_bytes(4, "big"), person=b"handfast", salt=network.salt)
        self.key = static_key(digest.digest())
        self.endpoint = Endpoint(str(IPv4Address("10.0.0.0") + number), PORT)
        """Where others see it: its own address, or that of the NAT in front of it."""
        self.inner = str(IPv4Address("192.168.0.0") + number)
        self.settings = settings
        self.memory = memory
        self.clock_skew = 0.0
        self.peers: dict[bytes, PeerChange] = {}
        """The configuration file."""
        self.incarnation = -1
        self.inbox: list[bytes] = []
        """Payloads of the packets that came out of the TUN."""
        self.packets: list[bytes] = []
        """The same packets, whole."""
        self.wake = inf
        self.expects = False
        """Whether packets like the last go the short way; then who pokes at the device settles before."""
        self.boot()

    # --- life -------------------------------------------------------------------------------------

    def boot(self, *, up: bool = True) -> None:
        """A new process: nothing is left of the former but the configuration and `memory`."""
        self.incarnation += 1
        self.device = Device(self.settings, self.memory, Random(self.incarnation), self.network.plane)
        self._set_clock()
        if up:
            self.device.up(self.network.now)
        self.configure(InterfaceChange(self.key.secret, listen_port=PORT, peers=tuple(self.peers.values())))

    def crash(self, memory: Memory | None = None) -> None:
        """Dies and comes back at once; `memory` says what outlived it, nothing by default."""
        self.memory = memory or PlainMemory()
        self.boot()

    def roam(self, host: str | None = None, port: int | None = None) -> None:
        """Others see it at another address; what is on its way to the old one is lost."""
        del self.network.hosts[self.endpoint.address]
        self.endpoint = Endpoint(host or self.endpoint.host, port or self.endpoint.port)
        self.network.hosts[self.endpoint.address] = self

    # --- configuration ----------------------------------------------------------------------------

    def configure(self, change: InterfaceChange) -> None:
        self.device.configure(change, self.network.now)
        self.turn()

    def meet(
        self, other: Host, *, endpoint: bool = True, psk: bytes | None = None, keepalive: int = 0
    ) -> None:
        """Adds or changes a peer, and where it is if `endpoint`."""
        change = PeerChange(
            other.key.public,
            endpoint=other.endpoint if endpoint else None,
            preshared_key=psk,
            persistent_keepalive=keepalive,
            replace_allowed_ips=True,
            allowed_ips=(Prefix(IPv4Address(other.inner).packed, 32),),
        )
        self.peers[other.key.public] = change
        self.configure(InterfaceChange(peers=(change,)))

    def peer(self, other: Host) -> Peer:
        return self.device.peers[other.key.public]

    def stamp_of(self, initiation: Datagram) -> bytes:
        """The TAI64N stamp in an initiation to this host."""
        message = unpack_initiation(initiation.payload)
        opened = open_initiation(self.key, message)
        static_static = diffie_hellman(self.key.private, opened.static)
        return finish_initiation(opened, message, static_static).timestamp

    # --- what it does -----------------------------------------------------------------------------

    def send(self, other: Host, *payloads: bytes) -> None:
        self.send_packets([ip_packet(self.inner, other.inner, payload) for payload in payloads])

    def send_packets(self, packets: list[bytes]) -> None:
        if len(packets) == 1 and self._sends_as_expected(packets[0]):
            return
        self.device.settle()
        self.device.send(packets, self.network.now)
        self.turn()

    def _sends_as_expected(self, packet: bytes) -> bool:
        """The short way of `adapters/express.py`: the turn ends later."""
        expected = self.device.expected_packets
        datagram = expected.seal(packet, self.network.now) if expected is not None else None
        if expected is None or datagram is None:
            return False
        self.wake = self.network.now + ANSWER_TIME
        self._put(Transmission(expected.endpoint, [datagram], expected.ecn, expected.keypair.peer))
        return True

    def initiate(self, *others: Host) -> int:
        keys = [other.key.public for other in others] or None
        count = self.device.initiate(keys, self.network.now)
        self.turn()
        return count

    def deliver(self, datagrams: Sequence[bytes], source: Endpoint, traffic_class: int = 0) -> None:
        """Datagrams that reach its socket together."""
        local = IPv4Address(self.endpoint.host).packed
        source = source._replace(local=local, interface=1)
        if len(datagrams) == 1 and self._receives_as_expected(datagrams[0], source, traffic_class):
            return
        self.device.settle()
        self._give(self.device.receive(datagrams, source, self.network.now, traffic_class))
        self.turn()

    def _receives_as_expected(self, datagram: bytes, source: Endpoint, traffic_class: int) -> bool:
        expected = self.device.expected_datagrams
        if expected is None or source != expected.source or traffic_class & ECN_MASK == CE:
            return False
        packet = expected.open(datagram, self.network.now)
        if packet is None:
            return False
        self.wake = self.network.now + ANSWER_TIME
        self._give([packet])
        return True

    def _give(self, packets: Sequence[bytes]) -> None:
        """To the TUN."""
        self.packets += packets
        self.inbox += map(payload_of, packets)

    def turn(self) -> None:
        """The end of a turn of the event loop: handshakes, timers, and what is to be sent."""
        device, now = self.device, self.network.now
        device.settle()
        self._set_clock()
        self._transmit()
        while device.handshake_backlog:
            device.process_handshake(now)
        if device.next_deadline(now) <= now:
            device.handle_timers(now)
        self._transmit()
        self.wake = device.next_deadline(now)
        if self.expects:
            device.expect(now)

    def _set_clock(self) -> None:
        self.device.set_wall_offset(UNIX_OFFSET + self.clock_skew)

    def _transmit(self) -> None:
        for transmission in self.device.take_transmissions():
            self._put(transmission)

    def _put(self, transmission: Transmission) -> None:
        """On the wire."""
        self.network.transmit(self, transmission)


class Network:
    """Hosts by address, what is on its way between them, and the time."""

    def __init__(self, seed: int = 0, plane: PacketPlane = PURE, salt: bytes = b"") -> None:
        self.plane = plane
        self.salt = salt
        """Of all keys."""
        self.now = START
        self.random = Random(seed)
        self.hosts: dict[tuple[str, int, int], Host] = {}
        self.path = Path()
        self.paths: dict[Host, Path] = {}
        """Of datagrams that a host sends, where they differ from `path`."""
        self.wire: list[Datagram] = []
        self.arrived: list[Datagram] = []
        """What reached a device that was there to look at it."""
        self.lose: Callable[[Datagram], bool] = lambda _: False
        """Loses the datagrams for which it is true."""
        self._arrivals: list[tuple[float, int, Datagram]] = []
        self._sequence = 0

    # --- building ---------------------------------------------------------------------------------

    def host(self, settings: Settings | None = None, memory: Memory | None = None) -> Host:
        host = Host(self, len(self.hosts) + 1, settings or Settings(), memory or PlainMemory())
        self.hosts[host.endpoint.address] = host
        return host

    def pair(self, settings: Settings | None = None, *, psk: bytes | None = None) -> tuple[Host, Host]:
        """A server that does not know where its client is, and a client that knows its server.

        The server has `settings`; the client is like every client: it keeps to the paper's timers and
        greets nobody.
        """
        server = self.host(settings)
        client = self.host(Settings(timers="strict", announce=False))
        server.meet(client, endpoint=False, psk=psk)
        client.meet(server, psk=psk)
        return server, client

    def connected_pair(self, settings: Settings | None = None) -> tuple[Host, Host]:
        """The same with a session, which the client initiated."""
        server, client = self.pair(settings)
        client.send(server, b"hello")
        self.run(0.1)
        assert server.inbox.pop() == b"hello"
        self.wire.clear()
        return server, client

    # --- the wire ---------------------------------------------------------------------------------

    def transmit(self, sender: Host, transmission: Transmission) -> None:
        for payload in transmission.datagrams:
            datagram = Datagram(
                self.now,
                sender,
                sender.incarnation,
                sender.endpoint,
                transmission.endpoint.without_local(),
                payload,
                transmission.traffic_class,
            )
            self.wire.append(datagram)
            if not self.lose(datagram):
                self._carry(datagram)

    def _carry(self, datagram: Datagram) -> None:
        path = self.paths.get(datagram.sender, self.path)
        copies = 2 if path.duplication and self.random.random() < path.duplication else 1
        for _ in range(copies):
            if not path.loss or self.random.random() >= path.loss:
                jitter = self.random.random() * path.jitter if path.jitter else 0.0
                self.inject(datagram, delay=path.delay + jitter)

    def inject(
        self,
        datagram: Datagram,
        *,
        delay: float = 0.0,
        source: Endpoint | None = None,
        to: Endpoint | None = None,
        payload: bytes | None = None,
    ) -> None:
        """Puts a datagram on its way, once more or for the first time, as it was or altered."""
        altered = replace(
            datagram,
            source=source or datagram.source,
            destination=to or datagram.destination,
            payload=payload or datagram.payload,
        )
        self._sequence += 1
        heapq.heappush(self._arrivals, (self.now + delay, self._sequence, altered))

    def sent(self, sender: Host, *types: int) -> list[Datagram]:
        """What a host has put on the wire, of the given types or of all."""
        return [d for d in self.wire if d.sender is sender and (not types or d.type in types)]

    # --- time -------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in self._steps(end):
            pass
        self.now = end

    def run_until(self, condition: Callable[[], bool], limit: float = 600.0) -> float:
        """Runs until the condition holds; returns how long that took."""
        began = self.now
        if not condition():
            for _ in self._steps(began + limit):
                if condition():
                    break
            else:
                raise AssertionError(f"not within {limit} s")
        return self.now - began

    def _steps(self, end: float) -> Iterator[None]:
        for host in self.hosts.values():
            host.turn()
        turns, at = 0, self.now
        while (upcoming := self._upcoming()) <= end:
            turns, at = (turns + 1, at) if upcoming <= at else (0, upcoming)
            if turns > _TURNS_AT_ONCE:
                raise AssertionError("the network spins: time does not move on")
            self.now = max(self.now, upcoming)
            self._step()
            yield

    def _upcoming(self) -> float:
        arrival = self._arrivals[0][0] if self._arrivals else inf
        return min(arrival, min((host.wake for host in self.hosts.values()), default=inf))

    def _step(self) -> None:
        if self._arrivals and self._arrivals[0][0] <= self.now:
            self._deliver(list(self._arrived_together()))
            return
        for host in list(self.hosts.values()):
            if host.wake <= self.now:
                host.turn()

    def _arrived_together(self) -> Iterable[Datagram]:
        """Datagrams of one flow that arrive at one moment, as UDP_GRO would join them."""
        first = heapq.heappop(self._arrivals)[2]
        yield first
        flow = (first.source, first.destination, first.traffic_class)
        while self._arrivals and self._arrivals[0][0] <= self.now:
            following = self._arrivals[0][2]
            if (following.source, following.destination, following.traffic_class) != flow:
                return
            yield heapq.heappop(self._arrivals)[2]

    def _deliver(self, datagrams: list[Datagram]) -> None:
        first = datagrams[0]
        host = self.hosts.get(first.destination.address)
        if host is not None:
            if host.device.is_up and not host.device.frozen:
                self.arrived += datagrams
            host.deliver([datagram.payload for datagram in datagrams], first.source, first.traffic_class)
