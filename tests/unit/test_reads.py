from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters.reads import Reads

MOST = 4


class Queue:
    """What waits at a descriptor, and how much each read asked for."""

    def __init__(self, *items: int) -> None:
        self.items = list(items)
        self.asked: list[int] = []

    def read(self, most: int) -> list[int]:
        self.asked.append(most)
        taken, self.items = self.items[:most], self.items[most:]
        return taken


def test_what_comes_alone_is_handed_on_before_others_are_looked_for() -> None:
    queue = Queue(1)
    batches = Reads(queue.read, MOST).batches()
    assert next(batches) == [1]
    assert queue.asked == [1]
    queue.items = [2]
    assert list(batches) == [[2]]


def test_what_comes_together_is_read_together() -> None:
    queue = Queue(1, 2, 3)
    reads = Reads(queue.read, MOST)
    assert list(reads.batches()) == [[1], [2, 3]]
    queue.items = [4, 5, 6]
    assert list(reads.batches()) == [[4, 5, 6]]
    queue.items = [7]
    assert list(reads.batches()) == [[7]]
    queue.items, queue.asked = [8], []
    assert list(reads.batches()) == [[8]]
    assert queue.asked == [1, MOST], "they come alone again"


def test_nothing_waits() -> None:
    assert list(Reads(Queue().read, MOST).batches()) == []


@given(st.lists(st.integers(0, 20)))
def test_all_come_in_order_in_bounded_batches(arrivals: list[int]) -> None:
    queue = Queue()
    reads, seen = Reads(queue.read, MOST), 0
    for count in (*arrivals, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0):
        queue.items += range(seen + len(queue.items), seen + len(queue.items) + count)
        batches = list(reads.batches())
        assert sum(map(len, batches)) <= MOST + 1
        for batch in batches:
            assert list(batch) == list(range(seen, seen + len(batch)))
            seen += len(batch)
    while queue.items:
        assert list(reads.batches())
