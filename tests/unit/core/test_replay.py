from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.constants import REPLAY_WINDOW
from handfast_tunnel.core.replay import ReplayWindow

from .vectors import wireguard_go


class Model:
    """What a replay window is for, without a thought for memory."""

    def __init__(self, highest: int = -1) -> None:
        self.highest = highest
        self.seen: set[int] = set()
        self.floor = highest

    def accept(self, counter: int) -> bool:
        if counter <= self.floor or counter < self.highest - REPLAY_WINDOW or counter in self.seen:
            return False
        self.seen.add(counter)
        self.highest = max(self.highest, counter)
        return True


@st.composite
def walks(draw: st.DrawFn) -> list[int]:
    """Counters near the highest so far, around both edges of the window, and far ahead."""
    highest, walk = 0, []
    for _ in range(draw(st.integers(1, 40))):
        step = draw(
            st.integers(-3, 3)
            | st.integers(-REPLAY_WINDOW - 2, -REPLAY_WINDOW + 2)
            | st.integers(REPLAY_WINDOW - 2, REPLAY_WINDOW + 2)
            | st.sampled_from([1, 1, 1, 64, 2**40])
        )
        walk.append(max(0, highest + step))
        highest = max(highest, walk[-1])
    return walk


@given(walks())
def test_each_counter_is_accepted_once_and_only_within_the_window(counters: list[int]) -> None:
    window, model = ReplayWindow(), Model()
    for counter in counters:
        assert window.accept(counter) == model.accept(counter)
        assert window.highest == model.highest


@given(
    st.lists(walks() | st.builds(lambda a, n: list(range(a, a + n)), st.integers(0, 300), st.integers(1, 70)))
)
def test_batch_marks_what_single_counters_would(batches: list[list[int]]) -> None:
    window, model = ReplayWindow(), Model()
    for batch in batches:
        expected = [model.accept(counter) for counter in batch]
        assert window.accept_batch(batch) == (None if all(expected) else expected)
        assert window.highest == model.highest


@given(st.integers(0, 2**40), walks())
def test_after_a_resume_everything_up_to_the_stored_highest_counts_as_seen(
    highest: int, counters: list[int]
) -> None:
    window, model = ReplayWindow(highest), Model(highest)
    for counter in counters:
        shifted = max(0, highest - 20 + counter)
        assert window.accept(shifted) == model.accept(shifted)


@pytest.mark.parametrize("vector", wireguard_go("replay"))
def test_verdicts_are_those_of_wireguard_go(vector: dict[str, Any]) -> None:
    window = ReplayWindow()
    assert [window.accept(counter) for counter in vector["counters"]] == vector["accepted"]


def test_window_holds_8128_packets() -> None:
    window = ReplayWindow()
    assert window.accept(10_000)
    assert window.accept(10_000 - 8128)
    assert not window.accept(10_000 - 8129)


def test_jump_past_the_window_forgets_all_of_it() -> None:
    window = ReplayWindow()
    assert window.accept_batch([0, 1, 2]) is None
    assert window.accept(3 + 2 * REPLAY_WINDOW)
    assert not window.accept(2)
    assert window.accept(4 + REPLAY_WINDOW)
