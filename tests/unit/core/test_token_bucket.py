from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.token_bucket import TokenBucket, TokenBuckets

RATES = st.sampled_from([0.5, 1.0, 20.0, 500.0])
PAUSES = st.lists(st.floats(0, 3), min_size=1, max_size=60)


@given(RATES, st.sampled_from([1.0, 5.0, 50.0]), PAUSES)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: float, pauses: list[float]) -> None:
    bucket, now, taken = TokenBucket(rate, burst), 0.0, 0
    for pause in pauses:
        now += pause
        while bucket.take(now):
            taken += 1
        assert taken <= burst + now * rate + 1e-6
        assert taken > burst + now * rate - burst - 1 - sum(pauses) * rate


@given(RATES, PAUSES)
def test_token_is_there_when_it_was_announced(rate: float, pauses: list[float]) -> None:
    bucket, now = TokenBucket(rate, 2.0), 0.0
    for pause in pauses:
        now += pause
        due = bucket.next_token(now)
        assert due >= now
        assert bucket.take(due + 1e-9)
        now = due + 1e-9


@pytest.mark.parametrize("now", [0.0, 1.0e4, 1.0e6, 1.0e8])
def test_announced_token_is_not_a_rounding_error_away(now: float) -> None:
    """Years of uptime leave few digits for fractions of a second."""
    bucket = TokenBucket(2000.0, 1.0)
    for _ in range(1000):
        assert bucket.take(now)
        now = bucket.next_token(now)


def test_saved_tokens_are_bounded() -> None:
    bucket = TokenBucket(10.0, 3.0)
    assert [bucket.take(1000.0) for _ in range(5)] == [True, True, True, False, False]
    assert not bucket.is_full(1000.0)
    assert bucket.is_full(1000.5)


def test_clock_that_stands_still_gives_no_token() -> None:
    bucket = TokenBucket(10.0, 1.0)
    assert bucket.take(5.0)
    assert not bucket.take(5.0)
    assert not bucket.take(4.0)


def test_each_key_has_its_own_bucket() -> None:
    buckets: TokenBuckets[str] = TokenBuckets(1.0, 1.0, limit=10)
    assert buckets.take("a", 0.0)
    assert not buckets.take("a", 0.0)
    assert buckets.take("b", 0.0)


def test_flood_of_keys_neither_grows_memory_nor_forgets_a_drained_bucket() -> None:
    buckets: TokenBuckets[int] = TokenBuckets(1.0, 1.0, limit=4)
    assert [buckets.take(key, 0.0) for key in range(6)] == [True] * 4 + [False] * 2
    assert not buckets.take(0, 0.5)
    assert buckets.take(7, 1.0), "full buckets need no memory"
    assert len(buckets._buckets) <= 4


def test_flood_of_keys_costs_one_look_at_all_buckets_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    is_full = TokenBucket.is_full

    def counted(bucket: TokenBucket, now: float) -> bool:
        nonlocal looks
        looks += 1
        return is_full(bucket, now)

    monkeypatch.setattr(TokenBucket, "is_full", counted)
    buckets: TokenBuckets[int] = TokenBuckets(1.0, 1.0, limit=1000)
    for key in range(3000):
        buckets.take(key, 0.0)
    assert looks <= 1000
