"""What one pod's device tells another's of its peers, without their keys (RECOVERY, sections 3 and 7).

The successor answers strays of sessions that it never had (rung 3), greets peers where they were last heard
(rung 4), and refuses no less of what is old than its predecessor did: marks merge by max.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ..continuity.storage import KeypairFacts, Position
from .constants import KEY_LENGTH, REJECT_AFTER_TIME
from .drain import RECENTLY
from .endpoint import Endpoint
from .interface import Interface, LostSession
from .peer import Peer

SESSIONS: Final = 3
"""As many as a peer can have: previous, current, next. The youngest are told of."""


class ForeignSession(NamedTuple):
    """A session of another pod's."""

    receiver_index: int
    born: float
    """In this device's time."""
    highest_received: int


class Handed(NamedTuple):
    """What is known of one peer."""

    endpoint: Endpoint | None = None
    inbound_stamp: bytes = b""
    outbound_stamp: int = 0
    last_received: float = 0.0
    """In this device's time; 0 for never."""
    sessions: tuple[ForeignSession, ...] = ()


def lost_by_peer(interface: Interface) -> dict[bytes, list[ForeignSession]]:
    """Sessions that are lost here too, and may still be answered."""
    found: dict[bytes, list[ForeignSession]] = {}
    for index, lost in interface.lost.items():
        found.setdefault(lost.peer.public_key, []).append(_foreign(index, lost))
    return found


def _foreign(index: int, lost: LostSession) -> ForeignSession:
    return ForeignSession(index, lost.born, lost.highest_received)


def hand_out(peer: Peer, lost: Iterable[ForeignSession], now: float) -> Handed:
    """What a device tells of a peer. Its own side of the path is no business of another pod."""
    own = [ForeignSession(k.local_index, k.born, k.numbers.highest_received) for k in peer.keypairs]
    alive = [session for session in (*own, *lost) if now - session.born < REJECT_AFTER_TIME]
    youngest = sorted(alive, key=lambda session: -session.born)[:SESSIONS]
    endpoint = peer.endpoint.without_local() if peer.endpoint is not None else None
    if not peer.has_marks:
        return Handed(endpoint, sessions=tuple(youngest))
    marks = peer.marks
    return Handed(endpoint, marks.inbound_stamp, marks.outbound_stamp, marks.last_received, tuple(youngest))


def take(interface: Interface, peer: Peer, handed: Handed, frozen_at: float, now: float) -> None:
    """Adds what another pod, which froze at `frozen_at`, knew of a peer, before anything is answered; in any
    order, and any number of times. Where nobody froze, and it goes on or is lost, that is infinity: when its
    peers were last heard is not known, and no outage is counted."""
    if interface.key is None or handed == Handed():
        return
    marks = peer.marks
    if handed.endpoint is not None and (peer.endpoint is None or handed.last_received >= marks.last_received):
        peer.endpoint = marks.endpoint = handed.endpoint
    marks.inbound_stamp = max(marks.inbound_stamp, handed.inbound_stamp)
    # Whatever the peer sent while nobody answered may have been captured, and is newer than the mark.
    marks.inbound_exact = False
    marks.outbound_stamp = max(marks.outbound_stamp, handed.outbound_stamp)
    marks.last_received = max(marks.last_received, handed.last_received)
    if 0.0 < handed.last_received >= frozen_at - RECENTLY:
        peer.interrupted_at, peer.interrupted_elsewhere = handed.last_received, True
    for session in handed.sessions[:SESSIONS]:
        if now - session.born < REJECT_AFTER_TIME and session.receiver_index not in interface.indices:
            _remember(interface, peer, session)


def _remember(interface: Interface, peer: Peer, session: ForeignSession) -> None:
    """Here and in what outlives the process: the next one must know the index too. An old account of an index
    that is another session's by now is passed over."""
    known = interface.lost.get(session.receiver_index)
    if known is not None and known.peer is not peer and known.born >= session.born:
        return
    if known is not None and known.peer is peer and known.highest_received >= session.highest_received:
        return
    interface.remember_lost(peer, session.receiver_index, session.born, session.highest_received)
    no_key = bytes(KEY_LENGTH)
    facts = KeypairFacts(no_key, no_key, session.receiver_index, 0, False, session.born, 0.0)
    numbers = interface.memory.keypair_numbers(peer.public_key, facts, interface.session_context(peer))
    numbers.highest_received = session.highest_received
    numbers.place(Position.LOST)
