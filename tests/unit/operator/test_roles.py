"""Who becomes active, and how a handover goes on wherever it was left."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from handfast_operator.roles import (
    FAILURES,
    HANDOVER,
    Activate,
    Commit,
    Flip,
    Handover,
    PodView,
    Stage,
    Tell,
    Thaw,
    View,
    pending,
    plan,
)
from handfast_tunnel.control import Role

from .objects import pod


def view(*pods: PodView, selected: str | None = None, **more: Any) -> View:
    options: dict[str, Any] = {"has_service": True, "last_active": None, "term": 3} | more
    return View(pods, selected, **options)


def test_the_first_pod_that_is_ready_becomes_active() -> None:
    starting, standby = pod("a", Role.STANDBY, ready=False), pod("b", Role.STANDBY)
    assert plan(view(starting)) == []
    assert plan(view(starting, standby)) == [Activate(standby, 4)]


def test_a_term_is_above_all_that_was_ever_heard() -> None:
    heard = pod("a", Role.STANDBY, heard=41)
    assert plan(view(heard)) == [Activate(heard, 42)]


def test_the_service_follows_the_active_pod() -> None:
    active = pod("a", Role.ACTIVE, 4)
    assert plan(view(active)) == [Flip(active)]
    assert plan(view(active, selected="a")) == []
    assert plan(view(active, has_service=False)) == []


@pytest.mark.parametrize(
    "leaves", [{"terminating": True}, {"offering": True}], ids=["terminating", "offering"]
)
def test_a_pod_that_leaves_hands_over(leaves: dict[str, Any]) -> None:
    old, new = pod("old", Role.ACTIVE, 4, **leaves), pod("new", Role.STANDBY)
    assert plan(view(old, new, selected="old")) == [Handover(old, new, 5)]
    assert plan(view(old, new, selected="old", handover=False)) == []
    assert plan(view(old, selected="old")) == []


def test_a_pod_that_is_asked_to_hands_over_once() -> None:
    old, new = pod("old", Role.ACTIVE, 4), pod("new", Role.STANDBY)
    asked = view(old, new, selected="old", hand_over_from=4)
    assert plan(asked) == [Handover(old, new, 5)]
    assert plan(replace(asked, handover=False)) == []
    assert plan(replace(asked, pods=(old,))) == []
    # Whoever is active later was not asked, be it the same pod.
    back = pod("old", Role.ACTIVE, 6)
    assert plan(view(back, new, selected="old", hand_over_from=4)) == []


def test_one_that_was_succeeded_is_not_believed_while_the_present_one_misses_a_call() -> None:
    """A partition ends, and the operator hears the former active pod first."""
    former, present = pod("former", Role.ACTIVE, 4), pod("present", failures=1)
    seen = view(former, present, selected="present", last_active="present", last_term=5, term=5)
    assert plan(seen) == [Tell(former, 5)]


def test_one_that_was_succeeded_is_active_again_if_the_present_one_is_gone() -> None:
    former, lost = pod("former", Role.ACTIVE, 4), pod("present", failures=FAILURES, lost=True)
    for pods in ((former,), (former, lost)):
        assert plan(view(*pods, last_active="present", last_term=5, term=5)) == [Activate(former, 6)]


def test_a_successor_is_of_the_newest_template_then_elsewhere() -> None:
    old = pod("old", Role.ACTIVE, 4, terminating=True, template="one", node="n1", created="1")
    beside = pod("beside", Role.STANDBY, template="two", node="n1", created="3")
    outdated = pod("outdated", Role.STANDBY, template="one", node="n2", created="2")
    elsewhere = pod("elsewhere", Role.STANDBY, template="two", node="n2", created="3")
    assert plan(view(old, beside, outdated, selected="old")) == [Handover(old, beside, 5)]
    assert plan(view(old, beside, outdated, elsewhere, selected="old")) == [Handover(old, elsewhere, 5)]


def test_where_nothing_is_handed_over_one_that_knows_of_the_sessions_comes_first() -> None:
    knows = pod("knows", Role.STANDBY, template="one", node="n1", created="2", knows=True)
    newer = pod("newer", Role.STANDBY, template="two", node="n2", created="3")
    assert plan(view(knows, newer)) == [Activate(knows, 4)]
    old = pod("old", Role.ACTIVE, 4, terminating=True, template="one", node="n1", created="1")
    assert plan(view(old, knows, newer, selected="old")) == [Handover(old, newer, 5)]


def test_pods_that_end_or_have_committed_succeed_nobody() -> None:
    old = pod("old", Role.ACTIVE, 4, terminating=True)
    unfit = [
        pod("ends", Role.STANDBY, terminating=True),
        pod("committed", Role.COMMITTED, 2),
        pod("starts", Role.STANDBY, ready=False),
        pod("silent"),
    ]
    assert plan(view(old, *unfit, selected="old")) == []


def at(stage: Stage) -> View:
    """What the next leader sees, if the one before ended in this state."""
    old = pod("old", stage.old, 4, heard=5, terminating=True)
    new = pod("new", stage.new, 5 if stage.new is Role.ACTIVE else 0)
    return view(old, new, selected="old" if stage.service == "old" else "new", last_active="old", term=5)


@pytest.mark.parametrize("stage", HANDOVER, ids=lambda stage: stage.name)
def test_a_handover_that_was_left_goes_on(stage: Stage) -> None:
    """As far as the pods do what they are told, it ends with one active pod, to which the Service leads."""
    seen = at(stage)
    for _ in range(4):
        if not (actions := plan(seen)):
            break
        for action in actions:
            seen = after(seen, action)
    roles = {each.name: each.role for each in seen.pods}
    assert roles["new"] is Role.ACTIVE
    assert roles["old"] in {Role.COMMITTED, Role.STANDBY}
    assert seen.selected == "new"
    assert plan(seen) == []


@pytest.mark.parametrize("stage", HANDOVER[1:-1], ids=lambda stage: stage.name)
def test_a_handover_that_was_left_until_the_old_pod_thawed(stage: Stage) -> None:
    seen = at(stage)
    thawed = pod("old", Role.ACTIVE, 4, heard=5, terminating=True)
    seen = view(thawed, seen.pods[1], selected=seen.selected, last_active="old", term=5)
    for _ in range(4):
        for action in plan(seen):
            seen = after(seen, action)
    assert [each.role for each in seen.pods if each.role is Role.ACTIVE] == [Role.ACTIVE]
    assert seen.selected == "new"


def after(seen: View, action: Any) -> View:
    """The world after an action that succeeded."""

    def changed(name: str, role: Role, term: int) -> list[PodView]:
        return [
            pod(each.name, role, term, terminating=each.terminating) if each.name == name else each
            for each in seen.pods
        ]

    pods, selected = list(seen.pods), seen.selected
    match action:
        case Handover(old, new, term):
            pods = changed(new.name, Role.ACTIVE, term)
            seen = View(pods, new.name, seen.has_service, seen.last_active, term)
            pods, selected = changed(old.name, Role.COMMITTED, term), new.name
        case Activate(target, term):
            pods = changed(target.name, Role.ACTIVE, term)
        case Commit(target, term):
            pods = changed(target.name, Role.COMMITTED, term)
        case Tell(target, term):
            pods = changed(target.name, Role.STANDBY, term)
        case Thaw(target, term):
            pods = changed(target.name, Role.ACTIVE, term - 1)
        case Flip(target):
            selected = target.name
    return View(pods, selected, seen.has_service, seen.last_active, seen.term)


def test_each_call_of_the_table_leads_to_its_next_row() -> None:
    changes = {
        "drain": ("old", Role.DRAINING),
        "activate": ("new", Role.ACTIVE),
        "flip": ("service", "new"),
        "commit": ("old", Role.COMMITTED),
    }
    for stage, following in itertools.pairwise(HANDOVER):
        assert stage.call is not None
        what, becomes = changes[stage.call]
        state = {"old": stage.old, "new": stage.new, "service": stage.service, what: becomes}
        assert state == {"old": following.old, "new": following.new, "service": following.service}
    assert HANDOVER[-1].call is None


def test_a_frozen_pod_that_stays_is_thawed() -> None:
    frozen, new = pod("old", Role.DRAINING, 4, heard=5), pod("new", Role.STANDBY)
    assert plan(view(frozen, new, selected="old")) == [Thaw(frozen, 6)]


def test_of_two_active_pods_the_higher_term_is_right() -> None:
    """After a partition: the one that stays behind stands by, and can serve again later."""
    stale, right = pod("stale", Role.ACTIVE, 4), pod("right", Role.ACTIVE, 7)
    assert plan(view(stale, right, selected="right")) == [Tell(stale, 7)]
    assert plan(view(stale, right, selected="stale")) == [Flip(right), Tell(stale, 7)]


def test_two_active_pods_of_one_term_are_told_apart() -> None:
    both = [pod("a", Role.ACTIVE, 4), pod("b", Role.ACTIVE, 4)]
    (action,) = plan(view(*both, selected="a"))
    assert isinstance(action, Activate)
    assert action.term == 5


def silent(**more: Any) -> PodView:
    return pod("old", None, ready=False, **more)


def test_a_silent_pod_keeps_its_place_while_it_may_be_alive() -> None:
    """A container that restarts resumes its sessions: nobody else may take them."""
    standby = pod("new", Role.STANDBY)
    waiting = [
        silent(failures=1),
        silent(failures=50),
        silent(failures=FAILURES - 1, lost=True),
        silent(failures=FAILURES - 1, terminating=True),
    ]
    for old in waiting:
        assert plan(view(old, standby, selected="old", last_active="old")) == []


def test_a_lost_pod_is_replaced_at_a_higher_term() -> None:
    standby = pod("new", Role.STANDBY, heard=9)
    for old in (silent(failures=FAILURES, lost=True), silent(failures=FAILURES, terminating=True)):
        assert plan(view(old, standby, selected="old", last_active="old")) == [Activate(standby, 10)]
    assert plan(view(standby, selected="old", last_active="old")) == [Activate(standby, 10)]


def test_a_silent_pod_that_was_never_active_holds_nobody_up() -> None:
    standby = pod("new", Role.STANDBY)
    assert plan(view(silent(failures=1), standby)) == [Activate(standby, 4)]


def test_an_end_that_proxies_are_busy_with_is_pending() -> None:
    """An operator that ends itself waits for it; without a successor there is nothing to wait for."""
    old, new = pod("old", Role.ACTIVE, 4, terminating=True, unsettled=True), pod("new", Role.STANDBY)
    assert plan(view(old, new, selected="old")) == []
    assert pending(view(old, new, selected="old"))
    assert not pending(view(old, selected="old"))
    assert not pending(view(pod("old", Role.ACTIVE, 4), new, selected="old"))
