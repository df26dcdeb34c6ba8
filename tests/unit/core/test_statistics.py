from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.core.statistics import LATENCY_BUCKETS, Histogram, Statistics


@given(st.lists(st.floats(0, 1000)))
def test_histogram_counts_what_is_at_most_its_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    running = 0
    for bound, count in zip(LATENCY_BUCKETS, histogram.counts, strict=False):
        running += count
        assert running == sum(value <= bound for value in values)
    assert sum(histogram.counts) == len(values)
    assert histogram.sum == pytest.approx(sum(values))


def test_each_method_has_its_own_histogram() -> None:
    statistics = Statistics()
    statistics.observe_reconnect("announced", 0.1)
    statistics.observe_reconnect("waited", 15.0)
    statistics.observe_reconnect("waited", 16.0)
    statistics.observe_outage("resumed", 0.01)
    assert {m: sum(h.counts) for m, h in statistics.reconnect_latency.items()} == {
        "announced": 1,
        "waited": 2,
    }
    assert list(statistics.outage) == ["resumed"]
