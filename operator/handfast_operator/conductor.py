"""Asks the pods of one Tunnel who they are, and makes the calls that `roles.plan` says come next."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from handfast_tunnel.control import (
    ControlError,
    Export,
    Patch,
    PeerState,
    Refused,
    Role,
    State,
    Status,
    stamps,
)
from handfast_tunnel.control.client import ControlClient

from . import documents, names, outcome, roles, workload
from .chronicle import Chronicle
from .conditions import timestamp
from .roles import HANDOVER, Activate, Call, Commit, Flip, Handover, PodView, Tell, Thaw, View
from .sidecars import Sidecars
from .store import Failure, Store, in_short
from .tunnel_state import PodObject, Seen, TunnelState

STANDBY_SECONDS: Final = 5.0
"""Between two questions to a pod that is not active; an active one is asked every time."""
PROBE_SECONDS: Final = 1.0
"""For an answer to that."""
PEERS_SECONDS: Final = 5.0
"""Between two questions for who is connected,"""
PEERS_SHARE: Final = 0.02
"""and of ten thousand busy peers so seldom that the answers take no more of the time than this."""
LONGEST_PEERS_SECONDS: Final = 30.0
STATE_SECONDS: Final = 300.0
"""Between two copies of the endpoints in the state Secret."""
PROXY_SECONDS: Final = 1.2
"""A pod that ends goes on serving for so long. kube-proxy waits for a second between two changes
(`minSyncPeriod`), and has just made one, as the pod's end is one. A handover at once would wait for the next,
with its clients in the dark."""
RESERVED_NS: Final = 60 * 10**9
"""How far ahead time stamps are reserved: a new pod starts above them, whatever its clock says."""
ACTIVE_COST: Final = "100"
"""Deployments remove pods of lower cost first."""
_COST: Final = "controller.kubernetes.io/pod-deletion-cost"

logger = logging.getLogger(__name__)

Announce = Callable[[str, str, str], Awaitable[None]]
"""Type, reason and message of an event."""


@dataclass(slots=True)
class Conductor:
    """For one Tunnel. `tick` may be called at any time, by one caller."""

    store: Store
    sidecars: Sidecars
    state: TunnelState
    lease_term: Callable[[], int]
    announce: Announce
    write_down: Callable[[], Awaitable[None]]
    """The Tunnel's status, with what of it is known here."""
    _refused: int = 0
    """The term that a pod was asked to end, and could not."""
    _unmarked: set[str] = field(default_factory=set)
    """Uids of pods that could not be given what they are to have in the API server."""
    _peers_due: float = 0.0
    _state_at: float = 0.0
    _outcome_until: float = 0.0
    _stored_peers: tuple[PeerState, ...] = ()
    _export: Export | None = field(default=None, repr=False)
    _chronicle: Chronicle = field(default_factory=Chronicle, repr=False)

    async def tick(self, pods: list[PodObject], *, woken: bool) -> None:
        """Observe, act, and observe again what the acts have changed."""
        await self._mark(pods)
        await self._ask(pods, all_of_them=woken)
        self._note_ends(pods)
        for _ in range(len(HANDOVER)):
            actions = roles.plan(self.view(pods))
            if not actions:
                break
            for action in actions:
                await self._act(action, pods)
            await self._ask(pods, all_of_them=True)
        self._note_active(pods)
        await self._bring_up_to_date(pods)
        await self._follow_sessions(pods)
        await self._ask_for_peers(pods)

    def view(self, pods: Iterable[PodObject]) -> View:
        state = self.state
        spec = state.tunnel.spec
        active = state.active or {}
        return View(
            pods=self.views(pods),
            hand_over_from=self._asked,
            selected=state.selected,
            has_service=workload.has_service(spec.exposed),
            last_active=active.get("pod"),
            term=max(self.lease_term(), active.get("term", 0), state.term_floor),
            last_term=active.get("term", 0),
            handover=spec.hands_over != "Never",
        )

    @property
    def _asked(self) -> int:
        """The term that somebody asks to end; what has failed once is not tried again."""
        asked = self.state.tunnel.hand_over_from
        return asked if asked != self._refused else 0

    def pending(self, pods: Iterable[PodObject]) -> bool:
        return roles.pending(self.view(pods))

    def views(self, pods: Iterable[PodObject]) -> list[PodView]:
        """One without its label is nobody's successor: the Service would lead nowhere."""
        views = [pod.view(self.state.seen.setdefault(pod.uid, Seen())) for pod in pods if not pod.over]
        unmarked = {pod.uid for pod in pods if not pod.labelled} & self._unmarked
        return [replace(view, ready=view.ready and view.uid not in unmarked) for view in views]

    # Observation

    async def _ask(self, pods: list[PodObject], *, all_of_them: bool) -> None:
        seen = self.state.seen
        for uid in seen.keys() - {pod.uid for pod in pods}:
            del seen[uid]
        now = time.monotonic()
        due = []
        for pod in pods:
            known = seen.setdefault(pod.uid, Seen())
            active = known.status is not None and known.status.role is not Role.STANDBY
            if (
                pod.address
                and not pod.over
                and (all_of_them or active or known.failures or now - known.at >= STANDBY_SECONDS)
            ):
                due.append(pod)
        await asyncio.gather(*(self._ask_one(pod) for pod in due))

    async def _ask_one(self, pod: PodObject) -> None:
        known = self.state.seen[pod.uid]
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                status = await (await self._sidecar(pod)).status(peers="none")
            if status.pod_uid != pod.uid:
                # On a node's own network the next pod has the address where the former one still answers.
                raise ControlError(f"at its address {status.pod_uid} answers")
            known.status = status
            known.failures, known.lost = 0, False
        except (ControlError, Refused, TimeoutError) as error:
            known.failures += 1
            if known.failures == roles.FAILURES:
                logger.warning("Pod %s does not answer: %s", pod.name, str(error) or "in time")
            if known.failures >= roles.FAILURES:
                known.lost = await self._node_lost(pod.node)
        known.at = time.monotonic()

    async def _node_lost(self, name: str) -> bool:
        try:
            node = await self.store.get("v1", "Node", None, name)
        except (Failure, OSError):
            return False
        if node is None:
            return True
        conditions = node.get("status", {}).get("conditions") or ()
        return any(each["type"] == "Ready" and each["status"] != "True" for each in conditions)

    def _note_ends(self, pods: list[PodObject]) -> None:
        now = time.monotonic()
        for pod in pods:
            seen = self.state.seen[pod.uid]
            offering = seen.answer is not None and seen.answer.offering
            seen.offering_since = (seen.offering_since or now) if offering else None
            seen.offered = now - seen.offering_since if seen.offering_since is not None else 0.0
            if pod.terminating:
                seen.ending_since = seen.ending_since or now
                seen.unsettled = now - seen.ending_since < PROXY_SECONDS

    def _note_active(self, pods: list[PodObject]) -> None:
        state = self.state
        winner, known = roles.active(self.views(pods)), state.active or {}
        if winner is None or winner.term < known.get("term", 0):
            return
        if (known.get("pod"), known.get("term")) != (winner.name, winner.term):
            state.active = {
                "pod": winner.name,
                "node": winner.node,
                "term": winner.term,
                "since": timestamp(time.time()),
            }
        if winner.answer is not None:
            state.confirmed = max(state.confirmed, winner.answer.generation)

    # What pods are told besides roles

    async def _mark(self, pods: list[PodObject]) -> None:
        """The label that the Service selects by, and for the active pod the cost of its deletion."""
        active = (self.state.active or {}).get("pod")
        self._unmarked &= {pod.uid for pod in pods}
        for pod in pods:
            if pod.over:
                continue
            patch: dict[str, Any] = {}
            if not pod.labelled:
                patch["labels"] = {names.POD_LABEL: pod.name}
            cost = ACTIVE_COST if pod.name == active else ""
            if pod.cost != cost and not pod.terminating:
                patch["annotations"] = {_COST: cost or None}
            if patch:
                await self._patch_pod(pod, patch)

    async def _patch_pod(self, pod: PodObject, metadata: dict[str, Any]) -> None:
        """Whatever refuses it for one pod, the others and their Tunnel go on."""
        namespace = self.state.tunnel.owner.namespace
        try:
            await self.store.merge("v1", "Pod", namespace, pod.name, {"metadata": metadata})
            self._unmarked.discard(pod.uid)
        except (Failure, OSError) as error:
            if pod.uid not in self._unmarked:
                logger.warning("Pod %s cannot be marked: %s", pod.name, in_short(error))
            self._unmarked.add(pod.uid)

    async def _bring_up_to_date(self, pods: list[PodObject]) -> None:
        await asyncio.gather(*(self.push(pod) for pod in pods if not pod.over))

    async def push(self, pod: PodObject) -> None:
        """Give the pod the configuration, by difference where it has the one before."""
        config, seen = self.state.config, self.state.seen.get(pod.uid)
        if config is None or seen is None or seen.answer is None or seen.status is None:
            return
        has = seen.status.generation
        if has >= config.generation:
            return
        former, patch = self.state.former_config, None
        if former is not None and former.generation == has:
            patch = documents.difference(former, config)
        try:
            seen.status = await self._configure(await self._sidecar(pod), patch)
        except (ControlError, Refused) as error:
            logger.warning("Pod %s does not take generation %d: %s", pod.name, config.generation, error)

    async def _configure(self, sidecar: ControlClient, patch: Patch | None) -> Status:
        config = self.state.config
        assert config is not None
        term = (self.state.active or {}).get("term")
        if patch is not None:
            try:
                return await sidecar.patch_peers(patch, term=term)
            except Refused as error:
                logger.info("A difference was refused, so all of it follows: %s", error)
        return await sidecar.put_config(config, term=term)

    # Roles

    async def _act(self, action: roles.Action, pods: list[PodObject]) -> None:
        by_uid = {pod.uid: pod for pod in pods}
        try:
            match action:
                case Handover():
                    await self._hand_over(action, by_uid)
                case Activate(pod, term):
                    former = (self.state.active or {}).get("pod")
                    await self._tell_sessions(by_uid[pod.uid])
                    await self._activate(by_uid[pod.uid], term, floor=await self._reserve_anew())
                    await self.announce(*_activated(pod.name, former, term))
                case Flip(pod):
                    await self._flip(pod.name)
                case Commit(pod, term):
                    await self._commit(by_uid[pod.uid], term)
                case Tell(pod, term):
                    await self._tell(by_uid[pod.uid], term)
                case Thaw(pod, term):
                    await (await self._sidecar(by_uid[pod.uid])).thaw(term=term)
        except (ControlError, Refused, Failure, OSError) as error:
            # The next look starts from whatever has become of it.
            logger.warning("%s: %s", type(action).__name__, error)
            if isinstance(action, Handover) and not action.old.leaving:
                self._refused = action.old.term
                await self.announce("Warning", "HandoverFailed", _failed(action, error))
        finally:
            self.state.term_floor = max(self.state.term_floor, getattr(action, "term", 0))

    async def _hand_over(self, move: Handover, by_uid: dict[str, PodObject]) -> None:
        old, new = by_uid[move.old.uid], by_uid[move.new.uid]
        await self.push(new)
        self._reserve()
        if move.old.role is Role.ACTIVE:
            await self._hear_sessions(old, PROBE_SECONDS)
        await self._tell_in_time(new)
        calls: dict[Call, Callable[[], Awaitable[None]]] = {
            "drain": lambda: self._drain(old, new, move.term),
            "activate": lambda: self._succeed(old, new, move.term),
            "flip": lambda: self._flip(new.name),
            "commit": lambda: self._finish(old, new, move.term, leaves=move.old.leaving),
        }
        began = time.monotonic()
        # Whatever becomes of all this: others know of the sessions that it is about. Whoever of them hangs
        # must not use up the offer.
        others = [pod for pod in by_uid.values() if pod not in (old, new) and not pod.over]
        telling = asyncio.gather(*map(self._tell_in_time, others))
        try:
            for stage in HANDOVER:
                if stage.call is not None:
                    await calls[stage.call]()
            took = time.monotonic() - began
        finally:
            await telling
        message = f"Pod {new.name} took over from {old.name} in {took * 1000:.0f} ms"
        await self.announce(
            "Normal", "HandedOver", message if move.old.leaving else f"{message}, as asked for"
        )
        self.state.last_handover = {
            "time": timestamp(time.time()),
            "peers": sum(self.state.connected.values()),
        }
        self._peers_due = time.monotonic() + 2
        self._outcome_until = time.monotonic() + outcome.WINDOW_SECONDS

    async def _drain(self, old: PodObject, new: PodObject, term: int) -> None:
        sidecar = await self._sidecar(old)
        self._export = await sidecar.drain(
            term=term, generation=self._generation(old), successor_uid=new.uid, seconds=roles.FREEZE_SECONDS
        )

    async def _succeed(self, old: PodObject, new: PodObject, term: int) -> None:
        try:
            await self._activate(new, term, export=self._export)
        except (ControlError, Refused):
            await (await self._sidecar(old)).thaw(term=term)
            raise
        finally:
            self._export = None

    async def _finish(self, old: PodObject, new: PodObject, term: int, *, leaves: bool) -> None:
        """A commit is for ever: the successor may have died since, and the old pod then serves on. One that
        stays stands by from now on."""
        async with asyncio.timeout(PROBE_SECONDS):
            status = await (await self._sidecar(new)).status(peers="none")
        if (status.role, status.term) != (Role.ACTIVE, term):
            raise ControlError(f"{new.name} is {status.role} at term {status.term}, not active at {term}")
        await (self._commit if leaves else self._tell)(old, term)

    async def _activate(
        self, pod: PodObject, term: int, *, export: Export | None = None, floor: str | None = None
    ) -> None:
        sidecar = await self._sidecar(pod)
        self.state.seen[pod.uid].status = await sidecar.activate(
            term=term,
            generation=self._generation(pod),
            export=export,
            outbound_timestamp_ceiling=floor,
        )

    async def _commit(self, pod: PodObject, term: int) -> None:
        await (await self._sidecar(pod)).commit(term=term)

    async def _tell(self, pod: PodObject, term: int) -> None:
        """Any call that is no role's tells the active pod's term: here the configuration that it has."""
        if self.state.config is not None:
            await (await self._sidecar(pod)).put_config(self.state.config, term=term)

    def _generation(self, pod: PodObject) -> int:
        seen = self.state.seen.get(pod.uid)
        return seen.status.generation if seen and seen.status else 0

    async def _flip(self, pod: str) -> None:
        owner = self.state.tunnel.owner
        patch = {"spec": {"selector": workload.selector(owner.name, pod)}}
        written = await self.store.merge("v1", "Service", owner.namespace, owner.name, patch, names.ROLES)
        if written is not None:
            self.state.service, self.state.selected = written, pod

    # What a successor needs that is handed nothing

    async def _follow_sessions(self, pods: list[PodObject]) -> None:
        by_uid = {pod.uid: pod for pod in pods if not pod.over}
        self._chronicle.keep_pods(by_uid)
        winner = roles.active(self.views(pods))
        if winner is not None:
            await self._hear_sessions(by_uid[winner.uid])
        await asyncio.gather(*map(self._tell_sessions, by_uid.values()))

    async def _hear_sessions(self, pod: PodObject, seconds: float | None = None) -> None:
        """Has an active pod tell of its sessions what it has not told yet. The first time, which is all of
        them, it has as long as it takes, or `seconds`."""
        status, now = self.state.seen[pod.uid].status, time.monotonic()
        if status is None:
            return
        since = self._chronicle.since(pod.uid, status.term)
        try:
            # One that falls silent must not hold up the question whether it is lost.
            async with asyncio.timeout(PROBE_SECONDS if since else seconds):
                news = await (await self._sidecar(pod)).sessions(since)
        except (ControlError, Refused, TimeoutError) as error:
            logger.info("Pod %s does not tell of its sessions: %s", pod.name, str(error) or "in time")
            return
        self._chronicle.add(news, now)

    async def _tell_in_time(self, pod: PodObject) -> None:
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._tell_sessions(pod)
        except TimeoutError:
            logger.info("Pod %s does not learn of sessions in time", pod.name)

    async def _tell_sessions(self, pod: PodObject) -> None:
        """Gives a standby all that was told and that it has not heard."""
        self._chronicle.forget_old(time.monotonic())
        status = self.state.seen[pod.uid].status
        if status is None or status.role is not Role.STANDBY or self.state.seen[pod.uid].failures:
            return
        while told := self._chronicle.untold(pod.uid, status.generation):
            try:
                sidecar = await self._sidecar(pod)
                self.state.seen[pod.uid].status = await sidecar.tell_sessions([each.sealed for each in told])
            except ControlError as error:
                logger.info("Pod %s does not learn of sessions yet: %s", pod.name, error)
                return
            except Refused as error:
                logger.info("Pod %s does not learn of sessions: %s", pod.name, error)
            self._chronicle.heard(pod.uid, told)

    # Marks, endpoints, who is connected

    async def _reserve_anew(self) -> str | None:
        """Up to where pods may have stamped. For whoever begins above that more is reserved, and written down
        first: else another leader would let another pod begin there too."""
        floor = self.state.ceiling or None
        self._reserve(floor)
        await self.write_down()
        return floor

    def _reserve(self, above: str | None = None) -> None:
        latest = max([time.time_ns(), *map(stamps.from_text, filter(None, (*self._stamps(), above)))])
        reserved = stamps.to_text(latest + RESERVED_NS)
        self.state.ceiling = max(reserved, self.state.ceiling or reserved, key=stamps.from_text)

    def _stamps(self) -> list[str]:
        sent = [seen.status.outbound_stamp for seen in self.state.seen.values() if seen.status]
        return [stamp for stamp in sent if stamp]

    def _reserve_if_needed(self) -> bool:
        """At half of what was reserved, while handshakes are sent."""
        sent = self._stamps()
        if not sent or not self.state.ceiling:
            return False
        left = stamps.from_text(self.state.ceiling) - max(map(stamps.from_text, sent))
        if left > RESERVED_NS / 2:
            return False
        self._reserve()
        return True

    async def _ask_for_peers(self, pods: list[PodObject]) -> None:
        now = time.monotonic()
        name = (self.state.active or {}).get("pod")
        pod = next((pod for pod in pods if pod.name == name), None)
        if pod is None or now < self._peers_due:
            return
        self._peers_due = now + PEERS_SECONDS
        try:
            status = await (await self._sidecar(pod)).status(peers="heard")
        except (ControlError, Refused):
            return
        pause = (time.monotonic() - now) / PEERS_SHARE
        self._peers_due = now + min(max(pause, PEERS_SECONDS), LONGEST_PEERS_SECONDS)
        peers = status.peers or ()
        self.state.connected = {peer.public_key: peer.connected for peer in peers}
        if self.state.last_handover is not None and now < self._outcome_until:
            self.state.last_handover |= outcome.of_handover(peers)
        reserved = self._reserve_if_needed()
        if reserved or now - self._state_at >= STATE_SECONDS:
            await self._store_state(status, now)

    async def _store_state(self, status: Status, now: float) -> None:
        peers = tuple(
            PeerState(peer.public_key, peer.endpoint, peer.inbound_stamp, peer.last_received)
            for peer in status.peers or ()
            if peer.endpoint or peer.inbound_stamp
        )
        self._state_at = now
        if peers == self._stored_peers:
            return
        owner = self.state.tunnel.owner
        document = State.of(time.time(), status.term, self.state.ceiling or None, peers).dump()
        await self.store.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": owner.metadata(names.state_secret(owner.name)),
                "data": {documents.STATE_KEY: documents.encode(document)},
            }
        )
        self._stored_peers = peers

    async def _sidecar(self, pod: PodObject) -> ControlClient:
        owner = self.state.tunnel.owner
        return await self.sidecars.at(pod.address or "", owner.namespace, owner.name)


def _failed(move: Handover, error: Exception) -> str:
    return f"Pod {move.old.name} was asked to hand over to {move.new.name}, and serves on: {error}"


def _activated(pod: str, former: str | None, term: int) -> tuple[str, str, str]:
    """The event: type, reason and message."""
    if former in {None, pod}:
        return "Normal", "Activated", f"Pod {pod} is active, at term {term}"
    message = f"Pod {pod} took over at term {term}, without {former}: that one is gone or does not answer"
    return "Warning", "FailedOver", f"{message}. Clients shake hands anew"
