"""One WireGuard interface, sans-IO: datagrams and packets in, datagrams, packets and a deadline out.

    packets = device.receive(datagrams, source, now)    # from the network to the TUN
    device.send(packets, now)                           # from the TUN to the network
    device.process_handshake(now)                       # one of the queued handshake messages
    device.handle_timers(now)                           # when next_deadline(now) has passed
    for transmission in device.take_transmissions(): ...

The caller owns sockets and clocks. Nothing here is linear in the number of peers, but for what a person
asked for: a configuration change, link up and down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from random import Random

from ..continuity.packed_configuration import PackedConfiguration
from ..continuity.storage import Memory, PlainMemory
from .build_up import BuildUp, Succession
from .configuration import InterfaceChange, Settings
from .data_plane import Batch, DataPlane
from .drain import Drain, note_interruption
from .endpoint import Endpoint
from .expected import ExpectedDatagrams, ExpectedPackets, Passed
from .handover import Handed, hand_out, lost_by_peer, take
from .handshake import Handshakes, Initiate
from .interface import Event, Interface, Transmission
from .noise import static_key
from .peer import HandshakeSlot, Peer
from .resume import resume_timers, unanswered
from .session import Keypair
from .startup_handshake import StartupHandshakes
from .statistics import Statistics
from .strays import Strays
from .timers import Expiry
from .transaction import Transaction
from .transport import Transport

__all__ = ["Device", "Event", "Transmission"]

_PEERS_PER_STEP = 32
_EXPIRIES_PER_CALL = 32
"""So many peers' deadlines are served at a time; the rest are due at once again."""


class Device:
    """The whole protocol of one interface."""

    def __init__(
        self,
        settings: Settings | None = None,
        memory: Memory | None = None,
        random: Random | None = None,
        plane: DataPlane | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._interface = interface = Interface(self.settings, memory or PlainMemory(), random, plane)
        self._handshakes = Handshakes(interface)
        self._startup = StartupHandshakes(interface, self._handshakes)
        self._transport = Transport(interface, self._handshakes, self._startup)
        self._strays = Strays(interface, self._handshakes, self._startup, self._transport)
        self._drain = Drain(interface)
        self.is_up = False
        self.expected_packets: ExpectedPackets | None = None
        self.expected_datagrams: ExpectedDatagrams | None = None
        self._passed: list[Passed] = []

    # --- what it is -------------------------------------------------------------------------------

    @property
    def peers(self) -> dict[bytes, Peer]:
        """By public key; replaced, never changed, by a commit."""
        return self._interface.peers

    @property
    def private_key(self) -> bytes | None:
        return self._interface.key.secret if self._interface.key else None

    @property
    def public_key(self) -> bytes | None:
        return self._interface.key.public if self._interface.key else None

    @property
    def listen_port(self) -> int:
        return self._interface.listen_port

    @listen_port.setter
    def listen_port(self, port: int) -> None:
        self._interface.listen_port = port

    @property
    def fwmark(self) -> int:
        return self._interface.fwmark

    @property
    def statistics(self) -> Statistics:
        return self._interface.statistics

    @property
    def frozen(self) -> bool:
        return self._drain.frozen

    @property
    def committed(self) -> bool:
        """Whether another took over for good; then it stays frozen."""
        return self._drain.committed

    def set_mtu(self, mtu: int) -> None:
        self._interface.mtu = mtu

    def set_wall_offset(self, seconds: float) -> None:
        """Unix time minus `now`; only TAI64N stamps and `wg show` need it."""
        self._interface.set_clock(seconds)

    def change_settings(self, settings: Settings) -> None:
        self.settings = self._interface.settings = settings
        self._startup.settings_changed()
        self._strays.settings_changed()

    # --- data -------------------------------------------------------------------------------------

    def receive(self, datagrams: Batch, source: Endpoint, now: float, traffic_class: int = 0) -> Batch:
        """Datagrams that came together from one source; returns inner IP packets for the TUN."""
        self.settle()
        if self._drain.frozen or not self.is_up:
            return []
        batches = []
        for index, run in self._interface.plane.by_receiver(datagrams):
            if index is None:
                for datagram in run:
                    self._handshakes.receive(datagram, source, now)
                continue
            keypair = self._interface.indices.get(index) or self._take_up(index, now)
            if isinstance(keypair, Keypair):
                packets = self._transport.receive(keypair, run, source, now, traffic_class)
                if packets:
                    batches.append(packets)
            else:
                self._strays.receive(index, run, source, now)
        return self._interface.plane.join(batches) if batches else []

    def _take_up(self, index: int, now: float) -> Keypair | HandshakeSlot | None:
        """What the index names, where its peer was not looked at yet."""
        if self._interface.build_up is None:
            return None
        self._interface.build_up.find_index(index, now)
        return self._interface.indices.get(index)

    def send(self, packets: Batch, now: float) -> None:
        """IP packets read from the TUN."""
        self.settle()
        if self.is_up and not self._drain.frozen:
            self._transport.send(packets, now)

    def expect(self, now: float) -> None:
        """Makes ready for what is like the last packet each way, until `settle`."""
        if self.is_up and not self._drain.frozen and not self.building_up:
            self.expected_packets = self._transport.expect_packets(now, self._passed)
            self.expected_datagrams = self._transport.expect_datagrams(self._passed)

    def settle(self) -> bool:
        """Expects nothing any more, and does what there is to do about what came; whether anything had. Comes
        before all else."""
        if self.expected_packets is not None:
            self.expected_packets.give_back()
        self.expected_packets = self.expected_datagrams = None
        came = bool(self._passed)
        for passed in self._passed:
            self._transport.note_passed(passed)
        self._passed.clear()
        return came

    def take_transmissions(self) -> list[Transmission]:
        """What is to be sent now, in order."""
        outbox, self._interface.outbox = self._interface.outbox, []
        return outbox

    def take_events(self) -> list[Event]:
        events, self._interface.events = self._interface.events, []
        return events

    def local_address_refused(self, transmission: Transmission) -> None:
        """The kernel would not send from the stored local address: it chooses from now on."""
        peer = transmission.peer
        if peer is not None and peer.endpoint == transmission.endpoint:
            peer.choose_path_anew()

    # --- handshakes -------------------------------------------------------------------------------

    @property
    def handshake_backlog(self) -> bool:
        return not self._drain.frozen and self._handshakes.backlog

    def process_handshake(self, now: float) -> None:
        """Works off one queued handshake message; there must be one."""
        keypair = self._handshakes.process(now)
        if keypair is not None:
            self._transport.confirm(keypair, now)

    def set_handshake_cost(self, seconds: float) -> None:
        """What one handshake message costs here, as measured: decides when we are under load."""
        self._handshakes.seconds_each = seconds

    def initiate(self, public_keys: Iterable[bytes] | None, now: float) -> int:
        """Forces handshakes with the named peers, or all, in the recovery's cadence; how many."""
        if not self.is_up:
            return 0
        self._finish(now)
        keys = self.peers if public_keys is None else public_keys
        chosen = [self.peers[key] for key in keys if key in self.peers]
        return self._startup.begin([p for p in chosen if p.endpoint is not None], now, announce=True)

    def greet(self, now: float) -> int:
        """What a start does by itself: greets all who have no session, where it may announce; how many."""
        if not self.is_up or not self.settings.announce:
            return 0
        self._finish(now)
        silent = [
            peer
            for peer in self.peers.values()
            if peer.endpoint is not None and not peer.can_send(now) and not peer.in_cadence
        ]
        return self._startup.begin(silent, now, announce=True)

    # --- time -------------------------------------------------------------------------------------

    def next_deadline(self, now: float) -> float:
        """When `handle_timers` has something to do; `inf` if nothing is ahead."""
        if not self.is_up or self._drain.frozen:
            return float("inf")
        return min(self._interface.schedule.next_deadline(), self._startup.next_deadline(now))

    def handle_timers(self, now: float) -> None:
        """Serves what is due, a bounded part of it a call."""
        if not self.is_up or self._drain.frozen:
            return
        self._startup.tick(now)
        due = self._interface.schedule.due(now)
        for _, timers in zip(range(_EXPIRIES_PER_CALL), due, strict=False):
            peer = timers.owner
            if isinstance(peer, Peer):
                if self._interface.build_up is not None:
                    self._interface.build_up.take_up(peer, now)
                for expiry in timers.expired(now):
                    self._serve(peer, expiry, now)
                timers.rearm()

    def _serve(self, peer: Peer, expiry: Expiry, now: float) -> None:
        match expiry:
            case Expiry.ZERO_KEYS:
                self._interface.forget_sessions(peer)
            case Expiry.STALE_SLOTS:
                self._handshakes.forget_stale(peer, now)
            case Expiry.RETRANSMIT:
                self._retransmit(peer, now)
            case Expiry.NEW_HANDSHAKE:
                peer.choose_path_anew()
                self._handshakes.initiate(peer, now, Initiate.NEEDED)
            case Expiry.CONFIRM:
                self._transport.repeat_confirmation(peer, now)
            case Expiry.KEEPALIVE:
                self._transport.keepalive(peer, now)
                peer.timers.keepalive_expired(now)
            case Expiry.PERSISTENT_KEEPALIVE:
                peer.timers.set_persistent_interval(peer.persistent_keepalive, now)
                self._transport.keepalive(peer, now)

    def _retransmit(self, peer: Peer, now: float) -> None:
        if peer.in_cadence:
            return
        if peer.gave_up:
            self.statistics.handshakes["initiator", "timeout"] += 1
            self._interface.flush_staged(peer)
            peer.timers.gave_up(now)
            return
        peer.handshake_attempts += 1
        peer.choose_path_anew()
        self._handshakes.initiate(peer, now, Initiate.RETRANSMIT)

    # --- configuration and life -------------------------------------------------------------------

    def transaction(self) -> Transaction:
        """A change to be staged in steps; `commit` it here. One at a time, and none during a build-up."""
        assert not self.building_up
        return Transaction(self._interface)

    def commit(self, transaction: Transaction, now: float) -> None:
        """Swaps a staged change in. The peers that it made reachable are resumed or greeted: a few at once,
        many by `build_up`."""
        self.settle()
        reachable = transaction.commit(now)
        self._interface.build_up = build_up = BuildUp(self._interface, reachable, self._go_on)
        if build_up.is_short:
            self.build_up(now)

    def succeed(self, left: PackedConfiguration, now: float) -> None:
        """Takes over, in a device that is new, what a former process of the same keeper was configured as:
        peers whose packets wait come first, `build_up` looks at the others."""
        interface = self._interface
        if left.private_key is not None:
            interface.take_key(static_key(left.private_key))
        interface.listen_port, interface.fwmark = left.listen_port, left.fwmark
        interface.build_up = Succession(interface, left, self._go_on)

    @property
    def building_up(self) -> bool:
        """Whether `build_up` has something to do. Until then `peers` may lack some."""
        return self._interface.build_up is not None

    def build_up(self, now: float) -> None:
        """Looks at some of the peers that nobody has looked at yet."""
        build_up = self._interface.build_up
        if build_up is None or not build_up.step(now):
            return
        self._interface.build_up = None
        self._greet([peer for peer in build_up.silent if not peer.can_send(now)], now)

    def _finish(self, now: float) -> None:
        while self.building_up:
            self.build_up(now)

    def _greet(self, peers: Iterable[Peer], now: float) -> None:
        """Starts a handshake with each, but not before all that outlived a process was looked at."""
        if self._interface.build_up is not None:
            self._interface.build_up.silent.update(dict.fromkeys(peers))
        elif self.is_up:
            self._startup.begin(peers, now, announce=self.settings.announce)

    def _go_on(self, peer: Peer, now: float) -> None:
        """Timers run on. If the interruption swallowed our answer, a packet at once spares a handshake."""
        resume_timers(self._interface, peer, now)
        if self.is_up and not self._drain.frozen and unanswered(peer):
            self._transport.keepalive(peer, now)

    def configure(self, change: InterfaceChange, now: float) -> None:
        """A whole change at once; for few peers."""
        self._finish(now)
        transaction = self.transaction()
        transaction.stage_interface(change)
        for peer in change.peers:
            transaction.stage(peer)
        self.commit(transaction, now)
        self._finish(now)

    def up(self, now: float) -> None:
        """The link is up: greet everyone whose endpoint is known."""
        if self.is_up:
            return
        self.is_up = True
        for peer in self.peers.values():
            peer.timers.set_persistent_interval(peer.persistent_keepalive, now)
            if peer.current is not None:
                self._go_on(peer, now)
        self._greet([peer for peer in self.peers.values() if not peer.can_send(now)], now)

    def down(self, now: float) -> None:
        """The link is down: keys are zeroed, endpoints stay."""
        if not self.is_up:
            return
        self.settle()
        self.is_up = False
        self._finish(now)
        note_interruption(self._interface, now)
        self._startup.stop()
        self._handshakes.forget_backlog()
        self._interface.outbox.clear()
        self._interface.forget_lost(now)
        for peer in self.peers.values():
            self._interface.lose(peer, now)
            peer.timers.stop()
            peer.last_initiation_sent = float("-inf")

    def freeze(self, now: float) -> None:
        """Drain: from here on nothing is sealed, opened or answered."""
        self.settle()
        self._drain.freeze(now)

    def forget_sessions(self, now: float, *, for_good: bool) -> Iterator[None]:
        """A job, while frozen: another owns the peers. Their indices stay known unless `for_good`."""
        self._finish(now)
        for count, peer in enumerate(list(self.peers.values()), 1):
            if for_good:
                self._interface.forget_sessions(peer)
            else:
                self._interface.lose(peer, now)
            if count % _PEERS_PER_STEP == 0:
                yield

    def hand_out(self, now: float, since: float | None = None) -> Iterator[list[tuple[Peer, Handed]]]:
        """Everything another pod may know, in pieces; or, of peers that shook hands or moved since a moment,
        what is new."""
        self._finish(now)
        if since is None:
            lost, peers = lost_by_peer(self._interface), list(self.peers.values())
        else:
            lost, peers = {}, self._interface.changed_since(since)
        for start in range(0, len(peers), _PEERS_PER_STEP):
            piece = peers[start : start + _PEERS_PER_STEP]
            yield [(peer, hand_out(peer, lost.get(peer.public_key, ()), now)) for peer in piece]

    def take(self, handed: Mapping[bytes, Handed], frozen_at: float, now: float) -> Iterator[None]:
        """A job, while frozen: adds what another pod knew, by public key, when it froze."""
        self._finish(now)
        for count, (public_key, known) in enumerate(handed.items(), 1):
            peer = self.peers.get(public_key)
            if peer is not None:
                take(self._interface, peer, known, frozen_at, now)
            if count % _PEERS_PER_STEP == 0:
                yield

    def forget_dead(self, now: float) -> None:
        """Of lost sessions, those that nobody can send on any more. Whoever is told of new ones all the time
        calls it now and then."""
        self._interface.forget_lost(now)

    @property
    def known_sessions(self) -> int:
        """How many there are without keys here; some may be dead by now."""
        return len(self._interface.lost)

    def raise_stamp_floor(self, stamp: int) -> None:
        """Other pods may have stamped initiations up to here."""
        self._interface.stamp_floor = max(self._interface.stamp_floor, stamp)

    @property
    def highest_stamp(self) -> int:
        """No pod up to this one has stamped an initiation higher, as far as is known; 0 for none."""
        return max(self._interface.highest_stamp, self._interface.stamp_floor)

    def take_charge(self, now: float) -> None:
        """It owns its peers from here on: thaws, and greets whoever has no session."""
        self.thaw()
        self._greet([peer for peer in self.peers.values() if not peer.can_send(now)], now)

    def commit_handover(self, term: int, now: float) -> None:
        """Another took over at `term`: freezes for good, whatever becomes of this process."""
        self.freeze(now)
        self._interface.memory.committed_term = term

    def thaw(self) -> None:
        self._drain.thaw()
