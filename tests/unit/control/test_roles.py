"""The table of roles: what each event does in each role, and what no sequence of events can do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.control import Refused, Role
from handfast_tunnel.control.roles import (
    ALONE_AFTER,
    FREEZE_LIMIT,
    TABLE,
    Call,
    Event,
    Standing,
    Terms,
    begins_alone,
    describe,
    step,
)

DOCUMENT = Path(__file__).parents[3] / "docs" / "handover.md"
NOW = 1000.0
ACTIVE = Standing(Role.ACTIVE, term=3, heard=3)
STANDBY = Standing(Role.STANDBY, term=3, heard=3)
DRAINING = Standing(Role.DRAINING, term=3, heard=4, thaw_at=NOW + 5, successor="b", last_call="drain x")
THAWED = Standing(Role.ACTIVE, term=3, heard=4, last_call="drain x")
COMMITTED = Standing(Role.COMMITTED, term=4, heard=4)

terms = st.integers(0, 6)
calls = st.builds(
    Call,
    event=st.sampled_from(Event),
    term=terms,
    now=st.floats(NOW, NOW + 30),
    digest=st.sampled_from(["x", "y"]),
    successor=st.sampled_from(["a", "b"]),
    seconds=st.floats(0.1, FREEZE_LIMIT),
    has_export=st.booleans(),
    stamp_floor=st.integers(0, 100),
)


def attempt(standing: Standing, call: Call) -> Standing:
    """A refused call changes nothing."""
    try:
        return step(standing, call)
    except Refused:
        return standing


def after(standing: Standing, event: Event, term: int = 0, **fields: object) -> Standing:
    return step(standing, Call(event, term, NOW, **fields))  # type: ignore[arg-type]


def refused(standing: Standing, event: Event, term: int = 0, **fields: object) -> Refused:
    with pytest.raises(Refused) as caught:
        after(standing, event, term, **fields)
    return caught.value


# --- one handover -----------------------------------------------------------------------------------


def test_a_handover_from_begin_to_end() -> None:
    old = after(ACTIVE, Event.DRAIN, 4, digest="d", successor="b")
    assert old == replace(
        ACTIVE, role=Role.DRAINING, heard=4, thaw_at=NOW + 5, successor="b", last_call="drain d"
    )
    new = after(STANDBY, Event.ACTIVATE, 4, digest="a", has_export=True, stamp_floor=9)
    assert new == replace(STANDBY, role=Role.ACTIVE, term=4, heard=4, last_call="activate a", stamp_floor=9)
    assert after(old, Event.COMMIT, 4) == replace(COMMITTED, last_call="drain d")


def test_without_a_commit_it_thaws_at_its_old_term() -> None:
    assert step(DRAINING, Call(Event.TIME, now=NOW + 4.9)) == DRAINING
    assert step(DRAINING, Call(Event.TIME, now=NOW + 5)) == THAWED
    assert after(DRAINING, Event.THAW, 4) == THAWED


def test_a_commit_that_comes_late_is_heard() -> None:
    assert after(THAWED, Event.COMMIT, 4).role is Role.COMMITTED
    assert refused(ACTIVE, Event.COMMIT, 3).status == 409, "it is itself the active one of that term"


def test_who_hears_of_another_stands_by_and_does_not_begin_again_alone() -> None:
    for standing in (ACTIVE, THAWED, DRAINING):
        displaced = after(standing, Event.HEAR, 5)
        assert displaced.role is Role.STANDBY
        assert displaced.term == displaced.heard == 5
        assert displaced.displaced
        assert not begins_alone(displaced, 1, ALONE_AFTER * 100)
    assert after(DRAINING, Event.HEAR, 4).role is Role.STANDBY, "its own handover's successor is active"
    assert after(ACTIVE, Event.HEAR, 3) == ACTIVE
    assert refused(ACTIVE, Event.HEAR, 2).status == 409


def test_committed_is_for_ever() -> None:
    for event in (Event.ACTIVATE, Event.DRAIN, Event.THAW):
        assert refused(COMMITTED, event, 9).status == 410
    assert after(COMMITTED, Event.COMMIT, 4) == COMMITTED
    assert after(COMMITTED, Event.HEAR, 9).role is Role.COMMITTED


# --- repeated, stale and contradicting calls --------------------------------------------------------


def test_a_repeated_call_gets_the_same_answer() -> None:
    draining = after(ACTIVE, Event.DRAIN, 4, digest="d", successor="b")
    later = Call(Event.DRAIN, 4, NOW + 3, "d", "b")
    assert step(draining, later) == draining, "nor does it freeze for longer"
    active = after(STANDBY, Event.ACTIVATE, 4, digest="a")
    assert after(active, Event.ACTIVATE, 4, digest="a") == active


def test_an_equal_term_with_another_body_is_refused() -> None:
    assert refused(DRAINING, Event.DRAIN, 4, digest="y").status == 409
    active = after(STANDBY, Event.ACTIVATE, 4, digest="a")
    assert refused(active, Event.ACTIVATE, 4, digest="b").status == 409


def test_a_handover_whose_time_is_over_does_not_begin_again() -> None:
    assert refused(THAWED, Event.DRAIN, 4, digest="x").status == 409


@pytest.mark.parametrize("standing", [ACTIVE, STANDBY, DRAINING, THAWED])
@pytest.mark.parametrize("event", [Event.ACTIVATE, Event.DRAIN, Event.COMMIT])
def test_a_stale_operator_moves_nothing(standing: Standing, event: Event) -> None:
    assert refused(standing, event, 2).status == 409


def test_a_second_drain_does_not_freeze_for_longer() -> None:
    again = step(DRAINING, Call(Event.DRAIN, 5, NOW + 3, "z", "c"))
    assert again.thaw_at == DRAINING.thaw_at
    assert again.successor == "c"


def test_only_a_standby_takes_an_export() -> None:
    assert refused(ACTIVE, Event.ACTIVATE, 9, has_export=True).status == 409
    assert refused(DRAINING, Event.ACTIVATE, 9, has_export=True).status == 409
    assert after(ACTIVE, Event.ACTIVATE, 9).term == 9


def test_an_export_is_taken_once() -> None:
    """Its term is the handover's, and an accepted one is never new again, whatever comes between."""
    taken = after(STANDBY, Event.ACTIVATE, 4, digest="a", has_export=True)
    displaced = after(taken, Event.HEAR, 5)
    assert refused(displaced, Event.ACTIVATE, 4, digest="a", has_export=True).status == 409


def test_the_only_replica_begins_alone() -> None:
    assert begins_alone(STANDBY, 1, ALONE_AFTER)
    assert not begins_alone(STANDBY, 1, ALONE_AFTER - 0.1)
    assert not begins_alone(STANDBY, 2, ALONE_AFTER * 10)
    assert not begins_alone(ACTIVE, 1, ALONE_AFTER * 10)
    assert after(STANDBY, Event.ALONE, 3).role is Role.ACTIVE


# --- whatever happens -------------------------------------------------------------------------------


@given(st.lists(calls, max_size=30))
def test_no_history_breaks_a_promise(history: list[Call]) -> None:
    standing = Standing()
    frozen_since = NOW
    for call in sorted(history, key=lambda call: call.now):
        before, standing = standing, attempt(standing, call)
        assert standing.term >= before.term
        assert standing.heard >= max(before.heard, standing.term)
        assert standing.stamp_floor >= before.stamp_floor, "marks merge by max"
        assert (standing.thaw_at is not None) == (standing.role is Role.DRAINING)
        if before.role is Role.COMMITTED:
            assert standing.role is Role.COMMITTED
        if standing.role is Role.DRAINING:
            if before.role is not Role.DRAINING:
                frozen_since = call.now
            assert standing.thaw_at is not None
            assert standing.thaw_at <= frozen_since + FREEZE_LIMIT
            assert step(standing, Call(Event.TIME, now=frozen_since + FREEZE_LIMIT)).role is Role.ACTIVE
        became_active = standing.role is Role.ACTIVE and before.role is Role.STANDBY
        if became_active and call.event is Event.ACTIVATE:
            assert call.term > before.heard
        if standing != before and call.has_export and call.event is Event.ACTIVATE:
            assert before.role is Role.STANDBY


@given(st.lists(calls, max_size=10), calls)
def test_what_was_accepted_may_be_said_again(history: list[Call], call: Call) -> None:
    standing = Standing()
    for each in history:
        standing = attempt(standing, each)
    if call.event not in {Event.ACTIVATE, Event.DRAIN}:
        return
    try:
        accepted = step(standing, call)
    except Refused:
        return
    assert step(accepted, replace(call, now=call.now + 1)) == accepted


@given(st.lists(st.tuples(st.integers(0, 2), calls), max_size=40))
def test_no_term_has_two_owners(history: list[tuple[int, Call]]) -> None:
    """Operators give each call of a term to one pod only; then two active pods are told apart by terms."""
    pods = [Standing(), Standing(), Standing()]
    owner: dict[int, int] = {}
    for number, call in history:
        if call.event is Event.ALONE:
            continue
        if call.event is Event.ACTIVATE and owner.setdefault(call.term, number) != number:
            continue
        pods[number] = attempt(pods[number], call)
        active = [pod.term for pod in pods if pod.role in {Role.ACTIVE, Role.DRAINING}]
        assert len(set(active)) == len(active)


# --- the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("event", Event)
def test_what_the_table_does_not_have_is_refused(role: Role, event: Event) -> None:
    thaw_at = NOW if role is Role.DRAINING else None
    standing = Standing(role, 1, 1, thaw_at=thaw_at)
    rule = TABLE.get((role, event))
    call = Call(event, 2, NOW + 1, "x")
    if rule is None:
        with pytest.raises(Refused):
            step(standing, call)
        return
    assert step(standing, call).role is rule.to
    if rule.terms is Terms.NEW:
        with pytest.raises(Refused):
            step(standing, replace(call, term=1))


def test_the_documents_show_this_table() -> None:
    assert describe() in DOCUMENT.read_text(), (
        "put the output of `python -m handfast_tunnel.control.roles` there"
    )
