from __future__ import annotations

from handfast_tunnel.continuity.storage import KeypairFacts, Memory, PlainMemory

KEY = b"p" * 32
FACTS = KeypairFacts(b"s" * 32, b"r" * 32, 1, 2, True, 0.0, 120.0)


def test_new_numbers_say_that_nothing_happened_yet() -> None:
    memory: Memory = PlainMemory()
    numbers, marks = memory.keypair_numbers(KEY, FACTS, b""), memory.peer_marks(KEY)
    assert (numbers.ceiling, numbers.highest_received) == (0, -1)
    assert (marks.outbound_stamp, marks.inbound_stamp, marks.inbound_exact) == (0, b"", False)


def test_erased_records_are_as_new() -> None:
    memory = PlainMemory()
    numbers, marks = memory.keypair_numbers(KEY, FACTS, b""), memory.peer_marks(KEY)
    numbers.ceiling, numbers.highest_received = 5, 6
    marks.outbound_stamp, marks.inbound_stamp, marks.inbound_exact = 7, b"8", True
    numbers.erase()
    marks.erase()
    assert (numbers.ceiling, numbers.highest_received) == (0, -1)
    assert (marks.outbound_stamp, marks.inbound_stamp, marks.inbound_exact) == (0, b"", False)


def test_each_session_has_numbers_of_its_own() -> None:
    memory = PlainMemory()
    assert memory.keypair_numbers(KEY, FACTS, b"") is not memory.keypair_numbers(KEY, FACTS, b"")
