"""Greeting every peer after a start, instead of waiting for it to notice (RECOVERY, sections 4 and 5).

A peer whose endpoint is known gets initiations in a fixed cadence: a quick burst that outruns lost
packets, a silence that leaves the peer's own attempts alone, then a slow beat until 90 s. All peers
share a token bucket, and everyone gets a first initiation before anyone gets a second.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable
from math import inf

from .constants import (
    CADENCE,
    CADENCE_END,
    CADENCE_INTERVAL,
    CADENCE_SILENCE,
    REKEY_TIMEOUT_JITTER,
)
from .handshake import Handshakes, Initiate
from .interface import Interface
from .peer import Method, Peer, Recovery
from .session import Keypair
from .token_bucket import TokenBucket

_ANSWER_GRACE = 1.0
"""An older initiation was answered, so the path is good: the newest gets this long to be answered too."""


def _method(keypair: Keypair, recovery: Recovery | None) -> Method:
    """How a session came about."""
    if not keypair.initiator:
        return "waited"
    return "answered" if recovery is not None and recovery.method == "answered" else "announced"


class StartupHandshakes:
    """The recoveries of an interface's peers."""

    def __init__(self, interface: Interface, handshakes: Handshakes) -> None:
        self._interface = interface
        self._handshakes = handshakes
        self._bucket = self.bucket_of(interface)
        self._asked: deque[tuple[Peer, Recovery]] = deque()
        """First initiations to those whose strays came: who waits for an answer goes before who may not."""
        self._first: deque[tuple[Peer, Recovery]] = deque()
        self._again: deque[tuple[Peer, Recovery]] = deque()
        self._later: list[tuple[float, int, Peer, Recovery]] = []
        self._sequence = 0

    @staticmethod
    def bucket_of(interface: Interface) -> TokenBucket:
        rate = interface.settings.burst_per_second
        return TokenBucket(rate, burst=max(1.0, min(50.0, rate / 10)))

    def settings_changed(self) -> None:
        self._bucket = self.bucket_of(self._interface)

    def begin(self, peers: Iterable[Peer], now: float, *, announce: bool) -> int:
        """Starts a recovery of each; those without an endpoint wait. Returns how many are greeted."""
        greeted = 0
        for peer in sorted(peers, key=lambda peer: -peer.last_received):
            if announce and peer.endpoint is not None:
                peer.recovery = Recovery("announced", "pending")
                self._first.append((peer, peer.recovery))
                greeted += 1
            else:
                peer.recovery = Recovery("waited", "waiting")
        return greeted

    def answer(self, peer: Peer, now: float) -> bool:
        """A stray came from where the peer is: it is next to be greeted. False if that is already so."""
        recovery = peer.recovery
        if peer.in_cadence or (peer.recovering and recovery is not None and recovery.method == "answered"):
            return False
        self._asked.append((peer, peer.recover("answered", "pending", now)))
        return True

    def take_one(self, now: float) -> bool:
        """Whether an initiation that is none of a recovery may leave at the pace of all."""
        return self._bucket.take(now)

    def stop(self) -> None:
        """The device is down: nothing is on its way any more."""
        self._asked.clear()
        self._first.clear()
        self._again.clear()
        self._later.clear()

    def next_deadline(self, now: float) -> float:
        if self._asked or self._first or self._again:
            return self._bucket.next_token(now)
        return self._later[0][0] if self._later else inf

    def tick(self, now: float) -> None:
        """Sends what is due, as far as the bucket reaches."""
        while self._later and self._later[0][0] <= now:
            due, _, peer, recovery = heapq.heappop(self._later)
            if due == recovery.due:
                self._again.append((peer, recovery))
        while queue := self._asked or self._first or self._again:
            peer, recovery = queue[0]
            pending = peer.recovery is recovery and recovery.state == "pending"
            if pending and not self._bucket.take(now):
                return
            queue.popleft()
            if pending:
                self._step(peer, recovery, now)

    def _step(self, peer: Peer, recovery: Recovery, now: float) -> None:
        if recovery.started is None:
            recovery.started = now
        if now - recovery.started >= CADENCE_END:
            recovery.state, recovery.method = "waiting", "waited"
            peer.timers.gave_up(now)
            self._interface.flush_staged(peer)
            self._interface.log(peer, "no answer for 90 s; waiting for the peer's own handshake")
            return
        if self._interface.strict:
            recovery.state = "waiting"
            peer.handshake_attempts = 0
            self._handshakes.initiate(peer, now, Initiate.RETRANSMIT)
            return
        if recovery.attempt >= len(CADENCE):
            peer.choose_path_anew()
        self._handshakes.initiate(peer, now, Initiate.RECOVERY)
        recovery.attempt += 1
        self._put(peer, recovery, self._next_due(recovery, recovery.started, now))

    def _next_due(self, recovery: Recovery, started: float, now: float) -> float:
        if recovery.attempt < len(CADENCE):
            return now + CADENCE[recovery.attempt] - CADENCE[recovery.attempt - 1]
        pause = CADENCE_SILENCE if recovery.attempt == len(CADENCE) else CADENCE_INTERVAL
        jitter = self._interface.random.random() * REKEY_TIMEOUT_JITTER
        return min(now + pause + jitter, started + CADENCE_END)

    def _put(self, peer: Peer, recovery: Recovery, due: float) -> None:
        recovery.due = due
        self._sequence += 1
        heapq.heappush(self._later, (due, self._sequence, peer, recovery))

    def completed(self, keypair: Keypair, now: float) -> None:
        """A session was born. The peer is back unless a newer initiation of ours is still unanswered:
        whoever holds that one could use it to move the peer elsewhere (RECOVERY, section 6)."""
        peer, recovery = keypair.peer, keypair.peer.recovery
        method = _method(keypair, recovery)
        self._end_outage(peer, method, now)
        if recovery is None or recovery.state == "recovered":
            return
        if not recovery.answered:
            recovery.answered = True
            self._observe(peer, recovery, method, now)
        if keypair.initiator and peer.slots and not self._interface.strict:
            self._await_newest(peer, recovery, now)
        else:
            recovery.state, recovery.method = "recovered", method

    def _observe(self, peer: Peer, recovery: Recovery, method: Method, now: float) -> None:
        if recovery.began is not None:
            recovery.latency = latency = now - recovery.began
            self._interface.statistics.observe_reconnect(method, latency)
            self._interface.log(peer, f"back after {latency:.3f} s ({method})")

    def _await_newest(self, peer: Peer, recovery: Recovery, now: float) -> None:
        """Unless it is answered soon, another goes where the peer is, in a cadence that may begin here."""
        if recovery.state == "waiting":
            recovery.state, recovery.attempt, recovery.started = "pending", 0, now
        self._put(peer, recovery, now + _ANSWER_GRACE)

    def heard(self, peer: Peer, now: float) -> None:
        """The peer was heard on a session that lived through the interruption."""
        recovery = peer.recovery
        waiting = recovery is not None and recovery.state == "waiting"
        if waiting or peer.gave_up:
            peer.handshake_attempts = 0
            self._handshakes.void_hoarded(peer, now)
        if recovery is not None and waiting and recovery.method == "resumed":
            recovery.state = "recovered"
        self._end_outage(peer, "resumed", now)

    def _end_outage(self, peer: Peer, method: Method, now: float) -> None:
        if peer.interrupted_at is not None:
            peer.outage = seconds = max(0.0, now - peer.interrupted_at)
            self._interface.statistics.observe_outage(method, seconds, across=peer.interrupted_elsewhere)
            peer.interrupted_at, peer.interrupted_elsewhere = None, False
