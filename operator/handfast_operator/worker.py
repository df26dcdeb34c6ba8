"""One worker for each Tunnel: it wakes when something has changed, waits a moment for more, and looks at all
of it.

Two loops, so that ten thousand new Peers do not hold up a handover: one for what is written down, one for
roles.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic.exceptions import ForbiddenError

from . import news, status, workload
from .clients import Clients
from .conductor import Conductor
from .measured import Measured
from .membership import PeerObject
from .names import NOBODY, POD_LABEL
from .reconciler import Authority, Reconciler
from .settings import Settings
from .sidecars import Sidecars
from .store import Object, Store, in_short
from .tunnel_state import PodObject, TunnelObject, TunnelState
from .upgrades import Upgrader

QUIET_SECONDS: Final = 0.05
"""How long nothing may change before all of it is looked at,"""
PATIENCE_SECONDS: Final = 1.0
"""and for how long that is waited for."""
TICK_SECONDS: Final = 1.0
"""Between the beginnings of two looks at all pods; one that waits for a lost pod is followed at once,"""
PAUSE_SECONDS: Final = 0.1
"""or nearly so."""
LONGEST_RETRY: Final = 30.0
LONGEST_RETRY_OF_ROLES: Final = 1.0
"""Clients may wait for what failed: also an API server that was slow for a minute is asked again at once."""

Key = tuple[str, str]
logger = logging.getLogger(__name__)


class World(Protocol):
    """What a worker may ask of the operator."""

    store: Store
    settings: Settings
    sidecars: Sidecars
    measured: Measured

    @property
    def authority(self) -> Authority: ...

    def tunnel(self, key: Key) -> TunnelObject | None: ...

    def peers(self, key: Key) -> list[PeerObject]: ...

    def pods(self, key: Key) -> list[PodObject]: ...

    def lease_term(self) -> int: ...

    async def announce(self, subject: Object, type: str, reason: str, message: str) -> None: ...


class Worker:
    def __init__(self, world: World, key: Key) -> None:
        self._world = world
        self._key = key
        self._dirty = asyncio.Event()
        self._woken = asyncio.Event()
        self._state: TunnelState | None = None
        self._reconciler: Reconciler | None = None
        self._conductor: Conductor | None = None
        self._upgrader: Upgrader | None = None
        self._status: dict[str, Any] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._conducting = asyncio.Lock()
        self._ticked_at = 0.0

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(
                self._forever(self._reconcile_when_due, LONGEST_RETRY), name=f"reconcile {self._key}"
            ),
            asyncio.create_task(
                self._forever(self._tick_when_due, LONGEST_RETRY_OF_ROLES), name=f"conduct {self._key}"
            ),
        ]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def waiting(self) -> bool:
        return self._dirty.is_set()

    @property
    def certificate_expiry(self) -> float | None:
        return self._reconciler.certificate_expiry if self._reconciler is not None else None

    @property
    def generation(self) -> int:
        """Of the configuration; 0 while there is none."""
        return self._state.config.generation if self._state is not None and self._state.config else 0

    @property
    def conditions(self) -> dict[str, bool]:
        """By type, as they were last written."""
        found = (self._status or {}).get("conditions", ())
        return {each["type"]: each["status"] == "True" for each in found if each["status"] != "Unknown"}

    def mark(self) -> None:
        """A spec, a Peer, or an object that was made from them has changed."""
        self._dirty.set()

    def wake(self) -> None:
        """A pod has changed."""
        self._woken.set()

    @property
    def pending(self) -> bool:
        """Is there anything that clients wait for?"""
        return self._conductor is not None and self._conductor.pending(self._world.pods(self._key))

    def see_service(self, service: dict[str, Any] | None) -> None:
        if self._state is not None:
            self._state.service = service
            if service is not None:
                self._state.selected = _selected(service)
        self.wake()

    async def _forever(self, once: Callable[[], Any], longest: float) -> None:
        delay = QUIET_SECONDS
        while True:
            try:
                await once()
                delay = QUIET_SECONDS
            except asyncio.CancelledError:
                raise
            except Exception as error:
                if isinstance(error, ForbiddenError) and "being terminated" in str(error.body):
                    # The namespace is going away, and the Tunnel with it.
                    await asyncio.sleep(LONGEST_RETRY)
                    continue
                # Nothing is lost: the next look begins with what is there.
                known = isinstance(error, (ApiException, OSError, LookupError))
                logger.warning("%s/%s: %s", *self._key, in_short(error), exc_info=not known)
                await asyncio.sleep(delay)
                delay = min(delay * 2, longest)
                self._dirty.set()

    # What is written down

    async def _reconcile_when_due(self) -> None:
        await self._quiet()
        self._dirty.clear()
        tunnel, now = self._world.tunnel(self._key), time.time()
        if tunnel is None:
            self._forget()
            await self._orphans(now)
            await self._dirty.wait()
            return
        reconciler = self._for(tunnel)
        with self._world.measured.reconcile_seconds.time():
            due = await reconciler.reconcile(self._world.peers(self._key), now)
            await self._tick(woken=True)
            await reconciler.clients.write_statuses(time.time())
            await self._write_status()
        await _wait(self._dirty, max(due - time.time(), 0))

    async def _quiet(self) -> None:
        patience = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < patience:
            self._dirty.clear()
            if not await _wait(self._dirty, QUIET_SECONDS):
                return

    async def _orphans(self, now: float) -> None:
        """Peers that name a Tunnel which is not there."""
        peers = [
            (peer, wanted)
            for peer in self._world.peers(self._key)
            if (wanted := status.tunnel_not_found(peer, now)) != peer.raw_status
        ]
        await asyncio.gather(*(self._tell_orphan(*each) for each in peers))

    async def _tell_orphan(self, peer: PeerObject, wanted: Object) -> None:
        await self._world.store.apply_status("Peer", peer.namespace, peer.name, wanted)
        for reason, message in news.of_peer(peer.raw_status.get("conditions", ()), wanted["conditions"]):
            await self._world.announce(peer.subject, "Warning", reason, message)

    def _forget(self) -> None:
        self._state = self._reconciler = self._conductor = self._upgrader = self._status = None

    def _for(self, tunnel: TunnelObject) -> Reconciler:
        if self._state is None or self._state.tunnel.owner != tunnel.owner or self._reconciler is None:
            world = self._world
            former = tunnel.status
            state = TunnelState(tunnel, ceiling=former.outbound_timestamp_ceiling)
            if former.active is not None:
                state.active = former.active.model_dump(by_alias=True)
            if former.last_handover is not None:
                state.last_handover = former.last_handover.model_dump(by_alias=True)
            state.confirmed = former.applied_generation
            # Until it is found anew: all clients were given this one.
            state.endpoint = former.endpoint or None
            self._state = state
            self._status = dict(tunnel.raw_status)
            clients = Clients(world.store, state, world.announce)
            self._reconciler = Reconciler(world.store, world.settings, world.authority, state, clients)
            self._conductor = Conductor(
                world.store, world.sidecars, state, world.lease_term, self._announce, self._write_status
            )
            image = world.settings.tunnel_image
            self._upgrader = Upgrader(world.store, world.sidecars, state, image, self._announce)
        self._state.tunnel = tunnel
        return self._reconciler

    async def _announce(self, type: str, reason: str, message: str) -> None:
        if self._state is not None:
            self._world.measured.events.labels(*self._key, reason).inc()
            await self._world.announce(self._state.tunnel.owner.subject, type, reason, message)

    # Roles

    async def _tick_when_due(self) -> None:
        due = self._ticked_at + TICK_SECONDS - time.monotonic()
        woken = await _wait(self._woken, max(due, PAUSE_SECONDS))
        self._ticked_at = time.monotonic()
        self._woken.clear()
        if self._state is None or self._state.config is None:
            return
        confirmed, connected = self._state.confirmed, self._state.connected
        await self._tick(woken=woken)
        if self._reconciler is not None and (
            confirmed != self._state.confirmed or connected != self._state.connected
        ):
            await self._reconciler.clients.write_statuses(time.time())
        await self._write_status()

    async def _tick(self, *, woken: bool) -> None:
        state, conductor = self._state, self._conductor
        if state is None or conductor is None:
            return
        async with self._conducting:
            pods = self._world.pods(self._key)
            if state.service is not None and state.selected is None:
                state.selected = _selected(state.service)
            await conductor.tick(pods, woken=woken)
            if self._upgrader is not None:
                await self._upgrader.tick(pods)
        self._find_endpoint(state, pods)

    def _find_endpoint(self, state: TunnelState, pods: list[PodObject]) -> None:
        active = (state.active or {}).get("pod")
        host = next((pod.host_address for pod in pods if pod.name == active), None)
        found, reason = workload.endpoint(state.tunnel.spec, state.service, host)
        if found is None and state.endpoint is not None and host is None:
            # Between two active pods: it stays what it was.
            return
        if (found, reason) != (state.endpoint, state.endpoint_reason):
            state.endpoint, state.endpoint_reason = found, reason
            self.mark()

    async def _write_status(self) -> None:
        state, conductor = self._state, self._conductor
        if state is None or conductor is None:
            return
        members = state.membership.members.values() if state.membership else ()
        ready = sum(
            state.programmed.get(member.peer.uid, state.confirmed + 1) <= state.confirmed
            for member in members
            if member.served
        )
        views = conductor.views(self._world.pods(self._key))
        wanted = status.tunnel(
            state, views, len(self._world.peers(self._key)), ready, self._status or {}, time.time()
        )
        if wanted == self._status:
            return
        owner = state.tunnel.owner
        former, self._status = self._status, wanted
        try:
            await self._world.store.apply_status("Tunnel", owner.namespace, owner.name, wanted)
        except BaseException:
            self._status = None
            raise
        for reason, message in news.of_tunnel((former or {}).get("conditions", ()), wanted["conditions"]):
            await self._announce("Warning", reason, message)


def _selected(service: Mapping[str, Any]) -> str | None:
    name = (service.get("spec", {}).get("selector") or {}).get(POD_LABEL)
    return None if name == NOBODY else name


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether it was set before the time was over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
