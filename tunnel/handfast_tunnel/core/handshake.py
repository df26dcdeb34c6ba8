"""The handshake (paper, sections 5.4.2-5.4.4, and RECOVERY, section 4).

Initiations of ours live in slots, several a peer: answering a peer's own initiation does not spoil
them, a garbage response clears nothing, and an answer makes only older slots worthless. Handshake
messages wait in a queue, so that the caller decides how much time they get beside the data.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..continuity.storage import KeypairFacts, Position
from .constants import (
    CLOCK_TOLERANCE,
    HANDSHAKE_BACKLOG_LIMIT,
    HANDSHAKE_DSCP,
    HANDSHAKE_QUEUE,
    INITIATION_MIN_INTERVAL,
    LOADED_HANDSHAKES_AT_ONCE,
    LOADED_HANDSHAKES_PER_SECOND,
    LOADED_HANDSHAKES_PER_SOURCE,
    RECOVERY_REKEY_AGE,
    REKEY_AFTER_TIME,
    REKEY_TIMEOUT,
    RESPONSES_PER_SLOT,
    UNDER_LOAD_AFTER_TIME,
)
from .cookies import add_macs, mac1_of, open_cookie
from .endpoint import Endpoint
from .interface import Interface, Transmission
from .messages import (
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    message_type,
    pack_initiation,
    pack_response,
    receiver_index,
    unpack_cookie_reply,
    unpack_initiation,
    unpack_response,
)
from .noise import (
    InvalidMessage,
    ResponderState,
    TransportKeys,
    consume_response,
    create_initiation,
    create_response,
    finish_initiation,
    open_initiation,
)
from .peer import Cookie, HandshakeSlot, Peer
from .session import Keypair
from .tai64n import next_stamp, pack_stamp
from .token_bucket import TokenBucket, TokenBuckets


class Initiate(Enum):
    """Why an initiation is sent, which decides whether it may follow the last one closely."""

    NEEDED = "needed"
    """There is something to send or a key is old: at most one in REKEY_TIMEOUT."""
    RETRANSMIT = "retransmit"
    """The paper's own retry."""
    RECOVERY = "recovery"
    """A step of the recovery cadence, a forced handshake, or a retry with a cookie."""
    STRAY = "stray"
    """The one answer to a stray packet from an address that is not known to be the peer's."""


def _what_was_sent(sent: Keypair | HandshakeSlot | None) -> tuple[bytes | None, Endpoint | None]:
    """mac1 of the message that a cookie reply answers, and where it went."""
    if isinstance(sent, Keypair):
        return sent.response_mac1, sent.response_path
    return (sent.mac1, sent.path) if sent is not None else (None, None)


class Handshakes:
    """Both sides of the handshake for all peers of an interface."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._queue: deque[tuple[bytes, Endpoint]] = deque()
        self._responses: deque[tuple[bytes, Endpoint]] = deque()
        """Those we asked for: they go first, and are no load that others put on us."""
        self._under_load_until = float("-inf")
        self._global_budget = TokenBucket(LOADED_HANDSHAKES_PER_SECOND, LOADED_HANDSHAKES_AT_ONCE)
        self._source_budgets: TokenBuckets[tuple[str, int, int]] = TokenBuckets(
            *LOADED_HANDSHAKES_PER_SOURCE, limit=65536
        )
        self.seconds_each = 0.0004
        """What one queued message costs; the caller measures it."""

    # --- what we send -----------------------------------------------------------------------------

    def initiate(
        self,
        peer: Peer,
        now: float,
        reason: Initiate,
        path: Endpoint | None = None,
        cookie: bytes | None = None,
    ) -> bool:
        """Sends an initiation, to the peer's endpoint if no other is named; False if none was sent."""
        interface = self._interface
        if reason is Initiate.NEEDED:
            peer.handshake_attempts = 0
            if now - peer.last_initiation_sent < REKEY_TIMEOUT:
                return False
            if peer.in_cadence:
                return False
            if peer.is_hearsay and not interface.settings.announce:
                # It would leave from an address that the peer does not know (RECOVERY, section 5).
                return False
        path = path or peer.endpoint
        if interface.key is None or path is None:
            return False
        try:
            datagram = self._open_slot(peer, path, cookie or peer.cookie_for(path, now), now)
        except InvalidMessage:
            interface.drop("low_order_key")
            return False
        peer.last_initiation_sent = now
        if peer.recovery is not None and peer.recovery.began is None:
            peer.recovery.began = now
        interface.statistics.handshakes["initiator", "sent"] += 1
        peer.timers.any_authenticated_packet_sent(now)
        if not peer.in_cadence and reason is not Initiate.STRAY:
            peer.timers.handshake_initiated(now)
        interface.transmit(peer, [datagram], HANDSHAKE_DSCP, path)
        return True

    def _open_slot(self, peer: Peer, path: Endpoint, cookie: bytes | None, now: float) -> bytes:
        interface = self._interface
        assert interface.key is not None
        static_static = interface.static_static(peer)
        for stale in peer.stale_slots(now, room=1):
            interface.discard_slot(stale)
        last = max(peer.marks.outbound_stamp, interface.stamp_floor)
        stamp = next_stamp(now + interface.wall_offset, last)
        behind = stamp / 1e9 - (now + interface.wall_offset)
        if behind > CLOCK_TOLERANCE:
            interface.clock_is_behind(behind)
        peer.marks.outbound_stamp = stamp
        interface.highest_stamp = max(interface.highest_stamp, stamp)
        index = interface.new_index()
        message, state = create_initiation(
            interface.key,
            peer.public_key,
            static_static,
            index,
            pack_stamp(stamp),
            X25519PrivateKey.generate(),
        )
        datagram = add_macs(pack_initiation(message), peer.mac1_key, cookie)
        slot = HandshakeSlot(peer, index, state, stamp, mac1_of(datagram), path, now)
        peer.slots[index] = interface.indices[index] = slot
        peer.timers.slot_opened(slot.expires_at)
        return datagram

    def void_hoarded(self, peer: Peer, now: float) -> None:
        """One more initiation, to where the peer is now, makes worthless what somebody may hoard (RECOVERY,
        section 6)."""
        under_way = peer.slots and now - peer.last_initiation_sent < REKEY_TIMEOUT
        if peer.unanswered_initiation and not under_way and not self._interface.strict:
            self.initiate(peer, now, Initiate.RECOVERY)

    def forget_stale(self, peer: Peer, now: float) -> None:
        """Erases initiations that nobody has answered in time."""
        for stale in peer.stale_slots(now):
            self._interface.discard_slot(stale)
        if peer.slots:
            peer.timers.slot_opened(next(iter(peer.slots.values())).expires_at)

    # --- what we receive --------------------------------------------------------------------------

    def receive(self, datagram: bytes, source: Endpoint, now: float) -> None:
        """Queues a handshake message that deserves work, answers with a cookie where we are loaded."""
        interface = self._interface
        kind = message_type(datagram)
        if kind == TYPE_COOKIE_REPLY:
            self._receive_cookie(datagram, now)
        elif kind not in (TYPE_INITIATION, TYPE_RESPONSE):
            interface.drop("malformed")
        elif interface.checker is None or not interface.checker.valid_mac1(datagram):
            interface.drop("mac1")
        elif kind == TYPE_RESPONSE:
            self._queue_response(datagram, source)
        elif self._may_queue(datagram, source, now):
            self._queue.append((datagram, source))

    def _queue_response(self, datagram: bytes, source: Endpoint) -> None:
        slot = self._slot_of(datagram)
        if slot is None:
            self._interface.drop("unexpected_response")
        elif slot.waiting >= RESPONSES_PER_SLOT or len(self._responses) >= HANDSHAKE_QUEUE:
            self._interface.drop("handshake_queue")
        else:
            slot.waiting += 1
            self._responses.append((datagram, source))

    def _slot_of(self, datagram: bytes) -> HandshakeSlot | None:
        slot = self._interface.indices.get(receiver_index(datagram))
        return slot if isinstance(slot, HandshakeSlot) else None

    def under_load(self, now: float) -> bool:
        """Whether the backlog would take longer than 20 ms; stays so for a second."""
        if len(self._queue) * self.seconds_each > HANDSHAKE_BACKLOG_LIMIT:
            self._under_load_until = now + UNDER_LOAD_AFTER_TIME
        return now < self._under_load_until

    def _may_queue(self, datagram: bytes, source: Endpoint, now: float) -> bool:
        interface = self._interface
        assert interface.checker is not None
        if self.under_load(now):
            if not interface.checker.valid_mac2(datagram, source, now):
                reply = interface.checker.reply(datagram, source, now)
                interface.statistics.handshakes["responder", "cookie"] += 1
                interface.outbox.append(Transmission(source, [reply], HANDSHAKE_DSCP))
                return False
            if not (self._source_budgets.take(source.address, now) and self._global_budget.take(now)):
                interface.drop("handshake_rate")
                return False
        if len(self._queue) >= HANDSHAKE_QUEUE:
            interface.drop("handshake_queue")
            return False
        return True

    def _receive_cookie(self, datagram: bytes, now: float) -> None:
        """A cookie for a message of ours. An initiation is followed by one retry, as a new one, to where it
        went: so 2 x 176 bytes at most are sent for a stray from elsewhere and a cookie, 60 + 92 bytes."""
        sent = self._interface.indices.get(receiver_index(datagram))
        mac1, path = _what_was_sent(sent)
        reply = unpack_cookie_reply(datagram)
        cookie = open_cookie(reply, sent.peer.cookie_key, mac1) if sent and mac1 else None
        if sent is None or path is None or cookie is None:
            self._interface.drop("cookie_reply")
            return
        peer = sent.peer
        peer.take_cookie(Cookie(cookie, now, path))
        if isinstance(sent, Keypair):
            return
        self._interface.statistics.handshakes["initiator", "cookie"] += 1
        if not self._interface.strict and not sent.cookie_used:
            at_home = peer.is_at(path)
            self.initiate(
                peer,
                now,
                Initiate.RECOVERY if at_home else Initiate.STRAY,
                None if at_home else path,
                cookie,
            )
            for each in peer.slots.values():
                each.cookie_used = True

    def forget_backlog(self) -> None:
        self._queue.clear()
        self._responses.clear()

    @property
    def backlog(self) -> bool:
        return bool(self._responses or self._queue)

    def process(self, now: float) -> Keypair | None:
        """Works off one queued message. Returns the keypair that a response completed, if one did."""
        datagram, source = (self._responses or self._queue).popleft()
        initiation = message_type(datagram) == TYPE_INITIATION
        role = "responder" if initiation else "initiator"
        try:
            if initiation:
                self._consume_initiation(datagram, source, now)
                return None
            return self._consume_response(datagram, source, now)
        except InvalidMessage:
            self._interface.statistics.handshakes[role, "invalid"] += 1
            return None

    # --- responder --------------------------------------------------------------------------------

    def _consume_initiation(self, datagram: bytes, source: Endpoint, now: float) -> None:
        interface = self._interface
        if interface.key is None:
            return
        message = unpack_initiation(datagram)
        opened = open_initiation(interface.key, message)
        peer = interface.find_peer(opened.static, now)
        if peer is None:
            raise InvalidMessage("unknown peer")
        state = finish_initiation(opened, message, interface.static_static(peer))
        if state.timestamp <= peer.marks.inbound_stamp:
            interface.statistics.handshakes["responder", "replayed"] += 1
            return
        if now - peer.last_initiation_consumed < INITIATION_MIN_INTERVAL:
            interface.statistics.handshakes["responder", "flood"] += 1
            return
        peer.marks.inbound_stamp = state.timestamp
        peer.last_initiation_consumed = now
        if peer.marks.inbound_exact:
            peer.move_to(source)
        self._heard(peer, len(datagram), now)
        self._respond(peer, state, message.sender, source, now)

    def _respond(
        self, peer: Peer, state: ResponderState, receiver: int, source: Endpoint, now: float
    ) -> None:
        """Answers to where the initiation came from, which a replayed one may have chosen."""
        interface = self._interface
        index = interface.new_index()
        response, keys = create_response(
            state, peer.preshared_key, index, receiver, X25519PrivateKey.generate()
        )
        keypair = self._derive(peer, keys, index, receiver, initiator=False, now=now)
        interface.discard_keypair(peer.next)
        interface.discard_keypair(peer.previous)
        peer.next, peer.previous = keypair.place(Position.NEXT), None
        # Having answered counts as having asked: the peer's handshake is under way.
        peer.last_initiation_sent = now
        peer.timers.any_authenticated_packet_sent(now)
        interface.statistics.handshakes["responder", "sent"] += 1
        datagram = add_macs(pack_response(response), peer.mac1_key, peer.cookie_for(source, now))
        keypair.response_mac1, keypair.response_path = mac1_of(datagram), source
        interface.transmit(peer, [datagram], HANDSHAKE_DSCP, source)

    # --- initiator --------------------------------------------------------------------------------

    def _consume_response(self, datagram: bytes, source: Endpoint, now: float) -> Keypair | None:
        """Adopts the session. Older slots are dead with it; newer ones may still be answered."""
        interface = self._interface
        slot = self._slot_of(datagram)
        if slot is None:
            return None
        slot.waiting -= 1
        if interface.key is None:
            return None
        peer = slot.peer
        message = unpack_response(datagram)
        keys = consume_response(interface.key, slot.state, peer.preshared_key, message)
        for older in list(peer.slots.values()):
            interface.discard_slot(older)
            if older is slot:
                break
        peer.marks.answered_stamp = slot.stamp
        keypair = self._derive(peer, keys, slot.index, message.sender, initiator=True, now=now)
        self._adopt_as_initiator(peer, keypair)
        peer.move_to(source)
        self._heard(peer, len(datagram), now)
        self.complete(keypair, now)
        return keypair

    def _adopt_as_initiator(self, peer: Peer, keypair: Keypair) -> None:
        """Keys that we answered with meanwhile stay `next`: if the peer uses them, they win after all."""
        self._interface.discard_keypair(peer.previous)
        peer.previous = peer.current.place(Position.PREVIOUS) if peer.current else None
        peer.current = keypair.place(Position.CURRENT)

    # --- both -------------------------------------------------------------------------------------

    def _derive(
        self,
        peer: Peer,
        keys: TransportKeys,
        local_index: int,
        remote_index: int,
        *,
        initiator: bool,
        now: float,
    ) -> Keypair:
        interface = self._interface
        rekey_age = interface.random.uniform(*RECOVERY_REKEY_AGE) if peer.recovering else REKEY_AFTER_TIME
        facts = KeypairFacts(keys.send, keys.receive, local_index, remote_index, initiator, now, rekey_age)
        context = interface.session_context(peer)
        numbers = interface.memory.keypair_numbers(peer.public_key, facts, context)
        keypair = Keypair(peer, facts, numbers, interface.plane)
        interface.indices[local_index] = keypair
        interface.note_change(peer, now)
        peer.timers.session_derived(now)
        return keypair

    def _heard(self, peer: Peer, size: int, now: float) -> None:
        peer.marks.last_received = now
        peer.received_bytes += size
        self._interface.statistics.received_bytes += size
        peer.timers.any_authenticated_packet_received(now)

    def complete(self, keypair: Keypair, now: float) -> None:
        """Both sides hold the keys: by a response to us, or by the first packet on keys we answered with."""
        interface = self._interface
        peer = keypair.peer
        role = "initiator" if keypair.initiator else "responder"
        interface.statistics.handshakes[role, "completed"] += 1
        peer.last_handshake_wall = int((now + interface.wall_offset) * 1e9)
        peer.handshake_attempts = 0
        peer.stray_interval = 0.0
        peer.last_minute_handshake = False
        if interface.strict or not peer.slots:
            peer.timers.handshake_complete()
        else:  # a newer one is unanswered: another follows, also where we had given up (RECOVERY, section 6)
            peer.timers.handshake_initiated(now)
        interface.log(peer, f"handshake completed as {role}")
