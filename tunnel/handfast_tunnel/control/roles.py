"""Who may answer clients: roles, terms and handovers, as one table.

    standby ──activate──> active ──drain──> draining ──commit──> committed
       ^                    │ ^                │ │
       └── a higher term ───┘ └─ thaw, 5 s ────┘ └── a higher term ──> standby

A pod is in one role, at a term. Only an active one answers clients. One handover has one term, higher than
any that its pods ever heard: the old pod freezes (*drain*), the successor begins (*activate*), and the old
one is told that it never comes back (*commit*). Where that last word does not come, it thaws by itself after
at most five seconds, at its old term; two active pods are then told apart by their terms, and the one that
hears of the other's stands by. No keys cross pods, so nothing unsafe happens meanwhile.

Everything that decides about roles is in `TABLE` and `step`. No clocks, no input, no output: time is an
argument, seconds of CLOCK_BOOTTIME.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, NamedTuple

from .errors import CONFLICT, GONE, Refused

FREEZE_LIMIT: Final = 5.0
"""Seconds that a pod stays frozen for a handover that nobody finishes."""
ALONE_AFTER: Final = 10.0
"""Seconds without a control call after which the only replica activates itself."""
EXPORT_AGE_LIMIT: Final = 30.0


class Role(StrEnum):
    STANDBY = "standby"
    ACTIVE = "active"
    DRAINING = "draining"
    COMMITTED = "committed"


class Event(StrEnum):
    ACTIVATE = "activate"
    DRAIN = "drain"
    COMMIT = "commit"
    THAW = "thaw"
    HEAR = "hear"
    """A call that is no role's named the active pod's term."""
    TIME = "time"
    """Time went by."""
    ALONE = "alone"
    """The only replica, and nobody calls."""


class Terms(StrEnum):
    """How an event's term must stand to what the pod knows."""

    NEW = "new"
    """Above every term ever heard: a new handover, or a new owner."""
    HEARD = "heard"
    """At least the highest ever heard: the handover that goes on."""
    ABOVE_OWN = "above own"
    """Above the pod's own: another pod is the active one."""
    ANY = "any"


class Rule(NamedTuple):
    terms: Terms
    to: Role
    meaning: str


TABLE: Final[Mapping[tuple[Role, Event], Rule]] = {
    (Role.STANDBY, Event.ACTIVATE): Rule(
        Terms.NEW, Role.ACTIVE, "takes an export if there is one, greets or awaits its peers, and answers"
    ),
    (Role.STANDBY, Event.COMMIT): Rule(Terms.HEARD, Role.COMMITTED, "never answers again"),
    (Role.STANDBY, Event.HEAR): Rule(Terms.ANY, Role.STANDBY, "notes the term"),
    (Role.STANDBY, Event.TIME): Rule(Terms.ANY, Role.STANDBY, "waits"),
    (Role.STANDBY, Event.ALONE): Rule(Terms.ANY, Role.ACTIVE, "answers, at the configuration's term"),
    (Role.ACTIVE, Event.ACTIVATE): Rule(Terms.NEW, Role.ACTIVE, "goes on at the new term"),
    (Role.ACTIVE, Event.DRAIN): Rule(Terms.NEW, Role.DRAINING, "freezes, and exports what it knows"),
    (Role.ACTIVE, Event.COMMIT): Rule(Terms.ABOVE_OWN, Role.COMMITTED, "had thawed; never answers again"),
    (Role.ACTIVE, Event.THAW): Rule(Terms.HEARD, Role.ACTIVE, "withdraws its offer"),
    (Role.ACTIVE, Event.HEAR): Rule(
        Terms.ABOVE_OWN, Role.STANDBY, "another pod is active: forgets its sessions and stands by"
    ),
    (Role.ACTIVE, Event.TIME): Rule(Terms.ANY, Role.ACTIVE, "goes on"),
    (Role.DRAINING, Event.ACTIVATE): Rule(Terms.NEW, Role.ACTIVE, "thaws, at the new term"),
    (Role.DRAINING, Event.DRAIN): Rule(
        Terms.NEW, Role.DRAINING, "exports anew; its time does not begin anew"
    ),
    (Role.DRAINING, Event.COMMIT): Rule(
        Terms.HEARD, Role.COMMITTED, "expires its sessions and never answers again"
    ),
    (Role.DRAINING, Event.THAW): Rule(Terms.HEARD, Role.ACTIVE, "thaws, at its old term"),
    (Role.DRAINING, Event.HEAR): Rule(
        Terms.ABOVE_OWN, Role.STANDBY, "another pod is active: forgets its sessions and stands by"
    ),
    (Role.DRAINING, Event.TIME): Rule(Terms.ANY, Role.ACTIVE, "after five seconds: thaws, at its old term"),
    (Role.COMMITTED, Event.COMMIT): Rule(Terms.ANY, Role.COMMITTED, "is so already"),
    (Role.COMMITTED, Event.HEAR): Rule(Terms.ANY, Role.COMMITTED, "notes the term"),
    (Role.COMMITTED, Event.TIME): Rule(Terms.ANY, Role.COMMITTED, "for ever"),
}
"""All that can happen to a pod; what is not here is refused and changes nothing."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a pod must not forget of its role; it is stored before any answer and any packet."""

    role: Role = Role.STANDBY
    term: int = 0
    """At which it is or was active; on a standby that of the active pod, as far as it knows."""
    heard: int = 0
    """The highest term that it was ever told."""
    thaw_at: float | None = None
    """While draining: when it thaws by itself."""
    successor: str = ""
    """While draining: the pod that may have its export."""
    last_call: str = ""
    """Which role call was accepted last, and a digest of its body."""
    stamp_floor: int = 0
    """Other pods may have stamped initiations up to here; nanoseconds, as TAI64N counts."""
    displaced: bool = False
    """It was active until it heard of another: it never activates itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """An event with what it carries."""

    event: Event
    term: int = 0
    now: float = 0.0
    digest: str = ""
    """Of the whole call, so that a repeated one is told from another of the same term."""
    successor: str = ""
    seconds: float = FREEZE_LIMIT
    has_export: bool = False
    stamp_floor: int = 0


def step(standing: Standing, call: Call) -> Standing:
    """The standing after `call`. Raises Refused, and then nothing is changed."""
    if repeats(standing, call):
        return standing
    rule = TABLE.get((standing.role, call.event))
    if rule is None:
        raise _impossible(standing, call)
    if call.event is Event.HEAR and standing.term >= call.term:
        _refuse_lower(standing, call, standing.term)
        return standing
    _check_terms(standing, call, rule.terms)
    if call.has_export and standing.role is not Role.STANDBY:
        raise Refused(CONFLICT, "activate", f"this pod is {standing.role}: only a standby takes an export")
    if call.event is Event.TIME and not _thaws(standing, call.now):
        return standing
    return _after(standing, call, rule)


def repeats(standing: Standing, call: Call) -> bool:
    """Whether the call was accepted before and its effect still holds: then it gets the same answer."""
    holds = {Event.ACTIVATE: Role.ACTIVE, Event.DRAIN: Role.DRAINING}.get(call.event)
    name = f"{call.event} {call.digest}"
    return holds is standing.role and call.term == standing.heard and name == standing.last_call


def _check_terms(standing: Standing, call: Call, terms: Terms) -> None:
    if terms is Terms.NEW:
        _refuse_lower(standing, call, standing.heard)
        if call.term == standing.heard:
            why = f"term {call.term} is used already, for another call or one whose time is over"
            raise Refused(CONFLICT, call.event, why, remedy="choose a higher term")
    elif terms is Terms.HEARD:
        _refuse_lower(standing, call, standing.heard)
    elif terms is Terms.ABOVE_OWN and call.term <= standing.term:
        why = f"this pod is itself {standing.role} at term {standing.term}"
        raise Refused(CONFLICT, call.event, why, remedy="read its status")


def _refuse_lower(standing: Standing, call: Call, least: int) -> None:
    if call.term < least:
        why = f"term {call.term} is over: this pod ({standing.role}) has heard of term {least}"
        raise Refused(CONFLICT, call.event, why, remedy="another operator leads; read the status of all pods")


def _impossible(standing: Standing, call: Call) -> Refused:
    if standing.role is Role.COMMITTED:
        why = f"another pod took over for good, at term {standing.heard}"
        return Refused(GONE, call.event, why, remedy="choose another pod, and delete this one")
    return Refused(CONFLICT, call.event, f"this pod is {standing.role}", remedy="read its status")


def _thaws(standing: Standing, now: float) -> bool:
    return standing.thaw_at is not None and now >= standing.thaw_at


def _after(standing: Standing, call: Call, rule: Rule) -> Standing:
    """The accepted call's effect on what is remembered."""
    own = call.event in {Event.ACTIVATE, Event.HEAR} or rule.to is Role.COMMITTED
    after = replace(
        standing,
        role=rule.to,
        term=max(call.term, standing.term) if own else standing.term,
        heard=max(call.term, standing.heard),
        thaw_at=None,
        successor="",
    )
    if call.event is Event.DRAIN:
        thaw_at = call.now + min(call.seconds, FREEZE_LIMIT)
        if standing.thaw_at is not None:
            thaw_at = min(thaw_at, standing.thaw_at)
        after = replace(after, thaw_at=thaw_at, successor=call.successor)
    if call.event in {Event.ACTIVATE, Event.DRAIN}:
        after = replace(after, last_call=f"{call.event} {call.digest}")
    if standing.role in {Role.ACTIVE, Role.DRAINING} and rule.to is Role.STANDBY:
        after = replace(after, displaced=True)
    if rule.to is Role.ACTIVE and call.event is Event.ACTIVATE:
        floor = max(standing.stamp_floor, call.stamp_floor)
        after = replace(after, displaced=False, stamp_floor=floor)
    return after


def begins_alone(standing: Standing, replicas: int, silence: float) -> bool:
    """Whether a pod that nobody calls activates itself: the only replica, and no other was active for it."""
    alone = replicas == 1 and silence >= ALONE_AFTER
    return alone and standing.role is Role.STANDBY and not standing.displaced


def describe() -> str:
    """The table as Markdown, for the documents."""
    wanted = {
        Terms.NEW: "above every one heard",
        Terms.HEARD: "the highest one heard",
        Terms.ABOVE_OWN: "above its own",
        Terms.ANY: "any",
    }
    rows = [
        f"| {role} | {event} | {wanted[rule.terms]} | {rule.to} | {rule.meaning} |"
        for (role, event), rule in TABLE.items()
    ]
    head = ["| role | event | its term | then | what the pod does |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


if __name__ == "__main__":
    print(describe(), end="")
