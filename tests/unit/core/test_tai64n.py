from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.tai64n import STAMP_LENGTH, WHITENING, next_stamp, pack_stamp

UNIX = st.floats(1.0e9, 4.0e9)


def test_epoch_is_that_of_wireguard_go() -> None:
    assert pack_stamp(0) == bytes.fromhex("400000000000000a 00000000")
    assert pack_stamp(1_700_000_000_123_456_789) == bytes.fromhex("400000006553f10a 075bcd15")


@given(UNIX)
def test_first_stamp_is_now_in_steps_of_16_8_ms(wall: float) -> None:
    stamp = next_stamp(wall, 0)
    assert 0 <= wall * 1e9 - stamp < WHITENING + 1000
    assert stamp % 10**9 % WHITENING == 0


@given(st.lists(st.floats(-7200, 7200), min_size=2, max_size=30))
def test_stamps_rise_strictly_even_if_the_clock_runs_back(steps: list[float]) -> None:
    wall, last, stamps = 1.7e9, 0, []
    for step in steps:
        wall += step
        last = next_stamp(wall, last)
        stamps.append(pack_stamp(last))
    assert all(earlier < later for earlier, later in pairwise(stamps))


@given(st.integers(0, 2**62), st.integers(0, 2**62))
def test_lexical_order_on_the_wire_is_the_order_in_time(a: int, b: int) -> None:
    assert (pack_stamp(a) < pack_stamp(b)) == (a < b)
    assert len(pack_stamp(a)) == STAMP_LENGTH


def test_clock_behind_its_predecessor_moves_by_one_step() -> None:
    last = next_stamp(1.7e9, 0)
    assert next_stamp(1.7e9 - 3600, last) == last + WHITENING
