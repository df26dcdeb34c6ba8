"""A tunnel whose process dies and comes back, its two clients, and what must hold whatever happens.

A history is a sequence of the methods in `OPERATIONS`; `check` after each, `end` at last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import product
from random import Random
from typing import Any
from unittest.mock import patch

from handfast_tunnel.continuity.layout import KEYPAIRS, PEER_WORDS, KeypairSlot, PeerSlot
from handfast_tunnel.continuity.slots import SlotNumbers
from handfast_tunnel.continuity.storage import Position
from handfast_tunnel.core import build_up, handshake, noise
from handfast_tunnel.core.batch import PureSealer
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.noise import InvalidMessage, static_key
from handfast_tunnel.core.resume import resume
from handfast_tunnel.core.session import Keypair
from tests.unit.core.network import Datagram, Host, Network, Path
from tests.unit.core.packets import ip_packet

from .server import Server
from .words import StateDouble, Steps, torn_stores

ATTACKER = Endpoint("203.0.113.66", 666)
HEALED_WITHIN = 40.0
"""A stock client notices after KEEPALIVE_TIMEOUT + REKEY_TIMEOUT and asks every REKEY_TIMEOUT."""
HEALED_WITHIN_AFTER_TWO_OWNERS = 190.0
"""Sessions that a process without the state made are unknown to the next one, which has it. If the clock was
ahead meanwhile, only the client can begin, and it does when its session is too old: REJECT_AFTER_TIME."""
VOID_WITHIN = 16.0
"""CADENCE_INTERVAL and its jitter, where a greeting to a former address still goes on."""
WAITS = (0.001, 0.02, 0.1, 1.0, 6.0, 16.0, 61.0, 125.0, 185.0)
SKEWS = (-3600.0, 0.0, 0.0, 3600.0)
PATHS = (Path(), Path(0.02, 0.1, 0.0, 0.5), Path(0.01, 0.3, 0.3, 0.3), Path(loss=1.0))


class History:
    """One life of a server, alice and bob. Close it: it listens at the places where keys are used."""

    def __init__(self, seed: int = 0, *, locked: bool = True, reads_memory: bool = True) -> None:
        self.network = Network(seed)
        self.steps = Steps()
        self.state = StateDouble(self.steps, locked=locked)
        self._reads_memory = reads_memory
        self.state.reader = self.ceilings_are_ahead
        self.sealed: dict[int, int] = {}
        """By the receiver's index: one more than the highest counter ever sealed with its key."""
        self.nonces: set[tuple[int, int]] = set()
        self.stamps: dict[object, bytes] = {}
        self.sent: dict[bytes, tuple[Host, Host]] = {}
        self.spoofed: set[bytes] = set()
        self.removed: set[Host] = set()
        self.removals: dict[Host, int] = {}
        self.key_changes = 0
        """A client forgets a peer that it removes, the last stamp with it."""
        self.epochs: dict[Host, int] = {}
        """How often the state's owner knew for certain that it has no such peer."""
        self.forgotten: dict[Host, int] = {}
        """When a process was last told to forget a client, so much was on the wire: nobody remembers it."""
        self.births: dict[int, object] = {}
        """What each of the server's sessions came from, by its index."""
        self.silent_since: int | None = None
        """Another took over when so much was on the wire."""
        self.seen: dict[Host, int] = {}
        self.wire_seen = 0
        self.network.path = Path(0.001)
        self.server = Server(self.network, Settings(), self.state)
        self.clients = [self.network.host(Settings(timers="strict", announce=False)) for _ in range(2)]
        self.addresses = {client: {client.endpoint.address} for client in self.clients}
        self._listening = self._listen()
        for client in self.clients:
            self.epochs[client] = self.removals[client] = self.forgotten[client] = 0
            self.server.meet(client, endpoint=bool(seed & 1))
            client.meet(self.server)
        self.server.on_told = self._note_removals

    def close(self) -> None:
        self._listening.close()

    def _listen(self) -> ExitStack:
        """Looks on where keys are used."""
        seal, seal_alone = PureSealer.seal_batch, PureSealer.seal
        create, new = noise.create_initiation, Keypair.__init__

        def seal_batch(
            sealer: PureSealer, receiver: int, base: int, packets: Sequence[bytes], mtu: int
        ) -> list[bytes]:
            self._note_sealed(receiver, base, len(packets))
            return seal(sealer, receiver, base, packets, mtu)

        def create_initiation(
            key: Any, peer: bytes, static: bytes, index: int, stamp: bytes, own: Any
        ) -> Any:
            self._note_stamp(key.public, peer, stamp)
            return create(key, peer, static, index, stamp, own)

        def new_keypair(keypair: Any, peer: Any, facts: Any, numbers: Any, plane: Any) -> None:
            for client in self.clients:
                if client.key.public == peer.public_key:
                    self.births.setdefault(facts.local_index, self._origin(client))
            new(keypair, peer, facts, numbers, plane)

        def resume_and_look(interface: Any, peer: Any, now: float) -> bool:
            """Only sessions of the configuration that this process has are resumed."""
            resumed: bool = resume(interface, peer, now)
            for client, keypair in product(self.clients, peer.keypairs):
                if client.key.public == peer.public_key:
                    present = interface.key.public, self.epochs[client], peer.preshared_key
                    origin = self.births[keypair.local_index]
                    assert origin == present, "a stale session was resumed"
            return resumed

        def seal_one(sealer: PureSealer, receiver: int, counter: int, packet: bytes, mtu: int) -> bytes:
            self._note_sealed(receiver, counter, 1)
            return seal_alone(sealer, receiver, counter, packet, mtu)

        listening = ExitStack()
        listening.enter_context(torn_stores())
        listening.enter_context(patch.object(PureSealer, "seal_batch", seal_batch))
        listening.enter_context(patch.object(PureSealer, "seal", seal_one))
        listening.enter_context(patch.object(handshake, "create_initiation", create_initiation))
        listening.enter_context(patch.object(Keypair, "__init__", new_keypair))
        listening.enter_context(patch.object(build_up, "resume", resume_and_look))
        listening.enter_context(patch.object(build_up, "PEERS_PER_STEP", 1))
        return listening

    # --- what happens -----------------------------------------------------------------------------

    def speak(self, who: int, count: int) -> None:
        """A client sends to the server."""
        client = self.clients[who]
        client.send(self.server, *self._payloads(client, self.server, count))

    def answer(self, who: int, count: int) -> None:
        """The server sends to a client."""
        client = self.clients[who]
        self.server.send(client, *self._payloads(self.server, client, count))

    def converse(self, who: int, count: int) -> None:
        """One packet each way at a time, as a ping's: the server expects the next."""
        for _ in range(count):
            self.answer(who, 1)
            self.network.run(0.002)
            self.speak(who, 1)
            self.network.run(0.002)

    def _payloads(self, sender: Host, receiver: Host, count: int) -> list[bytes]:
        payloads = [b"%d" % number for number in range(len(self.sent), len(self.sent) + count)]
        self.sent |= dict.fromkeys(payloads, (sender, receiver))
        return payloads

    def spoof(self, who: int) -> None:
        """A client sends in the other's name."""
        client, other = self.clients[who], self.clients[1 - who]
        [payload] = self._payloads(client, self.server, 1)
        self.spoofed.add(payload)
        client.device.send([ip_packet(other.inner, self.server.inner, payload)], self.network.now)
        client.turn()

    def wait(self, seconds: float) -> None:
        if seconds >= 1.0 and self.server.alive:
            with self.server._mortal():
                self.server.finish()
        self.network.run(seconds)

    def weather(self, path: Path) -> None:
        self.network.path = path

    def repeat(self, back: int) -> None:
        """A datagram arrives once more, or at last."""
        if self.network.wire:
            self.network.inject(self.network.wire[-1 - back % len(self.network.wire)], delay=0.001)

    def replay_from_elsewhere(self, back: int) -> None:
        worthless = [d for d in self.network.arrived[-60:] if self._is_worthless(d)]
        if worthless:
            self.network.inject(worthless[-1 - back % len(worthless)], source=ATTACKER)

    def _is_worthless(self, datagram: Datagram) -> bool:
        receiver = self.network.hosts.get(datagram.destination.address)
        if receiver is None or (receiver is self.server and datagram.payload not in self.server.consumed):
            return False
        if datagram.type != TYPE_INITIATION:
            return True
        peer = receiver.device.peers.get(datagram.sender.key.public)
        marks = peer._marks if peer else None
        if marks is None:
            return False
        try:
            return not marks.inbound_exact or receiver.stamp_of(datagram) <= marks.inbound_stamp
        except InvalidMessage:
            return True

    def hoard(self, who: int) -> None:
        """Keys are lost, a client's packet is caught and sent from elsewhere, and so is what comes back."""
        client, began = self.clients[who], len(self.network.wire)
        lose, self.network.lose = self.network.lose, lambda _: True
        self.bounce()
        self.speak(who, 1)
        for caught in self.network.sent(client, TYPE_TRANSPORT):
            if self.server.alive and caught in self.network.wire[began:]:
                self.server.deliver([caught.payload], ATTACKER)
        self.network.lose = lose

    def alter(self, back: int, bit: int) -> None:
        if self.network.wire:
            datagram = self.network.wire[-1 - back % len(self.network.wire)]
            payload = bytearray(datagram.payload)
            payload[bit // 8 % len(payload)] ^= 1 << bit % 8
            self.network.inject(datagram, payload=bytes(payload))

    def roam(self, who: int, host: int) -> None:
        client = self.clients[who]
        address = (f"10.{who + 1}.0.{host}", client.endpoint.port)
        client.roam(*address)
        self.addresses[client].add(client.endpoint.address)

    # --- what happens to the server ---------------------------------------------------------------

    def doom(self, steps: int) -> None:
        """It dies in so many steps, whatever it does then."""
        if self.server.alive:
            self.steps.left = steps

    def kill(self) -> None:
        if self.server.alive:
            self.server.die()

    def end_process(self) -> None:
        if self.server.alive:
            self.server.end()

    def start(self, same_keeper: bool, up_first: bool, skew: float) -> None:
        if not self.server.alive:
            self.server.clock_skew = skew
            self._note_forgotten()
            self.server.start(same_keeper=same_keeper, up_first=up_first)

    def reboot(self, skew: float) -> None:
        """All processes end, memory is gone, and the clock is what it is."""
        self._pull_the_plug()
        self.start(same_keeper=False, up_first=True, skew=skew)

    def _pull_the_plug(self) -> None:
        self.kill()
        self.server.former_dies()
        self.server.waiting.clear()
        self.steps.left = float("inf")
        self.state.begin()
        self.silent_since = None

    def hang(self) -> None:
        """The process stops and keeps the state; another starts."""
        if self._owns_the_state() and self.silent_since is None:
            self.server.hang()
            self.steps.left = float("inf")
            self._note_forgotten()
            self.server.start()

    def _owns_the_state(self) -> bool:
        return self.server.alive and self.server.former is None and self.server.lineage[1] == 0

    def wake(self, who: int) -> None:
        """The process that hung goes on."""
        if self.server.former is not None:
            client = self.clients[who]
            [payload] = self._payloads(self.server, client, 1)
            self.server.former_sends(client, payload)

    def kill_former(self) -> None:
        self.server.former_dies()

    def drain(self) -> None:
        if self.server.alive:
            self.server.drain()

    def thaw(self) -> None:
        if self.server.alive:
            self.server.thaw()

    def commit(self) -> None:
        """Another took over; stored, then acknowledged."""
        if self._owns_the_state():
            self.steps.left = float("inf")
            self.server.device.settle()
            self.server.device.commit_handover(7, self.network.now)
            self.silent_since = len(self.network.wire)

    def bounce(self) -> None:
        if self.server.alive:
            with self.server._mortal():
                self.server.device.settle()
                self.server.device.down(self.network.now)
                self.server.device.up(self.network.now)

    def greet(self) -> None:
        if self.server.alive:
            with self.server._mortal():
                self.server.device.settle()
                self.server.initiate()

    def change_clock(self, skew: float) -> None:
        self.server.clock_skew = skew

    # --- what people do ---------------------------------------------------------------------------

    def locate(self, who: int) -> None:
        """The configuration says where the client is; if the process is dead, so does the file."""
        client = self.clients[who]
        if client not in self.removed:
            self.server.meet(client, psk=client.peers[self.server.key.public].preshared_key)

    def change_psk(self, who: int, psk: int) -> None:
        client = self.clients[who]
        if client not in self.removed:
            secret = psk.to_bytes(32, "big")
            client.meet(self.server, psk=secret)
            self.server.meet(client, endpoint=False, psk=secret)

    def remove(self, who: int) -> None:
        client = self.clients[who]
        self.removals[client] += 1
        self.removed.add(client)
        self.server.peers.pop(client.key.public, None)
        if self.server.alive:
            self._note_forgotten()
        self.server.configure(InterfaceChange(peers=(PeerChange(client.key.public, remove=True),)))
        if self.server.alive:
            self._note_removals()

    def _note_removals(self) -> None:
        self._note_forgotten()
        for client in self.removed if self._owns_the_state() else ():
            self.epochs[client] += 1

    def _note_forgotten(self) -> None:
        """A process is told, and may have begun to forget even if it dies of it."""
        for client in self.removed:
            self.forgotten[client] = len(self.network.wire)

    def add(self, who: int) -> None:
        client = self.clients[who]
        if client in self.removed:
            self.removed.discard(client)
            psk = client.peers[self.server.key.public].preshared_key
            self.server.meet(client, endpoint=False, psk=psk)

    def change_key(self, number: int) -> None:
        former = self.server.key.public
        self.server.key = static_key(b"k" * 28 + number.to_bytes(4, "big"))
        if self.server.key.public == former:
            return
        self.key_changes += 1
        self.server.configure(InterfaceChange(self.server.key.secret))
        for client in self.clients:
            psk = client.peers.pop(former).preshared_key
            client.configure(InterfaceChange(peers=(PeerChange(former, remove=True),)))
            client.meet(self.server, psk=psk)

    # --- what must hold ---------------------------------------------------------------------------

    def _note_sealed(self, receiver: int, base: int, count: int) -> None:
        for counter in range(base, base + count):
            assert (receiver, counter) not in self.nonces, "a nonce was used twice under one key"
            self.nonces.add((receiver, counter))
        self.sealed[receiver] = max(self.sealed.get(receiver, 0), base + count)

    def _note_stamp(self, own: bytes, peer: bytes, stamp: bytes) -> None:
        """Of an initiation to be sent: the peer refuses one that is not higher than the last."""
        client = next((c for c in self.clients if c.key.public == peer), None)
        life = (self.server.lineage, self.removals[client]) if client else self.key_changes
        assert stamp > self.stamps.get((own, peer, life), b""), "TAI64N did not rise"
        self.stamps[own, peer, life] = stamp

    def ceilings_are_ahead(self) -> None:
        """What any other process reads, at any moment."""
        for words in self.state.extents if self._reads_memory else ():
            for peer in range(0, len(words.values), PEER_WORDS):
                for number in range(KEYPAIRS):
                    base = peer + PeerSlot.KEYPAIRS + number * (KeypairSlot.HEARD + 5)
                    numbers = SlotNumbers(words, base)
                    if numbers.position in (Position.PREVIOUS, Position.CURRENT):
                        remote = words[base + KeypairSlot.INDICES] >> 32
                        assert numbers.ceiling >= self.sealed.get(remote, 0), "a ceiling is behind"

    def _origin(self, client: Host) -> object:
        change = self.server.peers.get(client.key.public)
        return (
            self.server.key.public,
            self.epochs[client],
            bytes(32) if change is None else change.preshared_key or bytes(32),
        )

    def check(self) -> None:
        for host in (self.server, *self.clients):
            self._check_inbox(host)
        if self.server.alive and self.server.former is None:
            self.ceilings_are_ahead()
        self._check_endpoints()
        self._check_wire()

    def _check_inbox(self, host: Host) -> None:
        start = self.seen.get(host, 0)
        for payload in host.inbox[start:]:
            sender, receiver = self.sent[payload]
            assert receiver is host, "a packet came out at the wrong peer"
            assert sender not in self.removed or host is not self.server, "a removed peer was heard"
            assert payload not in self.spoofed, "a packet came in with another's address"
        assert len(set(host.inbox)) == len(host.inbox), "a packet was delivered twice"
        self.seen[host] = len(host.inbox)

    def _check_endpoints(self) -> None:
        for client in self.clients:
            peer = self.server.device.peers.get(client.key.public)
            if peer is not None and peer.endpoint is not None:
                assert peer.endpoint.address in self.addresses[client], "an endpoint moved"
            back = client.peer(self.server).endpoint
            assert back is None or back.address == self.server.endpoint.address, "a client was moved"

    def _check_wire(self) -> None:
        for datagram in self.network.wire[self.wire_seen :] if self.silent_since is not None else ():
            assert datagram.sender is not self.server, "it spoke after another had taken over"
        self.wire_seen = len(self.network.wire)

    # --- the end ----------------------------------------------------------------------------------

    def end(self) -> None:
        """The network heals, and everybody hears everybody soon."""
        self.network.path = Path()
        self.server.former_dies()
        self.steps.left = float("inf")
        self.start(same_keeper=True, up_first=True, skew=0.0)
        self.thaw()
        self.wait(1.0)
        self.check()
        if self.silent_since is not None:
            self.kill()
            self.start(same_keeper=False, up_first=False, skew=0.0)
            self.speak(0, 1)
            self.wait(20.0)
            self.check()
            self.reboot(0.0)
        for who in range(2):
            self.add(who)
        self._talk()
        self.wait(VOID_WITHIN)
        self._send_what_was_hoarded()

    def _send_what_was_hoarded(self) -> None:
        """Initiations that never reached a client. Its server could know of them, so they are void."""
        for client in self.clients:
            for datagram in self.network.wire[self.forgotten[client] :]:
                if self._could_be_known(datagram, client):
                    self.network.inject(datagram, to=client.endpoint, source=ATTACKER)
        self.wait(1.0)
        self.check()

    def _could_be_known(self, datagram: Datagram, client: Host) -> bool:
        if datagram.type != TYPE_INITIATION or datagram.sender is not self.server:
            return False
        if self.server.lineages[datagram.incarnation] != self.server.lineage:
            return False
        try:
            return bool(client.stamp_of(datagram))
        except InvalidMessage:
            return False

    def _talk(self) -> None:
        began, first = self.network.now, len(self.sent)
        limit = HEALED_WITHIN_AFTER_TWO_OWNERS if self.server.had_rival else HEALED_WITHIN
        while not self._all_heard(first):
            assert self.network.now - began <= limit, "they do not hear each other"
            for who in range(2):
                self.speak(who, 1)
                self.answer(who, 1)
            self.network.run(1.0)
            self.check()

    def _all_heard(self, first: int) -> bool:
        heard = {
            self.sent[payload]
            for host in (self.server, *self.clients)
            for payload in host.inbox[-8:]
            if int(payload) >= first
        }
        return len(heard) == 2 * len(self.clients)


Draw = Callable[[Random], tuple[Any, ...]]


def _who(random: Random) -> tuple[int]:
    return (random.randrange(2),)


def _nothing(_: Random) -> tuple[()]:
    return ()


OPERATIONS: dict[str, tuple[int, Draw]] = {
    "speak": (20, lambda r: (r.randrange(2), r.choice((1, 1, 3, 20)))),
    "answer": (20, lambda r: (r.randrange(2), r.choice((1, 1, 3, 20)))),
    "converse": (16, lambda r: (r.randrange(2), r.choice((1, 3, 12)))),
    "wait": (30, lambda r: (r.choice(WAITS),)),
    "doom": (24, lambda r: (int(r.expovariate(1 / 25)),)),
    "start": (40, lambda r: (r.random() < 0.6, r.random() < 0.5, r.choice(SKEWS))),
    "hoard": (3, _who),
    "repeat": (12, lambda r: (int(r.expovariate(1 / 6)),)),
    "replay_from_elsewhere": (6, lambda r: (int(r.expovariate(1 / 6)),)),
    "alter": (3, lambda r: (int(r.expovariate(1 / 6)), r.randrange(1200))),
    "weather": (5, lambda r: (r.choice(PATHS),)),
    "roam": (3, lambda r: (r.randrange(2), r.randrange(1, 4))),
    "spoof": (2, _who),
    "kill": (8, _nothing),
    "end_process": (4, _nothing),
    "reboot": (2, lambda r: (r.choice(SKEWS),)),
    "hang": (3, _nothing),
    "wake": (6, _who),
    "kill_former": (2, _nothing),
    "drain": (3, _nothing),
    "thaw": (4, _nothing),
    "commit": (2, _nothing),
    "bounce": (2, _nothing),
    "greet": (3, _nothing),
    "change_clock": (3, lambda r: (r.choice(SKEWS),)),
    "locate": (3, _who),
    "change_psk": (6, lambda r: (r.randrange(2), r.randrange(3))),
    "remove": (3, _who),
    "add": (6, _who),
    "change_key": (2, lambda r: (r.randrange(3),)),
}
"""How often each happens, and with what arguments."""
