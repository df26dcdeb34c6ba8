"""A new image for sidecars in their pods, which go on: one at a time, and no further where one has failed.

What was begun stands in an annotation of the pod, and so does what has failed: whichever operator leads next
goes on from there. Judged are the sessions that were there right before, and from the moment at which the new
container runs: how long its image takes to come says nothing about it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

from kubernetes.aio.client.exceptions import ApiException

from handfast_tunnel.control import ControlError, Refused, Role, Status

from . import names
from .conditions import Finding
from .container import SIDECAR
from .sidecars import Sidecars
from .store import Store
from .tunnel_state import PodObject, Seen, Sidecar, TunnelState
from .witnesses import Witness, testimony, witnesses

PULL_SECONDS: Final = 120.0
"""For the end of the old container and the pull of the new one's image. Clients are in the dark meanwhile."""
START_SECONDS: Final = 60.0
"""For the new container to be ready, from its start."""
RESUME_SECONDS: Final = 20.0
"""For its sessions to be there again, from then on, and for those to be heard that were sending: one whose
packets are in vain shakes hands after 15 s."""
PULL_TROUBLES: Final = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ErrImageNeverPull",
    "InvalidImageName",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
NO_TROUBLES: Final = {"", "ContainerCreating", "PodInitializing"}
"""What the kubelet says of a container that is about to begin."""
REASON: Final = "UpgradeFailed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """What a sidecar was like when its image was replaced: the annotation."""

    image: str
    restarts: int
    role: str
    at: float
    sessions: tuple[Witness, ...] = ()

    def dump(self) -> str:
        sessions = [(each.key, each.born, each.lively) for each in self.sessions]
        return json.dumps(asdict(self) | {"sessions": sessions}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> Begun | None:
        """None for what somebody else has written there."""
        try:
            values = json.loads(text)
            begun = cls(**values | {"sessions": tuple(map(Witness.parse, values["sessions"]))})
        except (TypeError, ValueError, LookupError):
            return None
        return begun if type(begun.restarts) is int and type(begun.at) in {int, float} else None


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
    there = [pod for pod in pods if pod.sidecar is not None and not pod.over and not pod.terminating]
    for pod in there:
        if pod.sidecar and pod.sidecar.upgrading is not None:
            return Check(pod, Begun.parse(pod.sidecar.upgrading))
    ours = [pod for pod in there if pod.sidecar and pod.sidecar.upgrades]
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


def pull_failure(events: Iterable[Mapping[str, Any]], image: str, since: float) -> str:
    """What the kubelet has said of a pull that failed. In the pod's status it says nothing of a sidecar whose
    former container has ended well (convertToAPIContainerStatuses, Kubernetes 1.36)."""
    for event in events:
        at = event.get("lastTimestamp") or event.get("eventTime")
        if at and datetime.fromisoformat(at).timestamp() >= since - 1 and f'"{image}"' in event["message"]:
            return str(event["message"])[:300]
    return ""


def obstacle(sidecar: Sidecar, begun: Begun, pull: str, waited: float, ran: float) -> str:
    """Why a container cannot take the former one's place, if it cannot: `waited` seconds after the patch, and
    `ran` after it was first seen; `pull` is why its pull has failed."""
    trouble = sidecar.trouble
    if pull or trouble in PULL_TROUBLES:
        return f"its image cannot be pulled ({pull or trouble})"
    if trouble not in NO_TROUBLES:
        return f"its container does not start ({trouble})"
    if not _is_there(sidecar, begun):
        return f"its image is not there after {PULL_SECONDS:.0f} s" if waited >= PULL_SECONDS else ""
    if not sidecar.ready and ran >= START_SECONDS:
        return f"its container is not ready {START_SECONDS:.0f} s after its start"
    return ""


def _is_there(sidecar: Sidecar, begun: Begun) -> bool:
    """The new container."""
    return sidecar.restarts > begun.restarts


@dataclass(frozen=True, slots=True)
class Verdict:
    """On a container that runs again."""

    failure: str = ""
    settled: bool = True
    """Whether there is nothing to wait for."""
    went_on: int = 0
    """Sessions."""


def verdict(begun: Begun, status: Status, silence: float, waited: float, now: float) -> Verdict:
    """`waited` seconds after it was ready, and with `silence` between it and the former one."""
    if status.role != begun.role:
        return Verdict(f"it was {begun.role}, and is {status.role}")
    peers = {peer.public_key: peer for peer in status.peers or ()}
    found = testimony(begun.sessions, peers, silence, now)
    of_all = f"of {len(begun.sessions)} clients with a session"
    if anew := found.fates["anew"]:
        return Verdict(f"{of_all} {anew} had to shake hands anew ({found.method})")
    if waited < RESUME_SECONDS and (found.fates["lost"] or found.awaited):
        return Verdict(settled=False)
    if lost := found.fates["lost"]:
        return Verdict(f"{of_all} {lost} have lost it")
    return Verdict(went_on=found.fates["resumed"] + found.fates["unheard"])


Announce = Callable[[str, str, str], Awaitable[None]]


@dataclass(slots=True)
class Since:
    """When a new container was first seen, and seen to be ready."""

    begun: float | None = None
    ready: float | None = None

    def see(self, sidecar: Sidecar, begun: Begun, now: float) -> None:
        if _is_there(sidecar, begun):
            self.begun = self.begun or now
            if sidecar.ready:
                self.ready = self.ready or now


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
        self._since: dict[str, Since] = {}
        """By a pod's uid."""

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
        assert pod.sidecar is not None
        try:
            status = await self._ask(pod)
        except (ControlError, Refused):
            return
        now = time.time()
        sessions = witnesses(status.peers or (), now) if status.role is Role.ACTIVE else ()
        begun = Begun(pod.sidecar.image, pod.sidecar.restarts, status.role, now, sessions)
        logger.info("Pod %s gets %s instead of %s", pod.name, self._image, begun.image)
        await self._note(pod, {names.UPGRADING: begun.dump(), names.UPGRADE_FAILED: None}, self._image)

    async def _check(self, pod: PodObject, begun: Begun) -> None:
        sidecar, now = pod.sidecar, time.time()
        assert sidecar is not None
        since = self._since.setdefault(pod.uid, Since())
        since.see(sidecar, begun, now)
        pull = "" if _is_there(sidecar, begun) else await self._pull_failure(pod, sidecar, begun)
        why = obstacle(sidecar, begun, pull, now - begun.at, now - (since.begun or now))
        if why:
            await self._fail(pod, f"{why}: it has its former image again", begun.image)
        elif since.ready is not None and sidecar.ready:
            await self._judge(pod, sidecar, begun, now - since.ready)

    async def _pull_failure(self, pod: PodObject, sidecar: Sidecar, begun: Begun) -> str:
        namespace = self._state.tunnel.owner.namespace
        fields = f"involvedObject.uid={pod.uid},type=Warning"
        try:
            found = await self._store.list("v1", "Event", namespace, fields=fields)
        except ApiException as error:
            logger.info("Events of pod %s cannot be read: %s %s", pod.name, error.status, error.reason)
            return ""
        return pull_failure(found, sidecar.image, begun.at)

    async def _judge(self, pod: PodObject, sidecar: Sidecar, begun: Begun, waited: float) -> None:
        try:
            status = await self._ask(pod)
        except (ControlError, Refused) as error:
            if waited >= RESUME_SECONDS:
                await self._fail(pod, f"it does not answer: {error}")
            return
        found = verdict(begun, status, sidecar.silence, waited, time.time())
        if found.failure:
            await self._fail(pod, found.failure)
        elif found.settled:
            await self._succeed(pod, begun, found.went_on)

    async def _ask(self, pod: PodObject) -> Status:
        owner = self._state.tunnel.owner
        sidecar = await self._sidecars.at(pod.address or "", owner.namespace, owner.name)
        return await sidecar.status()

    async def _succeed(self, pod: PodObject, begun: Begun, went_on: int) -> None:
        self._since.pop(pod.uid, None)
        await self._note(pod, {names.UPGRADING: None})
        image = pod.sidecar.image if pod.sidecar is not None else self._image
        sessions = f", {went_on} sessions went on" if begun.role == Role.ACTIVE else ""
        await self._announce("Normal", "Upgraded", f"Pod {pod.name} has {image}{sessions}")

    async def _fail(self, pod: PodObject, why: str, back_to: str | None = None) -> None:
        """The condition, and its event, follow from the annotation."""
        image = pod.sidecar.image if pod.sidecar is not None else self._image
        logger.warning("Pod %s with %s: %s", pod.name, image, why)
        self._since.pop(pod.uid, None)
        await self._note(pod, {names.UPGRADING: None, names.UPGRADE_FAILED: f"{image} {why}"}, back_to)

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
