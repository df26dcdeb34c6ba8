"""What the parts of a device share: keys, peers, routes, indices, clocks' offset, what is to be sent."""

from __future__ import annotations

import os
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from ..continuity.storage import Memory
from .batch import PureBatches
from .configuration import Settings
from .constants import CLOCK_GRANULARITY, CLOCK_TOLERANCE, REJECT_AFTER_TIME
from .cookies import CookieChecker
from .data_plane import Batch, DataPlane
from .endpoint import Endpoint
from .hashes import blake2s
from .noise import StaticKey, diffie_hellman
from .peer import HandshakeSlot, Peer
from .routing import RoutingTable
from .session import Keypair
from .statistics import Statistics
from .timers import Schedule

if TYPE_CHECKING:
    from .build_up import BuildUp


class Transmission(NamedTuple):
    """Datagrams that leave for one endpoint, in order."""

    endpoint: Endpoint
    datagrams: Batch
    traffic_class: int
    """The outer TOS or traffic class byte."""
    peer: Peer | None = None
    """Whose endpoint it is; None for an answer to a stranger."""


class Event(NamedTuple):
    """Something a person may want to read in a log. `what` is a short phrase, never a secret."""

    public_key: bytes | None
    """The peer's; None for what concerns all."""
    what: str
    warning: bool = False


class LostSession:
    """A session whose keys are gone, but not what its receiver index stands for."""

    __slots__ = ("born", "highest_received", "peer")

    def __init__(self, peer: Peer, born: float, highest_received: int) -> None:
        self.peer = peer
        self.born = born
        self.highest_received = highest_received


class Interface:
    """One WireGuard interface's shared state. It does nothing by itself."""

    def __init__(
        self,
        settings: Settings,
        memory: Memory,
        random: Random | None = None,
        plane: DataPlane | None = None,
    ) -> None:
        self.settings = settings
        self.memory = memory
        self.random = random or Random()
        self.plane = plane or PureBatches()
        self.mtu = settings.mtu
        self.key: StaticKey | None = None
        self.checker: CookieChecker | None = None
        self.listen_port = 0
        self.fwmark = 0
        self.peers: dict[bytes, Peer] = {}
        self.routes: RoutingTable[Peer] = RoutingTable()
        self.build_up: BuildUp | None = None
        """While there are peers that nobody has looked at: whoever needs one asks here first."""
        self.indices: dict[int, Keypair | HandshakeSlot] = {}
        self.lost: dict[int, LostSession] = {}
        """By receiver index; for 180 s from a session's birth."""
        self._changed: dict[Peer, float] = {}
        """When each peer last shook hands or was heard from elsewhere; the latest last."""
        self.schedule = Schedule()
        self.outbox: list[Transmission] = []
        self.events: list[Event] = []
        self.statistics = Statistics()
        self.stamp_floor = 0
        """Initiations of ours are stamped above it: what other pods may have sent (RECOVERY, section 3)."""
        self.highest_stamp = 0
        """Of all initiations sent; 0 before the first."""
        self.wall_offset = 0.0
        """Unix seconds minus `now`; the caller keeps it right."""
        self._told_of_clock = False

    @property
    def strict(self) -> bool:
        return self.settings.timers == "strict"

    def take_key(self, key: StaticKey | None) -> None:
        """Takes the interface's key; everything derived from the former one is void."""
        had_key, self.key = self.key is not None, key
        self.checker = CookieChecker(key.public) if key else None
        if not had_key:
            return
        for peer in self.peers.values():
            peer.static_static = None
            self.discard_slots(peer)
            for keypair in peer.keypairs:
                keypair.forbid_sending()
            peer.last_initiation_sent = float("-inf")

    def find_peer(self, public_key: bytes, now: float) -> Peer | None:
        """The peer with this key, with what outlived the former process of it."""
        if self.build_up is not None:
            return self.build_up.find(public_key, now)
        return self.peers.get(public_key)

    def new_index(self) -> int:
        """A random index that nothing of ours answers to."""
        while True:
            index = int.from_bytes(os.urandom(4), "little")
            taken = index in self.indices or index in self.lost
            if not taken and self.memory.peer_of(index) is None:
                return index

    def static_static(self, peer: Peer) -> bytes:
        """DH of the interface's and the peer's static keys; raises InvalidMessage for a bad point."""
        if peer.static_static is None:
            assert self.key is not None
            peer.static_static = diffie_hellman(self.key.private, peer.public_key)
        return peer.static_static

    def session_context(self, peer: Peer) -> bytes:
        """What a session's keys came from besides the peer; after a restart it must be the same."""
        assert self.key is not None
        return blake2s(self.key.public + peer.preshared_key, person=b"handfast").digest()

    def transmit(
        self, peer: Peer, datagrams: Batch, traffic_class: int, endpoint: Endpoint | None = None
    ) -> None:
        """Puts datagrams into the outbox, for the peer's endpoint if no other is named."""
        endpoint = endpoint or peer.endpoint
        assert endpoint is not None
        self.count_sent(peer, self.plane.size(datagrams))
        self.outbox.append(Transmission(endpoint, datagrams, traffic_class, peer))

    def count_sent(self, peer: Peer, size: int) -> None:
        peer.sent_bytes += size
        self.statistics.sent_bytes += size

    def log(self, peer: Peer, what: str) -> None:
        self.events.append(Event(peer.public_key, what))

    def set_clock(self, offset: float) -> None:
        """Also tells if it was set meanwhile, by this process's knowledge or a former one's (RECOVERY, 3)."""
        self.wall_offset = offset
        known = self.memory.wall_offset
        step = offset - known
        if known and step > CLOCK_TOLERANCE:
            self._warn(
                f"the clock was set {step:.0f} s ahead: if that is wrong, put it right soon, or peers refuse "
                "our handshakes for as long once the state memory is gone"
            )
        elif known and step < -CLOCK_TOLERANCE:
            self.clock_is_behind(-step)
        if abs(step) > CLOCK_GRANULARITY:
            self.memory.wall_offset = offset

    def clock_is_behind(self, seconds: float) -> None:
        """What it was before, or the stamp last sent to a peer."""
        if not self._told_of_clock:
            self._warn(
                f"the clock is {seconds:.0f} s behind what was sent to peers: stamps go on from there; "
                "if it is wrong, put it right, or peers refuse our handshakes once the state memory is gone"
            )
        self._told_of_clock = True

    def _warn(self, what: str) -> None:
        self.events.append(Event(None, what, warning=True))

    def drop(self, reason: str, count: int = 1) -> None:
        self.statistics.dropped[reason] += count

    def discard_keypair(self, keypair: Keypair | None) -> None:
        if keypair is not None:
            self.indices.pop(keypair.local_index, None)
            keypair.erase()

    def lose(self, peer: Peer, now: float) -> None:
        """Zeroes a peer's keys, but remembers what their receiver indices stand for."""
        for keypair in peer.keypairs:
            if keypair.expired(now):
                self.discard_keypair(keypair)
                continue
            self.remember_lost(peer, keypair.local_index, keypair.born, keypair.numbers.highest_received)
            self.indices.pop(keypair.local_index, None)
            keypair.lose()
        peer.current = peer.previous = peer.next = None
        self.forget_sessions(peer)

    def note_change(self, peer: Peer, now: float) -> None:
        """Its sessions, or where it is, are not what a successor may have been told."""
        self._changed.pop(peer, None)
        self._changed[peer] = now

    def changed_since(self, moment: float) -> list[Peer]:
        """Peers of which that is so, without a look at the others."""
        found = []
        for peer, at in reversed(self._changed.items()):
            if at < moment:
                break
            found.append(peer)
        return found

    def forget_changes(self, peer: Peer) -> None:
        self._changed.pop(peer, None)

    def remember_lost(self, peer: Peer, index: int, born: float, highest_received: int) -> None:
        self.lost[index] = LostSession(peer, born, highest_received)

    def forget_lost(self, now: float) -> None:
        """Drops those that nobody can send on any more."""
        self.lost = {i: lost for i, lost in self.lost.items() if now - lost.born < REJECT_AFTER_TIME}

    def discard_slot(self, slot: HandshakeSlot) -> None:
        self.indices.pop(slot.index, None)
        slot.peer.slots.pop(slot.index, None)

    def discard_slots(self, peer: Peer) -> None:
        for slot in list(peer.slots.values()):
            self.discard_slot(slot)

    def forget_sessions(self, peer: Peer) -> None:
        """Zeroes all a peer's keys and drops what waits for it."""
        for keypair in peer.keypairs:
            self.discard_keypair(keypair)
        peer.current = peer.previous = peer.next = None
        self.discard_slots(peer)
        self.flush_staged(peer)

    def flush_staged(self, peer: Peer) -> None:
        if peer.staged:
            self.drop("handshake_timeout", len(peer.staged))
            peer.staged = None
