"""What the operator knows about one Tunnel, between two looks at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from handfast_tunnel.control import Configuration, Status

from . import names
from .conditions import Finding
from .container import AFTER_APP, GATEWAY, SIDECAR
from .keys import KeyPair
from .membership import Membership
from .requests import from_term
from .resources import TunnelSpec, TunnelStatus
from .roles import Answer, PodView
from .workload import Owner


@dataclass(frozen=True, slots=True)
class TunnelObject:
    """A Tunnel as the API server has it, parsed."""

    owner: Owner
    generation: int
    spec: TunnelSpec
    status: TunnelStatus
    raw_status: Mapping[str, Any]
    hand_over_from: int = 0
    """The term that somebody asks to end."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> TunnelObject:
        meta = body["metadata"]
        raw = body.get("status") or {}
        return cls(
            Owner(meta["namespace"], meta["name"], meta["uid"]),
            meta["generation"],
            TunnelSpec.model_validate(body["spec"]),
            TunnelStatus.model_validate(raw),
            raw,
            from_term(meta.get("annotations")),
        )


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The tunnel's container in a pod that is somebody else's."""

    image: str
    ready: bool
    restarts: int
    after_app: bool
    silence: float = 0.0
    """Between the end of its former container and the beginning of this one, in seconds."""
    upgrades: bool = False
    """Whether its image is the operator's to replace."""
    trouble: str = ""
    """Why it does not run, in a word of the kubelet's."""
    upgrading: str | None = None
    """What was noted when its image was replaced, until that has come to an end."""
    failed: str = ""
    """The image that it could not be upgraded to, and why."""

    @classmethod
    def of(cls, pod: Mapping[str, Any]) -> Sidecar | None:
        containers = pod["spec"].get("initContainers") or ()
        found = next((each for each in containers if each["name"] == SIDECAR.container), None)
        if found is None:
            return None
        statuses = (pod.get("status") or {}).get("initContainerStatuses") or ()
        status: Mapping[str, Any] = next((each for each in statuses if each["name"] == SIDECAR.container), {})
        state, former = status.get("state") or {}, status.get("lastState") or {}
        notes = pod["metadata"].get("annotations") or {}
        return cls(
            image=found["image"],
            ready=bool(status.get("ready")),
            restarts=status.get("restartCount", 0),
            after_app=any(each.startswith(AFTER_APP) for each in found.get("args") or ()),
            silence=_seconds_between(
                former.get("terminated", {}).get("finishedAt"), state.get("running", {}).get("startedAt")
            ),
            trouble=state.get("waiting", {}).get("reason", ""),
            upgrades=notes.get(names.UPGRADES) == "true",
            upgrading=notes.get(names.UPGRADING),
            failed=notes.get(names.UPGRADE_FAILED, ""),
        )


def _seconds_between(earlier: str | None, later: str | None) -> float:
    if earlier is None or later is None:
        return 0.0
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def has_tunnel(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is a gateway's or was injected; a label alone makes it neither."""
    own = any(each["name"] == GATEWAY.container for each in pod["spec"]["containers"])
    managed = (pod["metadata"].get("labels") or {}).items() >= names.MANAGED_BY.items()
    return (own and managed) or Sidecar.of(pod) is not None


@dataclass(frozen=True, slots=True)
class PodObject:
    """A pod of a Tunnel as the API server has it: what matters of it."""

    name: str
    uid: str
    created: str
    node: str
    address: str | None
    host_address: str | None
    ready: bool
    terminating: bool
    template: str
    labelled: bool
    """With the label that the Service selects."""
    cost: str
    over: bool
    """It has ended, and never answers again."""
    sidecar: Sidecar | None = None
    """None: the pod is a gateway's."""

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> PodObject:
        meta, status = body["metadata"], body.get("status") or {}
        labels = meta.get("labels") or {}
        sidecar = Sidecar.of(body)
        ready = any(
            each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ()
        )
        return cls(
            name=meta["name"],
            uid=meta["uid"],
            created=meta["creationTimestamp"],
            node=(body.get("spec") or {}).get("nodeName") or "",
            address=status.get("podIP"),
            host_address=status.get("hostIP"),
            # An app may wait for the tunnel before it is ready.
            ready=ready if sidecar is None else sidecar.ready,
            terminating=bool(meta.get("deletionTimestamp")),
            template=labels.get("pod-template-hash") or labels.get("controller-revision-hash", ""),
            labelled=labels.get("handfast.dev/pod") == meta["name"],
            cost=(meta.get("annotations") or {}).get("controller.kubernetes.io/pod-deletion-cost", ""),
            over=status.get("phase") in {"Succeeded", "Failed"},
            sidecar=sidecar,
        )

    def view(self, seen: Seen) -> PodView:
        return PodView(
            self.name,
            self.uid,
            self.created,
            self.node,
            self.ready,
            self.terminating,
            self.template,
            seen.answer,
            seen.failures,
            seen.lost,
            seen.unsettled,
            after_app=self.sidecar is not None and self.sidecar.after_app,
            offered=seen.offered,
            stays=self.sidecar is not None and self.sidecar.upgrading is not None and not self.terminating,
        )


@dataclass(slots=True)
class Seen:
    """What one pod last said, or how often it has not."""

    status: Status | None = None
    at: float = 0.0
    failures: int = 0
    lost: bool = False
    ending_since: float | None = None
    """When its deletion was first seen; time.monotonic()."""
    unsettled: bool = False
    """That was a moment ago."""
    offering_since: float | None = None
    """As `ending_since`."""
    offered: float = 0.0
    """For so long it has been offering."""

    @property
    def answer(self) -> Answer | None:
        if self.status is None or self.failures:
            return None
        status = self.status
        return Answer(
            status.role,
            status.term,
            status.heard,
            status.generation,
            status.offering,
            knows=status.known_sessions > 0,
        )


@dataclass(slots=True)
class TunnelState:
    tunnel: TunnelObject
    key: KeyPair | None = None
    config: Configuration | None = None
    """As it is in its Secret."""
    former_config: Configuration | None = None
    """The one before that."""
    config_version: str = ""
    """The Secret's resourceVersion."""
    membership: Membership | None = None
    service: Mapping[str, Any] | None = None
    endpoint: str | None = None
    endpoint_reason: str = ""
    findings: dict[str, Finding] = field(default_factory=dict)
    """By condition: what the reconciler found."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """By the pods' uids."""
    selected: str | None = None
    active: dict[str, Any] | None = None
    """As it stands in the status."""
    term_floor: int = 0
    """The highest term that was used, whether that was answered or not."""
    ceiling: str = ""
    last_handover: dict[str, Any] | None = None
    connected: dict[str, bool] = field(default_factory=dict)
    """By public key, as the active pod last said."""
    programmed: dict[str, int] = field(default_factory=dict)
    """By a Peer's uid: the generation that first served it as it is."""
    confirmed: int = 0
    """The highest generation that an active pod has said it has."""

    def applied(self) -> int:
        """The lowest generation that a living pod has."""
        return min((seen.status.generation for seen in self.seen.values() if seen.status), default=0)
