"""Going on with sessions that outlived their process (RECOVERY, section 1, rung 1, and section 2).

Both sides of such a session notice nothing: keys, indices and replay protection are the old ones, and the
send counter starts where no packet was ever sealed.
"""

from __future__ import annotations

from ..continuity.storage import Position, RecalledKeypair
from .constants import CONFIRM_REPEATS, REJECT_AFTER_TIME
from .drain import RECENTLY
from .interface import Interface
from .peer import Peer, Recovery
from .session import Keypair


def resume(interface: Interface, peer: Peer, now: float) -> bool:
    """Gives a peer that was just configured what is kept of it; whether it has a session again."""
    if interface.key is None or not interface.memory.knows(peer.public_key):
        return False
    for recalled in interface.memory.recall(peer.public_key, interface.session_context(peer)):
        take = _remember if recalled.position is Position.LOST else _adopt
        take(interface, peer, recalled, now)
    marks = peer.marks
    peer.recall_endpoint()
    keypairs = peer.keypairs
    if not keypairs:
        return False
    peer.timers.session_derived(max([keypair.born for keypair in keypairs]))
    peer.last_handshake_wall = int((keypairs[0].born + interface.wall_offset) * 1e9)
    peer.recovery = Recovery("resumed", "waiting")
    if interface.memory.last_alive - marks.last_received <= RECENTLY:
        peer.interrupted_at = marks.last_received
    return peer.current is not None


def _remember(interface: Interface, peer: Peer, recalled: RecalledKeypair, now: float) -> None:
    """A session that lost its keys: a packet for it can still be answered."""
    facts, numbers = recalled.facts, recalled.numbers
    if now - facts.born < REJECT_AFTER_TIME:
        interface.remember_lost(peer, facts.local_index, facts.born, numbers.highest_received)


def _adopt(interface: Interface, peer: Peer, recalled: RecalledKeypair, now: float) -> None:
    keypair = Keypair(peer, recalled.facts, recalled.numbers, interface.plane)
    held = {Position.PREVIOUS: peer.previous, Position.CURRENT: peer.current, Position.NEXT: peer.next}
    if keypair.expired(now) or keypair.local_index in interface.indices or held[recalled.position]:
        keypair.erase()
        return
    if recalled.position is Position.CURRENT:
        peer.current = keypair
    elif recalled.position is Position.PREVIOUS:
        peer.previous = keypair
    else:
        peer.next = keypair
    interface.indices[keypair.local_index] = keypair
    interface.note_change(peer, now)


def resume_timers(interface: Interface, peer: Peer, now: float) -> None:
    """What the former process had still to do for the peer's session, this one does."""
    marks, current = peer.marks, peer.current
    assert current is not None
    peer.timers.resume(
        last_sent=marks.last_sent, last_received=marks.last_received, data_sent=marks.data_sent, now=now
    )
    confirming = marks.last_sent < current.born + CONFIRM_REPEATS[-1]
    if confirming and current.initiator and not current.heard and not interface.strict:
        peer.confirm_step = 0
        peer.timers.confirm_at(now)


def unanswered(peer: Peer) -> bool:
    """Whether the last word was the peer's, and no keepalive."""
    return peer.marks.data_received > peer.marks.last_sent
