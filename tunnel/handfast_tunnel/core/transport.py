"""Packets of established sessions, both ways (paper, section 5.4.6), and when to ask for new keys.

Work is done per batch: one session's run of packets at a time. The order of the checks is the rule of
RECOVERY, section 8: age and counter limit, authentication, replay window, endpoint, keys, inner source.
"""

from __future__ import annotations

from collections import deque

from ..continuity.storage import Position
from .batch import destination_and_ecn, source_of
from .constants import (
    CONFIRM_INTERVAL,
    CONFIRM_REPEATS,
    KEEPALIVE_TIMEOUT,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_TIMEOUT,
    SEAL_BATCH,
    STAGED_PACKETS,
)
from .data_plane import Batch
from .ecn import CE, ECN_MASK, inner_ecn, mark_congestion
from .endpoint import Endpoint
from .expected import IP_HEADER, ExpectedDatagrams, ExpectedPackets, Passed
from .handshake import Handshakes, Initiate
from .interface import Interface
from .messages import TRANSPORT_MIN_LENGTH
from .peer import Peer
from .session import Keypair
from .startup_handshake import StartupHandshakes


class Transport:
    """The data path of an interface."""

    def __init__(self, interface: Interface, handshakes: Handshakes, startup: StartupHandshakes) -> None:
        self._interface = interface
        self._handshakes = handshakes
        self._startup = startup
        self._last_sent: tuple[Peer, int, bytes] | None = None
        """Of what came alone: whose it was, its ECN bits, its IP header."""
        self._last_received: tuple[Keypair, Endpoint, bytes] | None = None

    # --- to the network ---------------------------------------------------------------------------

    def send(self, packets: Batch, now: float) -> None:
        """Routes packets from the TUN to their peers, a run of equal destination and ECN at a time."""
        if len(packets) == 1:
            self._send_one(packets[0], now)
            return
        plane, lookup = self._interface.plane, self._interface.routes.lookup
        runs: dict[tuple[Peer, int], list[Batch]] = {}
        for address, ecn, run in plane.by_destination(packets):
            peer = lookup(address) if address else None
            if peer is None:
                self._interface.drop("no_route", len(run))
            else:
                runs.setdefault((peer, ecn), []).append(run)
        for (peer, ecn), batches in runs.items():
            self.send_to(peer, plane.join(batches), ecn, now)

    def _send_one(self, packet: bytes, now: float) -> None:
        """The same for a lone packet, which is what a round trip waits for."""
        address, ecn = destination_and_ecn(packet)
        peer = self._interface.routes.lookup(address) if address else None
        if peer is None:
            self._interface.drop("no_route")
        else:
            self.send_to(peer, [packet], ecn, now)
            self._last_sent = (peer, ecn, packet[:IP_HEADER])

    def send_to(self, peer: Peer, packets: Batch, ecn: int, now: float) -> None:
        """Seals packets for one peer, or stages them and asks for a session."""
        keypair = peer.current
        if keypair is None and self._interface.build_up is not None:
            self._interface.build_up.take_up(peer, now)
            keypair = peer.current
        if keypair is None or not keypair.can_send(now) or peer.endpoint is None:
            self._stage(peer, packets)
            self._handshakes.initiate(peer, now, Initiate.NEEDED)
            return
        sent = self._seal(keypair, packets, ecn, now)
        if sent < len(packets):
            self._stage(peer, packets[sent:])
        if sent:
            self._note_data_sent(peer, now)

    def _note_data_sent(self, peer: Peer, now: float) -> None:
        if peer.timers.data_sent(now):
            peer.marks.data_sent = now

    def _note_data_received(self, peer: Peer, now: float) -> None:
        if peer.timers.data_received(now):
            peer.marks.data_received = now

    def _seal(self, keypair: Keypair, packets: Batch, ecn: int, now: float) -> int:
        """How many packets were sealed: all, but for the very last counters of a key. Sees to new keys."""
        interface, peer = self._interface, keypair.peer
        sent = 0
        while sent < len(packets):
            batch = packets[sent : sent + SEAL_BATCH] if len(packets) > SEAL_BATCH else packets
            sealed = keypair.seal_batch(batch, interface.mtu)
            if sealed:
                interface.transmit(peer, sealed, ecn)
            sent += len(sealed)
            if len(sealed) < len(batch):
                break
        if sent:
            self._note_sent(keypair, now)
        return sent

    def _note_sent(self, keypair: Keypair, now: float) -> None:
        """Sees to timers and to new keys."""
        peer = keypair.peer
        peer.marks.last_sent = now
        peer.timers.any_authenticated_packet_sent(now)
        worn = keypair.counter >= REKEY_AFTER_MESSAGES
        if worn or (keypair.initiator and now - keypair.born >= keypair.rekey_age):
            self._handshakes.initiate(peer, now, Initiate.NEEDED)

    # --- what is expected ---------------------------------------------------------------------------

    def expect_packets(self, now: float, passed: list[Passed]) -> ExpectedPackets | None:
        """Like the last; None where one would not just be sealed and sent."""
        if self._last_sent is None:
            return None
        peer, ecn, header = self._last_sent
        keypair, endpoint = peer.current, peer.endpoint
        if keypair is None or endpoint is None or not keypair.can_send(now):
            return None
        if self._interface.routes.lookup(destination_and_ecn(header)[0] or b"") is not peer:
            return None
        return ExpectedPackets(keypair, endpoint, ecn, header, self._interface.mtu, passed)

    def expect_datagrams(self, passed: list[Passed]) -> ExpectedDatagrams | None:
        """Like the last; None where more would follow from one than that a packet is delivered."""
        if self._last_received is None:
            return None
        keypair, source, header = self._last_received
        peer = keypair.peer
        if (
            keypair is not peer.current
            or source != peer.endpoint
            or peer.awaited
            or self._interface.routes.lookup(source_of(header)) is not peer
        ):
            return None
        return ExpectedDatagrams(keypair, source, header, passed)

    def note_passed(self, passed: Passed) -> None:
        """What the long way does about a packet besides passing it on."""
        expected, counter, size, now = passed
        if isinstance(expected, ExpectedPackets):
            self._interface.count_sent(expected.keypair.peer, size)
            self._note_sent(expected.keypair, now)
            self._note_data_sent(expected.keypair.peer, now)
        else:
            expected.keypair.window.accept(counter)
            self._count_received(expected.keypair.peer, size)
            self._authenticated(expected.keypair, now)
            self._note_data_received(expected.keypair.peer, now)

    def _stage(self, peer: Peer, packets: Batch) -> None:
        if peer.staged is None:
            peer.staged = deque(maxlen=STAGED_PACKETS)
        overflow = len(peer.staged) + len(packets) - STAGED_PACKETS
        if overflow > 0:
            self._interface.drop("staging", overflow)
        peer.staged.extend(packets)

    def flush(self, peer: Peer, now: float) -> bool:
        """Sends what waited for a session; False if nothing did."""
        staged, peer.staged = peer.staged, None
        if not staged:
            return False
        for packet in staged:
            self.send_to(peer, [packet], inner_ecn(packet), now)
        return True

    def keepalive(self, peer: Peer, now: float) -> None:
        """An empty packet; where there is no session, a handshake towards one."""
        keypair = peer.current
        if keypair is None or not keypair.can_send(now) or peer.endpoint is None:
            self._handshakes.initiate(peer, now, Initiate.NEEDED)
            return
        self._seal(keypair, [b""], 0, now)

    # --- a new session ----------------------------------------------------------------------------

    def confirm(self, keypair: Keypair, now: float) -> None:
        """First packets on keys we asked for: the peer uses them only once it has heard one."""
        peer = keypair.peer
        self._startup.completed(keypair, now)
        if not self.flush(peer, now):
            self.keepalive(peer, now)
        if not self._interface.strict:
            peer.confirm_step = 0
            peer.timers.confirm_at(now + CONFIRM_REPEATS[0])

    def repeat_confirmation(self, peer: Peer, now: float) -> None:
        """The peer has not used the new key yet: perhaps the confirmation was lost."""
        keypair = peer.current
        if keypair is None or not keypair.initiator or keypair.heard:
            return
        self.keepalive(peer, now)
        peer.confirm_step += 1
        if peer.confirm_step < len(CONFIRM_REPEATS):
            pause = CONFIRM_REPEATS[peer.confirm_step] - CONFIRM_REPEATS[peer.confirm_step - 1]
            peer.timers.confirm_at(now + pause)

    # --- from the network -------------------------------------------------------------------------

    def receive(
        self, keypair: Keypair, datagrams: Batch, source: Endpoint, now: float, traffic_class: int
    ) -> Batch:
        """Opens a run of one session's messages from one source; returns the inner IP packets."""
        interface, peer = self._interface, keypair.peer
        if now - keypair.born >= REJECT_AFTER_TIME:
            interface.drop("expired", len(datagrams))
            return []
        authentic, plaintexts = keypair.open_batch(datagrams)
        if authentic < len(datagrams):
            interface.drop("authentication", len(datagrams) - authentic)
        if len(plaintexts) < authentic:
            interface.drop("replay", authentic - len(plaintexts))
        if not plaintexts:
            return []
        self._count_received(peer, interface.plane.size(plaintexts) + len(plaintexts) * TRANSPORT_MIN_LENGTH)
        if source is not peer.endpoint and peer.move_to(source):
            interface.note_change(peer, now)
        self._authenticated(keypair, now)
        packets = self._inner_packets(peer, plaintexts)
        if any(plaintexts):
            self._note_data_received(peer, now)
        if traffic_class & ECN_MASK == CE:
            packets = [mark_congestion(packet) for packet in packets]
        if len(packets) == 1:
            self._last_received = (keypair, source, packets[0][:IP_HEADER])
        return packets

    def _count_received(self, peer: Peer, size: int) -> None:
        peer.received_bytes += size
        self._interface.statistics.received_bytes += size

    def _authenticated(self, keypair: Keypair, now: float) -> None:
        """What a valid packet proves: the peer is there and holds these keys."""
        peer = keypair.peer
        peer.marks.last_received = now
        peer.timers.any_authenticated_packet_received(now)
        if not keypair.heard:
            keypair.note_heard()
        if keypair is peer.next:
            self._promote(keypair, now)
        elif keypair is peer.previous:
            self.reconfirm(peer, now)
        if peer.awaited:
            self._startup.heard(peer, now)
        current = peer.current
        if (
            current is not None
            and current.initiator
            and not peer.last_minute_handshake
            and now - current.born >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        ):
            peer.last_minute_handshake = True
            self._handshakes.initiate(peer, now, Initiate.NEEDED)

    def _promote(self, keypair: Keypair, now: float) -> None:
        """The peer uses keys we answered with: they are the session, and our own initiations are moot."""
        interface, peer = self._interface, keypair.peer
        interface.discard_keypair(peer.previous)
        peer.previous = peer.current.place(Position.PREVIOUS) if peer.current else None
        peer.current, peer.next = keypair.place(Position.CURRENT), None
        peer.marks.inbound_exact = True
        interface.discard_slots(peer)
        self._handshakes.complete(keypair, now)
        self._startup.completed(keypair, now)
        self.flush(peer, now)
        self._handshakes.void_hoarded(peer, now)

    def reconfirm(self, peer: Peer, now: float) -> bool:
        """The peer still uses older keys: it may not know yet that we have newer ones. True if it is told."""
        current = peer.current
        if (
            current is None
            or not current.initiator
            or current.heard
            or self._interface.strict
            or now - peer.last_reconfirm < CONFIRM_INTERVAL
        ):
            return False
        peer.last_reconfirm = now
        self.keepalive(peer, now)
        return True

    def _inner_packets(self, peer: Peer, plaintexts: Batch) -> Batch:
        """IP packets whose source the peer may use; keepalives are gone after this."""
        interface = self._interface
        lookup = interface.routes.lookup
        allowed = []
        for source, packets in interface.plane.by_source(plaintexts):
            if source is None:
                interface.drop("not_ip", len(packets))
            elif lookup(source) is not peer:
                interface.drop("source_not_allowed", len(packets))
            else:
                allowed.append(packets)
        return interface.plane.join(allowed) if allowed else []
