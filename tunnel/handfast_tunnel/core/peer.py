"""One peer: its configuration, its handshakes in flight, its sessions, what waits for it."""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Literal, NamedTuple

from ..continuity.storage import Memory, PeerMarks
from .configuration import Prefix
from .constants import COOKIE_LIFETIME, HANDSHAKE_SLOT_TIME, HANDSHAKE_SLOTS, MAX_HANDSHAKE_ATTEMPTS
from .endpoint import Endpoint
from .noise import NO_PRESHARED_KEY, InitiatorState, cookie_key, mac1_key
from .session import Keypair
from .timers import Schedule, Timers

Method = Literal["resumed", "received", "answered", "announced", "waited"]
"""The rung of the ladder on which a peer came back (RECOVERY, section 1)."""


class Cookie(NamedTuple):
    """What a loaded peer wants to see in whatever comes along this path (paper, section 5.4.7)."""

    value: bytes
    born: float
    path: Endpoint


class HandshakeSlot:
    """An initiation of ours that may still be answered (RECOVERY, section 4)."""

    __slots__ = ("cookie_used", "expires_at", "index", "mac1", "path", "peer", "stamp", "state", "waiting")

    def __init__(
        self,
        peer: Peer,
        index: int,
        state: InitiatorState,
        stamp: int,
        mac1: bytes,
        path: Endpoint,
        now: float,
    ) -> None:
        self.peer = peer
        self.index = index
        self.state = state
        self.stamp = stamp
        self.mac1 = mac1
        self.path = path
        self.expires_at = now + HANDSHAKE_SLOT_TIME
        self.cookie_used = False
        """Whether a cookie reply was answered with a retry, or it is that retry: there is only one."""
        self.waiting = 0
        """Answers to it, genuine or not, that nobody has looked at yet."""


RecoveryState = Literal["pending", "waiting", "recovered"]
"""`pending`: initiations are being sent; `waiting`: the peer's own move (rungs 3 and 5)."""


class Recovery:
    """How far a peer is on its way back after a start."""

    __slots__ = ("answered", "attempt", "began", "due", "latency", "method", "started", "state")

    def __init__(self, method: Method, state: RecoveryState) -> None:
        self.method: Method = method
        self.state: RecoveryState = state
        self.began: float | None = None
        """When its first stray came or our first initiation left: the latency counts from there."""
        self.started: float | None = None
        """When the cadence sent its first initiation."""
        self.latency: float | None = None
        """From `began` until the peer was back."""
        self.answered = False
        """Whether the peer was heard again, though perhaps not on its newest session."""
        self.attempt = 0
        self.due = 0.0


class Peer:
    """State of one peer. What happens to it is decided in `handshake`, `transport` and the device."""

    __slots__ = (
        "_cookie_key",
        "_mac1_key",
        "_marks",
        "_memory",
        "allowed_ips",
        "configured_endpoint",
        "confirm_step",
        "cookie",
        "current",
        "endpoint",
        "handshake_attempts",
        "interrupted_at",
        "interrupted_elsewhere",
        "last_handshake_wall",
        "last_initiation_consumed",
        "last_initiation_sent",
        "last_minute_handshake",
        "last_reconfirm",
        "next",
        "outage",
        "persistent_keepalive",
        "preshared_key",
        "previous",
        "public_key",
        "received_bytes",
        "recovery",
        "sent_bytes",
        "slots",
        "staged",
        "static_static",
        "stray_answer_at",
        "stray_interval",
        "timers",
    )

    def __init__(self, public_key: bytes, memory: Memory, schedule: Schedule, random: Random) -> None:
        self.public_key = public_key
        self.preshared_key = NO_PRESHARED_KEY
        self.endpoint: Endpoint | None = None
        self.configured_endpoint: Endpoint | None = None
        """Where the configuration last said it is."""
        self.persistent_keepalive = 0
        self.allowed_ips: list[Prefix] = []
        self._memory = memory
        self._marks: PeerMarks | None = None
        self.timers = Timers(self, schedule, random)
        self.static_static: bytes | None = None
        """DH of both static keys, on first use: 60 us that most of many peers never need."""
        self._mac1_key: bytes | None = None
        self._cookie_key: bytes | None = None

        self.slots: dict[int, HandshakeSlot] = {}
        """Initiations in flight by index, oldest stamp first."""
        self.previous: Keypair | None = None
        self.current: Keypair | None = None
        self.next: Keypair | None = None
        self.staged: deque[bytes] | None = None
        """Packets that wait for a session."""

        self.cookie: Cookie | None = None
        self.handshake_attempts = 0
        self.last_initiation_sent = float("-inf")
        self.last_initiation_consumed = float("-inf")
        self.stray_answer_at = 0.0
        """When strays from unknown addresses may be answered again, however many sessions they name."""
        self.stray_interval = 0.0
        self.last_minute_handshake = False
        self.confirm_step = 0
        self.last_reconfirm = float("-inf")

        self.recovery: Recovery | None = None
        self.interrupted_elsewhere = False
        """Whether that was at another pod."""
        self.interrupted_at: float | None = None
        """When a peer that was sending was last heard, while an interruption lasts."""
        self.outage: float | None = None
        """How long the last one was."""

        self.last_handshake_wall = 0
        """Unix nanoseconds; 0 for never."""
        self.received_bytes = 0
        self.sent_bytes = 0

    @property
    def marks(self) -> PeerMarks:
        """What outlives the process of this peer; on first use, because most of many peers are idle."""
        if self._marks is None:
            is_new = not self._memory.knows(self.public_key)
            self._marks = self._memory.peer_marks(self.public_key)
            if is_new and self.configured_endpoint is not None:
                self._marks.configured_endpoint = self.configured_endpoint.checksum()
        return self._marks

    @property
    def unanswered_initiation(self) -> bool:
        """Whether the newest initiation sent, to whatever address and by whatever process, was not answered:
        someone may hoard it (RECOVERY, section 6)."""
        return self.marks.outbound_stamp > self.marks.answered_stamp

    @property
    def last_received(self) -> float:
        """When it was last heard; 0 for never."""
        return self._marks.last_received if self._marks is not None else 0.0

    def configure_endpoint(self, endpoint: Endpoint) -> None:
        """A person says where it is: that outlives the process as what was heard does."""
        self.configured_endpoint = endpoint
        if self.endpoint is None or endpoint.address != self.endpoint.address:
            self.endpoint, self.cookie = endpoint, None
            if self.has_marks:
                self.marks.endpoint = endpoint
        if self.has_marks:
            self.marks.configured_endpoint = endpoint.checksum()

    def recall_endpoint(self) -> None:
        """Where it was last heard is better than what the configuration says, unless that says something else
        than the last time: then a person knows better."""
        marks, configured = self.marks, self.configured_endpoint
        if configured is None or configured.checksum() == marks.configured_endpoint:
            self.endpoint = marks.endpoint or self.endpoint
        else:
            marks.endpoint = configured
            marks.configured_endpoint = configured.checksum()

    @property
    def has_marks(self) -> bool:
        """Whether anything worth keeping is known of it."""
        return self._marks is not None or self._memory.knows(self.public_key)

    def erase_marks(self) -> None:
        """The peer is gone."""
        if self.has_marks:
            self.marks.erase()

    @property
    def mac1_key(self) -> bytes:
        if self._mac1_key is None:
            self._mac1_key = mac1_key(self.public_key)
        return self._mac1_key

    @property
    def cookie_key(self) -> bytes:
        if self._cookie_key is None:
            self._cookie_key = cookie_key(self.public_key)
        return self._cookie_key

    @property
    def method(self) -> Method | None:
        """How the peer came back after the last start; None while it has not."""
        recovery = self.recovery
        return recovery.method if recovery is not None and recovery.state == "recovered" else None

    @property
    def latency(self) -> float | None:
        """How long that took."""
        return self.recovery.latency if self.recovery is not None else None

    @property
    def awaited(self) -> bool:
        """Whether its next packet ends an interruption."""
        recovery = self.recovery
        return (
            self.interrupted_at is not None
            or self.handshake_attempts >= MAX_HANDSHAKE_ATTEMPTS
            or (recovery is not None and recovery.state == "waiting")
        )

    @property
    def gave_up(self) -> bool:
        """Whether our initiations went unanswered for as long as they are repeated."""
        return self.handshake_attempts >= MAX_HANDSHAKE_ATTEMPTS

    def recover(self, method: Method, state: RecoveryState, now: float) -> Recovery:
        """Its stray came: a recovery begins, or goes on in another way."""
        former, self.recovery = self.recovery, Recovery(method, state)
        began = former.began if former is not None and former.state != "recovered" else None
        self.recovery.began = now if began is None else began
        return self.recovery

    @property
    def recovering(self) -> bool:
        """Whether a recovery is under way; with many peers its first initiation can take a while."""
        return self.recovery is not None and self.recovery.state == "pending"

    @property
    def in_cadence(self) -> bool:
        """Whether the recovery decides when initiations leave: from its first on, its silence included."""
        recovery = self.recovery
        return recovery is not None and recovery.state == "pending" and recovery.started is not None

    def can_send(self, now: float) -> bool:
        """Whether it has a session that still serves."""
        return self.current is not None and self.current.can_send(now)

    @property
    def keypairs(self) -> list[Keypair]:
        return [k for k in (self.current, self.previous, self.next) if k is not None]

    @property
    def newest_slot(self) -> HandshakeSlot | None:
        return next(reversed(self.slots.values()), None)

    def stale_slots(self, now: float, *, room: int = 0) -> list[HandshakeSlot]:
        """Those to give up so that the rest is young, and `room` more can be opened."""
        slots = list(self.slots.values())
        excess = len(slots) + room - HANDSHAKE_SLOTS
        return [slot for position, slot in enumerate(slots) if position < excess or slot.expires_at <= now]

    def move_to(self, endpoint: Endpoint) -> bool:
        """The peer was heard from there; whether it was elsewhere before. A cookie belongs to the path it
        came by."""
        former = self.endpoint
        if former == endpoint:
            return False
        self.endpoint = self.marks.endpoint = endpoint
        if former is None or not former.same_path(endpoint):
            self.cookie = None
        return True

    def choose_path_anew(self) -> None:
        """Nothing came back, or nothing leaves: perhaps the local address we answer from is gone."""
        if self.endpoint is not None and self.endpoint.local:
            self.endpoint, self.cookie = self.endpoint.without_local(), None

    @property
    def is_hearsay(self) -> bool:
        """Whether only another pod has heard it where it is said to be: of what is heard here it is known to
        which address of ours it came."""
        heard = self._marks.endpoint if self._marks is not None else None
        if heard is None or heard.local:
            return False
        return self.configured_endpoint is None or self.configured_endpoint.address != heard.address

    def is_at(self, endpoint: Endpoint) -> bool:
        """Whether what goes there goes where the peer is known to be."""
        return self.endpoint is not None and self.endpoint.same_path(endpoint)

    def take_cookie(self, cookie: Cookie) -> None:
        """Somebody at the other end of another path must not take away the one for the peer's own."""
        if self.is_at(cookie.path) or self.cookie is None or not self.is_at(self.cookie.path):
            self.cookie = cookie

    def cookie_for(self, path: Endpoint, now: float) -> bytes | None:
        cookie = self.cookie
        if cookie is None or now - cookie.born >= COOKIE_LIFETIME or not cookie.path.same_path(path):
            return None
        return cookie.value
