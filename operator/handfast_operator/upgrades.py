"""A new image for sidecars in their pods, which go on: one at a time, and no further where one has failed.

What was begun stands in an annotation of the pod, and so does what has failed: whichever operator leads next
goes on from there.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException

from handfast_tunnel.control import ControlError, Refused, Role, Status

from . import names
from .conditions import Finding
from .container import SIDECAR
from .sidecars import Sidecars
from .store import Store
from .tunnel_state import PodObject, Seen, TunnelState

RESTART_SECONDS: Final = 120.0
"""For the end of the old container, the pull of its image, and the start of the new one."""
RESUME_SECONDS: Final = 15.0
"""For its sessions to be there again, from then on."""
REASON: Final = "UpgradeFailed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a sidecar was like when its image was replaced: the annotation."""

    image: str
    restarts: int
    role: str
    connected: int
    at: float

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Begun | None:
        """None for what somebody else has written there."""
        try:
            begun = cls(**json.loads(text))
        except (TypeError, ValueError):
            return None
        numbers = all(type(each) is int for each in (begun.restarts, begun.connected))
        return begun if numbers and type(begun.at) in {int, float} else None


@dataclass(frozen=True, slots=True)
class Begin:
    pod: PodObject


@dataclass(frozen=True, slots=True)
class Check:
    """Its image was replaced: what has become of it?"""

    pod: PodObject
    begun: Begun | None


@dataclass(frozen=True, slots=True)
class Stop:
    """One could not be upgraded: the others keep what they have."""

    pod: PodObject
    why: str


Step = Begin | Check | Stop


def next_step(pods: Sequence[PodObject], seen: Callable[[PodObject], Seen], wanted: str) -> Step | None:
    """Those that stand by come first: what fails there, fails for nobody."""
    ours = [pod for pod in pods if pod.sidecar is not None and not pod.over and not pod.terminating]
    for pod in ours:
        if pod.sidecar and pod.sidecar.upgrading is not None:
            return Check(pod, Begun.parse(pod.sidecar.upgrading))
    for pod in ours:
        image, _, why = pod.sidecar.failed.partition(" ") if pod.sidecar else ("", "", "")
        if image == wanted:
            return Stop(pod, why)
    old = [pod for pod in ours if pod.sidecar and pod.sidecar.image != wanted and _fit(pod, seen(pod))]
    return Begin(min(old, key=lambda pod: (_is_active(seen(pod)), pod.name))) if old else None


def _fit(pod: PodObject, seen: Seen) -> bool:
    return pod.ready and seen.answer is not None and seen.answer.role in {Role.ACTIVE, Role.STANDBY}


def _is_active(seen: Seen) -> bool:
    return seen.answer is not None and seen.answer.role is Role.ACTIVE


def restarted(pod: PodObject, begun: Begun) -> bool:
    sidecar = pod.sidecar
    return sidecar is not None and sidecar.restarts > begun.restarts and sidecar.ready


def failure(begun: Begun, status: Status, waited: float) -> str | None:
    """Why a container that runs again is not what the former one was; an empty text: not known yet."""
    if status.role != begun.role:
        return f"it was {begun.role}, and is {status.role}"
    if status.role is not Role.ACTIVE:
        return None
    other = [peer.method for peer in status.peers or () if peer.method not in {None, "resumed"}]
    if other:
        return f"{len(other)} clients had to shake hands anew ({other[0]})"
    if status.connected >= begun.connected:
        return None
    lost = f"of {begun.connected} sessions {status.connected} are left"
    return lost if waited >= RESUME_SECONDS else ""


def never_restarted(pod: PodObject) -> str:
    trouble = pod.sidecar.trouble if pod.sidecar is not None else ""
    return f"its container does not run{f' ({trouble})' if trouble else ''}: it has its former image again"


Announce = Callable[[str, str, str], Awaitable[None]]


class Upgrader:
    """For one Tunnel; `tick` as the conductor's."""

    def __init__(
        self, store: Store, sidecars: Sidecars, state: TunnelState, image: str, announce: Announce
    ) -> None:
        self._store = store
        self._sidecars = sidecars
        self._state = state
        self._image = image
        self._announce = announce
        self._back_at: dict[str, float] = {}
        """By a pod's uid: when its new container was first seen to run."""

    async def tick(self, pods: Iterable[PodObject]) -> None:
        state = self._state
        step = next_step(list(pods), lambda pod: state.seen.get(pod.uid, Seen()), self._image)
        degraded = state.findings.get("Degraded")
        if isinstance(step, Stop):
            if degraded is None:
                state.findings["Degraded"] = _stopped(step, self._image)
        elif degraded is not None and degraded.reason == REASON:
            del state.findings["Degraded"]
        try:
            await self._take(step)
        except ApiException as error:
            # Whatever refuses another image, the Tunnel is served all the same.
            logger.warning("A sidecar cannot be changed: %s %s", error.status, error.reason)
            state.findings["Degraded"] = _refused(error)

    async def _take(self, step: Step | None) -> None:
        match step:
            case Begin(pod):
                await self._begin(pod)
            case Check(pod, None):
                await self._note(pod, {names.UPGRADING: None})
            case Check(pod, Begun() as begun):
                await self._check(pod, begun)

    async def _begin(self, pod: PodObject) -> None:
        status = self._state.seen[pod.uid].status
        assert pod.sidecar is not None
        assert status is not None
        begun = Begun(pod.sidecar.image, pod.sidecar.restarts, status.role, status.connected, time.time())
        logger.info("Pod %s gets %s instead of %s", pod.name, self._image, begun.image)
        await self._note(pod, {names.UPGRADING: begun.dump(), names.UPGRADE_FAILED: None}, self._image)

    async def _check(self, pod: PodObject, begun: Begun) -> None:
        now = time.time()
        if not restarted(pod, begun):
            if now - begun.at >= RESTART_SECONDS:
                await self._fail(pod, never_restarted(pod), begun.image)
            return
        back_at = self._back_at.setdefault(pod.uid, now)
        try:
            status = await self._ask(pod)
        except (ControlError, Refused) as error:
            if now - back_at >= RESUME_SECONDS:
                await self._fail(pod, f"it does not answer: {error}")
            return
        why = failure(begun, status, now - back_at)
        if why:
            await self._fail(pod, why)
        elif why is None:
            await self._succeed(pod, begun)

    async def _ask(self, pod: PodObject) -> Status:
        owner = self._state.tunnel.owner
        sidecar = await self._sidecars.at(pod.address or "", owner.namespace, owner.name)
        return await sidecar.status()

    async def _succeed(self, pod: PodObject, begun: Begun) -> None:
        self._back_at.pop(pod.uid, None)
        await self._note(pod, {names.UPGRADING: None})
        image = pod.sidecar.image if pod.sidecar is not None else self._image
        sessions = f", {begun.connected} sessions went on" if begun.role == Role.ACTIVE else ""
        await self._announce("Normal", "Upgraded", f"Pod {pod.name} has {image}{sessions}")

    async def _fail(self, pod: PodObject, why: str, back_to: str | None = None) -> None:
        """The condition, and its event, follow from the annotation."""
        logger.warning("Pod %s with %s: %s", pod.name, self._image, why)
        self._back_at.pop(pod.uid, None)
        failed = f"{self._image} {why}"
        await self._note(pod, {names.UPGRADING: None, names.UPGRADE_FAILED: failed}, back_to)

    async def _note(self, pod: PodObject, annotations: dict[str, Any], image: str | None = None) -> None:
        patch: dict[str, Any] = {"metadata": {"annotations": annotations}}
        if image is not None:
            patch["spec"] = {"initContainers": [{"name": SIDECAR.container, "image": image}]}
        await self._store.merge_lists("v1", "Pod", self._state.tunnel.owner.namespace, pod.name, patch)


def _refused(error: ApiException) -> Finding:
    message = (
        f"the API server refuses to change a sidecar: {error.status} {error.reason}: {str(error.body)[:300]}."
        " Let the operator patch pods and their images, or replace the pods: new ones have the new image"
    )
    return Finding("Degraded", "True", REASON, message)


def _stopped(stop: Stop, image: str) -> Finding:
    message = (
        f"the sidecar of pod {stop.pod.name} could not be upgraded to {image}, and so no other one is:"
        f" {stop.why}. Delete the pod, or take its annotation {names.UPGRADE_FAILED} away, to try again"
    )
    return Finding("Degraded", "True", REASON, message)
