"""One pod's tunnel and the role it plays: what control calls do, on the event loop's thread.

A role is stored before its effect and before any answer. Effects follow from the role alone: a pod that is
not active is frozen, and nobody but its role thaws it.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from ..adapters.text import format_key
from ..control import roles
from ..control.configuration import Configuration
from ..control.errors import CONFLICT, UNPROCESSABLE, Refused
from ..control.roles import Call, Event, Role, Standing, step
from ..core.configuration import InterfaceChange
from ..core.handover import Handed
from ..errors import ConfigurationError
from . import translate

if TYPE_CHECKING:
    from ..adapters.tunnel import Tunnel
    from ..continuity.packed_configuration import PackedConfiguration
    from ..control.account import Account
    from ..control.export import ExportedPeer, Handover
    from ..core.peer import Peer
    from .accepted import Pending
    from .left import Left
    from .report import Counts

log = logging.getLogger(__name__)

WATCH_INTERVAL: Final = 1.0
LEAVE_INTERVAL: Final = 0.0005
"""Seconds for each peer between two copies for the next process, which take a hundredth of it, in slices."""


class StandingStore(Protocol):
    def save_standing(self, standing: Standing, tunnel_uid: str) -> None: ...


class Gateway:
    """All methods are called on the loop's thread; those that return iterators are jobs for it."""

    def __init__(
        self,
        tunnel: Tunnel,
        store: StandingStore,
        configuration: Configuration,
        standing: Standing,
        pod_uid: str,
        left: Left | None = None,
        *,
        alone: bool = True,
    ) -> None:
        """`left` is where the next process finds what it begins with. Not `alone`: others have the tunnel
        too, whatever the configuration knows of replicas."""
        self.tunnel = tunnel
        self.configuration = configuration
        self.standing = standing
        self.pod_uid = pod_uid
        self.offering = False
        self.control_call_at: float | None = None
        """When the operator last called."""
        self.handovers: Counter[str] = Counter()
        """How those that this pod took part in ended."""
        self.told = 0
        """How often it told of its sessions."""
        self.counts: Counts | None = None
        """What was last counted of the peers, in this role."""
        self.is_outline = False
        """Whether the configuration lacks its peers, which are served all the same."""
        self._left = left
        self._left_generation: int | None = None
        self._left_at = -math.inf
        self._changing = False
        self._alone = alone
        self._store = store
        self._began = tunnel.loop.now

    # --- life -------------------------------------------------------------------------------------

    def boot(
        self, known: Mapping[bytes, Handed], stamp_floor: int, begin: PackedConfiguration | None = None
    ) -> None:
        """Before any packet is read. `known` is what a state document tells of peers. Where it begins with
        what a former process left, the configuration is an outline until `complete`."""
        device, standing = self.tunnel.device, self.standing
        self._store.save_standing(standing, self.configuration.tunnel.uid)
        active = standing.role is Role.ACTIVE
        self.tunnel.held = None if active else _why_held(standing.role)
        device.raise_stamp_floor(max(stamp_floor, standing.stamp_floor))
        if begin is not None:
            self.is_outline, self._left_generation = True, self.configuration.generation
        self.tunnel.boot(begin or translate.whole(self.configuration, None), frozen=not active)
        now = self.tunnel.loop.now
        for _ in device.take(known, now, now) if known else ():
            pass
        if standing.role is Role.COMMITTED:
            device.commit_handover(standing.term, self.tunnel.loop.now)
        log.info("%s at term %d, generation %d", standing.role, standing.term, self.configuration.generation)
        self._keep_watch()

    def complete(self, configuration: Configuration) -> None:
        """The outline that it began with, with its peers."""
        self.configuration, self.is_outline = configuration, False

    def begin_anew(self) -> None:
        """Ends this process, and the next one finds nothing left."""
        if self._left is not None:
            self._left.forget()
        self.tunnel.loop.stop(1)

    def _keep_watch(self) -> None:
        self._look()
        self._leave()
        self.tunnel.loop.call_at(self.tunnel.loop.now + WATCH_INTERVAL, self._keep_watch)

    def _leave(self) -> None:
        """Leaves what the next process begins with, if it is another by now."""
        now, configuration = self.tunnel.loop.now, self.configuration
        pause = LEAVE_INTERVAL * len(configuration.peers)
        busy = self._changing or self.tunnel.device.building_up or now - self._left_at < pause
        if self._left is not None and not busy and configuration.generation != self._left_generation:
            self._left_at = math.inf
            self.tunnel.loop.spawn(self._save(self._left, configuration))

    def _save(self, left: Left, configuration: Configuration) -> Generator[None, None, None]:
        def is_current() -> bool:
            return self.configuration is configuration and not self._changing

        uid, generation = configuration.tunnel.uid, configuration.generation
        if (yield from left.save(self.tunnel.device, uid, generation, is_current)):
            self._left_generation = generation
        self._left_at = self.tunnel.loop.now

    def _look(self) -> None:
        """What happens by itself: a pod thaws, or begins alone."""
        now = self.tunnel.loop.now
        if self.standing.role is Role.DRAINING:
            self._take(Call(Event.TIME, now=now))
        elif self._alone and roles.begins_alone(
            self.standing, self.configuration.tunnel.replicas, self.silence(now)
        ):
            log.warning("nobody has called for %g s, and this is the only replica", roles.ALONE_AFTER)
            self._take(Call(Event.ALONE, term=self.standing.term, now=now))

    def silence(self, now: float) -> float:
        """Seconds since the operator's last call, or since the start."""
        return now - (self.control_call_at if self.control_call_at is not None else self._began)

    def note_control_call(self) -> None:
        self.control_call_at = self.tunnel.loop.now

    # --- roles ------------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        """Takes a step; raises Refused. From here on the stored role decides, whatever fails afterwards."""
        before, after = self.standing, step(self.standing, call)
        if after == before:
            return
        self._store.save_standing(after, self.configuration.tunnel.uid)
        self.standing, self.counts = after, None
        if after.thaw_at is not None:
            self.tunnel.loop.call_at(after.thaw_at, self._look)
        if after.role is not before.role:
            log.info("%s -> %s (%s), term %d", before.role, after.role, call.event, after.term)
            self._count(before.role, call.event, after.role)
            self._enter(before.role, after)

    def _count(self, before: Role, event: Event, after: Role) -> None:
        if after is Role.COMMITTED:
            self.handovers["committed"] += 1
        elif before is Role.DRAINING:
            self.handovers[
                "timeout" if event is Event.TIME else "displaced" if event is Event.HEAR else "thawed"
            ] += 1
        elif before is Role.STANDBY and event is Event.ACTIVATE:
            self.handovers["activated"] += 1

    def _enter(self, before: Role, after: Standing) -> None:
        tunnel = self.tunnel
        if after.role is Role.ACTIVE:
            tunnel.held = None
            if before is Role.STANDBY:
                tunnel.take_charge()
            else:
                tunnel.drain(False)
            return
        tunnel.held = _why_held(after.role)
        tunnel.drain(True)
        self.offering = self.offering and after.role is Role.DRAINING
        if after.role is Role.COMMITTED:
            tunnel.device.commit_handover(after.term, tunnel.loop.now)
        if after.role is not Role.DRAINING:
            for_good = after.role is Role.COMMITTED
            tunnel.loop.spawn(tunnel.device.forget_sessions(tunnel.loop.now, for_good=for_good))

    def hear(self, term: int | None) -> None:
        """A configuration call named the active pod's term; raises Refused for a stale one."""
        if term is not None:
            self._take(Call(Event.HEAR, term=term, now=self.tunnel.loop.now))

    def drain(self, call: Call, generation: int) -> None:
        """Freezes; `export` then tells what for."""
        if generation < self.configuration.generation:
            raise self._stale(generation)
        self._take(call)

    def activate(
        self, call: Call, generation: int, known: Mapping[bytes, Handed], frozen_at: float
    ) -> Generator[None, None, None]:
        """Takes what the former owner knew when it froze, all of it, and then begins."""
        if generation < self.configuration.generation:
            raise self._stale(generation)
        if generation > self.configuration.generation:
            raise Refused(
                CONFLICT,
                "activate",
                f"generation {generation} has not come here yet, only {self.configuration.generation}",
                remedy="PUT the configuration first",
            )
        step(self.standing, call)
        if self.standing.role is Role.STANDBY:
            self.tunnel.device.raise_stamp_floor(call.stamp_floor)
            yield from self.tunnel.device.take(known, frozen_at, self.tunnel.loop.now)
        self._take(call)

    def commit(self, term: int) -> None:
        self._take(Call(Event.COMMIT, term=term, now=self.tunnel.loop.now))

    def thaw(self, term: int) -> None:
        """An active pod's offer is withdrawn; one that was draining stands, for the next handover."""
        withdrawn = self.standing.role is Role.ACTIVE
        self._take(Call(Event.THAW, term=term, now=self.tunnel.loop.now))
        self.offering = self.offering and not withdrawn

    def offer(self) -> None:
        """The pod is to end, and would hand over: the operator sees it in the status."""
        self.offering = self.standing.role in {Role.ACTIVE, Role.DRAINING}

    def stance(self) -> dict[str, object]:
        """What hooks and people are told of it."""
        return {
            "role": self.standing.role,
            "term": self.standing.term,
            "generation": self.configuration.generation,
            "offering": self.offering,
            "told": self.told,
            "silence": self.silence(self.tunnel.loop.now),
        }

    def _stale(self, generation: int) -> Refused:
        why = f"generation {generation} is over: this pod is at {self.configuration.generation}"
        return Refused(CONFLICT, "call", why, remedy="read its status and the config Secret again")

    def export(self) -> Generator[None, None, Handover]:
        """Everything the successor may know. Nothing of it changes: the device is frozen."""
        from ..control.export import Handover

        standing, generation, created = self.standing, self.configuration.generation, time.time()
        peers = yield from self._tell(self.tunnel.device.hand_out(self.tunnel.loop.now))
        return Handover(
            self.pod_uid,
            standing.successor,
            standing.heard,
            generation,
            created,
            peers,
            translate.stamp_to_text(standing.stamp_floor),
        )

    def account(self, since: float) -> Generator[None, None, tuple[float, Account]]:
        """Until when, and what is new since then; who names no moment of this device's is told everything."""
        from ..control.account import Account

        while self.tunnel.device.building_up:
            yield
        standing, generation = self.standing, self.configuration.generation
        if standing.role not in {Role.ACTIVE, Role.DRAINING}:
            why = f"this pod is {standing.role}"
            raise Refused(CONFLICT, "sessions", why, remedy="ask the active pod")
        created, until = time.time(), self.tunnel.loop.now
        is_known = 0 < since <= until
        peers = yield from self._tell(self.tunnel.device.hand_out(until, since if is_known else None))
        self.told += 1
        return until, Account(self.pod_uid, standing.term, generation, created, peers)

    def _tell(
        self, pieces: Iterable[list[tuple[Peer, Handed]]]
    ) -> Generator[None, None, tuple[ExportedPeer, ...]]:
        from . import exchange

        offset = time.time() - self.tunnel.loop.now
        peers: list[ExportedPeer] = []
        for piece in pieces:
            peers += [
                exchange.exported(format_key(p.public_key), known, offset)
                for p, known in piece
                if known != Handed()
            ]
            yield
        return tuple(peers)

    def learn(self, term: int, accounts: Iterable[Mapping[bytes, Handed]]) -> Generator[None, None, None]:
        """Takes what active pods told, the last of them at `term`, while this one stands by."""
        if self.standing.role is not Role.STANDBY:
            why = f"this pod is {self.standing.role}: only a standby learns of another's sessions"
            raise Refused(CONFLICT, "sessions", why, remedy="read its status")
        if term > self.standing.term:
            self.hear(term)
        self.tunnel.device.forget_dead(self.tunnel.loop.now)
        for known in accounts:
            yield from self.tunnel.device.take(known, math.inf, self.tunnel.loop.now)

    # --- configuration ----------------------------------------------------------------------------

    def apply(
        self, new: Configuration, change: InterfaceChange, draft: Pending
    ) -> Generator[None, None, None]:
        """A job: in force and stored when it ends; raises Refused, and then neither is."""
        self._changing = True
        try:
            yield from self._apply(new, change, draft)
        finally:
            self._changing = False

    def _apply(
        self, new: Configuration, change: InterfaceChange, draft: Pending
    ) -> Generator[None, None, None]:
        try:
            yield from self.tunnel.apply(change)
        except ConfigurationError as error:
            draft.discard()
            raise Refused(UNPROCESSABLE, "configuration", str(error)) from error
        if new.tunnel.recovery != self.configuration.tunnel.recovery or (
            new.tunnel.shared_networks != self.configuration.tunnel.shared_networks
        ):
            self.tunnel.device.change_settings(translate.settings(new.tunnel))
        draft.publish()
        self.configuration = new


def _why_held(role: Role) -> str:
    return {
        Role.STANDBY: "this pod stands by: the operator activates it",
        Role.DRAINING: "this pod is handing over: it thaws by itself",
        Role.COMMITTED: "another pod took over for good",
    }[role]
