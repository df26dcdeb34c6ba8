"""Who is active, and what to do next: a pure function from what was observed to the next calls.

The operator keeps nothing in mind. Whichever call was its last, the next leader sees from the pods' roles and
from the
Service where a handover stands, finds the row in the table, and goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from handfast_tunnel.control import Role

Call = Literal["drain", "activate", "flip", "commit"]

FAILURES: Final = 3
"""Probes of the active pod in a row, one a second, before it may count as lost."""
FREEZE_SECONDS: Final = 5
"""How long the old pod stays frozen without a commit, at most."""
VAIN_SECONDS: Final = 1.0
"""An offer is not in vain before: the pod's deletion, or another pod, may only not have been heard of."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One state of a handover: what all three say, the call that goes on, and what happens without one."""

    name: str
    old: Role
    new: Role
    service: Literal["old", "new"]
    call: Call | None
    left_alone: str


HANDOVER: Final = (
    Stage("serving", Role.ACTIVE, Role.STANDBY, "old", "drain", "The old pod goes on serving."),
    Stage(
        "frozen",
        Role.DRAINING,
        Role.STANDBY,
        "old",
        "activate",
        "The old pod thaws by itself after 5 s, at its old term, and goes on serving.",
    ),
    Stage(
        "activated",
        Role.DRAINING,
        Role.ACTIVE,
        "old",
        "flip",
        "The old pod thaws after 5 s and serves those who reach it; the next leader moves the Service.",
    ),
    Stage(
        "flipped",
        Role.DRAINING,
        Role.ACTIVE,
        "new",
        "commit",
        "The new pod serves. The old one thaws after 5 s, and nobody reaches it; the next leader commits.",
    ),
    Stage(
        "committed",
        Role.COMMITTED,
        Role.ACTIVE,
        "new",
        None,
        "The new pod serves; the old one never answers again.",
    ),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a pod said about itself."""

    role: Role
    term: int
    heard: int = 0
    """The highest term that it was ever told."""
    generation: int = 0
    offering: bool = False
    knows: bool = False
    """It was told of sessions that are not its own, and can answer for them."""


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of a Tunnel, as the API server and it itself have it."""

    name: str
    uid: str
    created: str = ""
    node: str = ""
    ready: bool = False
    terminating: bool = False
    template: str = ""
    """The hash of the template that it was made of."""
    answer: Answer | None = None
    failures: int = 0
    """Calls in a row that it has not answered."""
    lost: bool = False
    """Its node is not ready."""
    unsettled: bool = False
    """Its end was seen a moment ago, and proxies are busy with that."""
    after_app: bool = False
    """Its app uses the tunnel until it has exited; the tunnel offers itself then."""
    offered: float = 0.0
    """For so many seconds it has been offering."""
    stays: bool = False
    """Its container is replaced in its place: sessions stay with it, whatever it offers."""

    @property
    def offering(self) -> bool:
        return self.answer is not None and self.answer.offering

    @property
    def leaving(self) -> bool:
        if self.stays:
            return False
        return self.terminating and self.offering if self.after_app else self.terminating or self.offering

    @property
    def role(self) -> Role | None:
        return self.answer.role if self.answer else None

    @property
    def term(self) -> int:
        return self.answer.term if self.answer else 0

    @property
    def heard(self) -> int:
        return self.answer.heard if self.answer else 0

    @property
    def knows(self) -> bool:
        return self.answer is not None and self.answer.knows


@dataclass(frozen=True, slots=True)
class View:
    """All that decides who is active."""

    pods: Sequence[PodView]
    selected: str | None
    """The pod that the Service leads to, if there is a Service and it leads anywhere."""
    has_service: bool
    last_active: str | None
    """The pod that was last known to be active."""
    term: int
    """The highest that the Lease or the Tunnel's status tells of."""
    last_term: int = 0
    """At which `last_active` was active."""
    handover: bool = True
    """Whether sessions may move while their pod could go on."""
    hand_over_from: int = 0
    """Somebody asks the pod that is active at this term to hand over."""

    @property
    def next_term(self) -> int:
        return max([self.term, *(max(pod.term, pod.heard) for pod in self.pods)]) + 1


@dataclass(frozen=True, slots=True)
class Handover:
    """From drain to commit."""

    old: PodView
    new: PodView
    term: int


@dataclass(frozen=True, slots=True)
class Activate:
    """Without an export: there is nobody to ask for one."""

    pod: PodView
    term: int


@dataclass(frozen=True, slots=True)
class Flip:
    pod: PodView


@dataclass(frozen=True, slots=True)
class Commit:
    """It never answers again."""

    pod: PodView
    term: int


@dataclass(frozen=True, slots=True)
class Tell:
    """It hears of the active pod's term, and stands by."""

    pod: PodView
    term: int


@dataclass(frozen=True, slots=True)
class Thaw:
    pod: PodView
    term: int


Action = Handover | Activate | Flip | Commit | Tell | Thaw


def plan(view: View) -> list[Action]:
    """The next actions, in order; after them, observe again. Nothing to do is the usual answer."""
    winner = active(view.pods)
    if winner is None:
        return _without_active(view)
    if winner.term < view.last_term:
        return [_of_one_that_was_succeeded(winner, view)]
    if any(pod is not winner and pod.role is Role.ACTIVE and pod.term == winner.term for pod in view.pods):
        return [Activate(winner, view.next_term)]
    repairs: list[Action] = []
    if view.has_service and view.selected != winner.name:
        repairs.append(Flip(winner))
    repairs += [
        (Commit if pod.leaving else Tell)(pod, winner.term)
        for pod in view.pods
        if pod is not winner and pod.role in {Role.ACTIVE, Role.DRAINING} and pod.term < winner.term
    ]
    return repairs or _of_one_that_offers(winner, view)


def pending(view: View) -> bool:
    """Is there anything to do, now or in a moment? An app that ends will leave its tunnel to the next pod."""
    winner = active(view.pods)
    if winner is not None and winner.after_app and winner.terminating and len(view.pods) > 1:
        return True
    return bool(plan(replace(view, pods=[replace(pod, unsettled=False) for pod in view.pods])))


def active(pods: Sequence[PodView]) -> PodView | None:
    """The one with the highest term is right."""
    return max((pod for pod in pods if pod.role is Role.ACTIVE), key=lambda pod: pod.term, default=None)


def standbys(pods: Sequence[PodView]) -> list[PodView]:
    return [pod for pod in pods if pod.role is Role.STANDBY and pod.ready and not pod.terminating]


def successor(pods: Sequence[PodView], old: PodView | None) -> PodView | None:
    """Ready, not leaving, of the newest template, better on another node.

    Where there is no `old` one to hand anything over, better one that knows of its sessions: a pod that came
    later could be told of them by nobody, and its clients would wait for their own timers.
    """
    newest = max(pods, key=lambda pod: (pod.created, pod.name), default=None)

    def rank(pod: PodView) -> tuple[bool, bool, bool, str]:
        return (
            old is None and pod.knows,
            newest is not None and pod.template == newest.template,
            old is None or pod.node != old.node,
            pod.name,
        )

    fit = [pod for pod in standbys(pods) if pod is not old and not pod.leaving]
    return max(fit, key=rank, default=None)


def _of_one_that_offers(pod: PodView, view: View) -> list[Action]:
    if _offers_in_vain(pod, view.pods):
        return [Thaw(pod, pod.heard)]
    new = successor(view.pods, pod)
    ends = pod.leaving and not pod.unsettled
    if view.handover and new is not None and (ends or pod.term == view.hand_over_from):
        return [Handover(pod, new, view.next_term)]
    return []


def _offers_in_vain(pod: PodView, pods: Sequence[PodView]) -> bool:
    """Nobody will follow it, so that its end need not wait: its pod goes on or has done what it was for, as a
    Job's has, or the next pod begins only when this one is gone."""
    if not pod.offering or not (pod.stays or pod.after_app):
        return False
    if pod.stays:
        return True
    alone = all(other is pod or other.terminating or other.leaving for other in pods)
    return pod.offered >= VAIN_SECONDS and (not pod.terminating or alone)


def _without_active(view: View) -> list[Action]:
    frozen = max(
        (pod for pod in view.pods if pod.role is Role.DRAINING), key=lambda pod: pod.term, default=None
    )
    new = successor(view.pods, frozen)
    if frozen is not None:
        # Somebody's handover ended between drain and activate.
        if frozen.leaving and new is not None:
            return [Handover(frozen, new, view.next_term)]
        return [Thaw(frozen, view.next_term)]
    if any(_may_be_active(pod, view) for pod in view.pods):
        return []
    return [Activate(new, view.next_term)] if new is not None else []


def _of_one_that_was_succeeded(pod: PodView, view: View) -> Action:
    """It answers, and the present one does not: clients are its own again only if that one is gone."""
    if any(_may_be_active(other, view) for other in view.pods):
        return Tell(pod, view.last_term)
    return Activate(pod, view.next_term)


def _may_be_active(pod: PodView, view: View) -> bool:
    """A silent pod that was active may still be; a container that restarts in its pod resumes its
    sessions."""
    if pod.answer is not None or pod.name != view.last_active:
        return False
    return pod.failures < FAILURES or not (pod.lost or pod.terminating)
