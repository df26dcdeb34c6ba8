"""How the next deadline is found without looking at all of them."""

from __future__ import annotations

from math import inf
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.timers import Expiry, Schedule, Timers


def test_earliest_deadline_comes_first() -> None:
    schedule = Schedule()
    owners = [Timers(number, schedule, Random(0)) for number in range(3)]
    for timers, deadline in zip(owners, (30.0, 10.0, 20.0), strict=True):
        timers.confirm_at(deadline)
    assert schedule.next_deadline() == 10
    assert [timers.owner for timers in schedule.due(20)] == [1, 2]
    assert schedule.next_deadline() == 30


def test_cancelled_deadline_costs_one_look() -> None:
    schedule = Schedule()
    timers = Timers("peer", schedule, Random(0))
    timers.handshake_initiated(0)
    timers.handshake_complete()
    (due,) = schedule.due(6)
    assert due.expired(6) == []
    due.rearm()
    assert schedule.next_deadline() == inf


def test_giving_up_leaves_a_deadline_for_what_is_left() -> None:
    timers = Timers("peer", Schedule(), Random(0))
    timers.gave_up(0)
    assert timers.zero_keys == 540
    timers.gave_up(100)
    assert timers.zero_keys == 540, "and does not put it off"


def test_retired_peer_is_not_kept_alive() -> None:
    schedule = Schedule()
    timers = Timers("peer", schedule, Random(0))
    timers.set_persistent_interval(25, 0)
    timers.retire()
    assert timers.owner is None
    assert [due.expired(100) for due in schedule.due(100)] == [[]]


EVENTS = ("data_sent", "data_received", "any_authenticated_packet_sent", "any_authenticated_packet_received",
          "handshake_initiated", "session_derived", "keepalive_expired")  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.floats(0, 20)), max_size=60), st.sampled_from([0, 25]))
def test_no_deadline_is_missed_and_none_comes_early(history: list[tuple[str, float]], interval: int) -> None:
    """Against looking at every deadline at every step."""
    schedule = Schedule()
    timers = Timers("peer", schedule, Random(1))
    timers.set_persistent_interval(interval, 0)
    now = 0.0
    for event, pause in history:
        now += pause
        expected = [expiry for expiry in Expiry if getattr(timers, expiry.value) <= now]
        assert bool(expected) <= (schedule.next_deadline() <= now)
        served = [expiry for due in schedule.due(now) for expiry in due.expired(now)]
        assert served == expected
        timers.rearm()
        getattr(timers, event)(now)
        earliest = min(getattr(timers, expiry.value) for expiry in Expiry)
        assert schedule.next_deadline() <= earliest


def test_a_busy_session_does_not_fill_the_schedule() -> None:
    schedule = Schedule()
    timers = Timers("peer", schedule, Random(1))
    timers.set_persistent_interval(25, 0)
    for tick in range(20_000):
        now = tick / 100
        timers.data_sent(now)
        timers.any_authenticated_packet_sent(now)
        timers.any_authenticated_packet_received(now)
        timers.data_received(now)
        for due in schedule.due(now):
            due.expired(now)
            due.rearm()
    assert len(schedule._heap) < 10
