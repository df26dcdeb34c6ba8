from __future__ import annotations

import logging

import pytest

from handfast_tunnel.continuity.layout import PEER_WORDS, Header, KeypairSlot, PeerSlot
from handfast_tunnel.continuity.slots import SlotMarks
from handfast_tunnel.continuity.state_memory import StateMemory
from handfast_tunnel.continuity.storage import KeypairFacts, KeypairNumbers, Position
from handfast_tunnel.core.endpoint import Endpoint

from .words import PEERS_PER_EXTENT, Crash, StateDouble, Steps

KEY, OTHER = b"p" * 32, b"q" * 32
CONTEXT = b"interface and psk"
SEND_KEY, RECEIVE_KEY = bytes(range(1, 33)), bytes(range(101, 133))
FACTS = KeypairFacts(SEND_KEY, RECEIVE_KEY, 0xDEADBEEF, 0xCAFEBABE, True, 1234.5, 97.25)
ENDPOINTS = [
    Endpoint("192.0.2.1", 51820),
    Endpoint("192.0.2.1", 1, local=b"\x0a\0\0\1", interface=3),
    Endpoint("2001:db8::1", 65535, local=b"\xfd" + bytes(15), interface=2),
    Endpoint("fe80::1", 5, scope=7),
]


def begin() -> tuple[StateDouble, StateMemory]:
    state = StateDouble(Steps())
    return state, reopen(state)


def reopen(state: StateDouble) -> StateMemory:
    """As the next process sees it."""
    state.owner = None
    memory = state.open(object())
    assert memory is not None
    return memory


def session(
    memory: StateMemory, key: bytes = KEY, position: Position = Position.CURRENT, facts: KeypairFacts = FACTS
) -> KeypairNumbers:
    memory.peer_marks(key)
    numbers = memory.keypair_numbers(key, facts, CONTEXT)
    numbers.place(position)
    return numbers


def stored_words(state: StateDouble) -> set[int]:
    return {value for words in state.extents for value in words.values}


def holds_keys(state: StateDouble) -> bool:
    secrets = {int.from_bytes(SEND_KEY[:8], "little"), int.from_bytes(RECEIVE_KEY[8:16], "little")}
    return bool(secrets & stored_words(state))


def test_a_session_is_recalled_as_it_was() -> None:
    state, memory = begin()
    numbers = session(memory)
    numbers.ceiling, numbers.highest_received, numbers.heard = 2**63, 2**62, True
    [recalled] = reopen(state).recall(KEY, CONTEXT)
    assert recalled.position is Position.CURRENT
    assert recalled.facts == FACTS
    kept = recalled.numbers
    assert (kept.ceiling, kept.highest_received, kept.heard) == (2**63, 2**62, True)


def test_new_numbers_say_that_nothing_happened_yet() -> None:
    numbers = session(begin()[1])
    assert (numbers.ceiling, numbers.highest_received, numbers.heard) == (0, -1, False)


def test_marks_are_kept() -> None:
    state, memory = begin()
    marks = memory.peer_marks(KEY)
    assert (marks.outbound_stamp, marks.inbound_stamp, marks.inbound_exact) == (0, b"", False)
    assert (marks.answered_stamp, marks.configured_endpoint) == (0, 0)
    assert (marks.endpoint, marks.last_sent, marks.last_received) == (None, 0.0, 0.0)
    marks.outbound_stamp, marks.inbound_stamp, marks.inbound_exact = 2**60, b"123456789012", True
    marks.answered_stamp, marks.configured_endpoint = 2**59, 2**64 - 1
    marks.last_sent, marks.last_received, marks.data_sent, marks.data_received = 5.25, 6.5, 5.5, 6.25
    memory = reopen(state)
    kept = memory.peer_marks(KEY)
    assert (kept.outbound_stamp, kept.inbound_stamp, kept.inbound_exact) == (2**60, b"123456789012", True)
    assert (kept.answered_stamp, kept.configured_endpoint) == (2**59, 2**64 - 1)
    assert (kept.last_sent, kept.last_received, memory.last_alive) == (5.25, 6.5, 6.5)
    assert (kept.data_sent, kept.data_received) == (5.5, 6.25)


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_endpoints_are_kept(endpoint: Endpoint) -> None:
    state, memory = begin()
    memory.peer_marks(KEY).endpoint = endpoint
    assert reopen(state).peer_marks(KEY).endpoint == endpoint
    reopen(state).peer_marks(KEY).endpoint = None
    assert reopen(state).peer_marks(KEY).endpoint is None


@pytest.mark.parametrize("context", [b"another psk", b"", CONTEXT + b"!"])
def test_under_another_key_or_psk_a_session_is_refused_and_zeroed(context: bytes) -> None:
    state, memory = begin()
    session(memory)
    assert holds_keys(state)
    assert reopen(state).recall(KEY, context) == []
    assert not holds_keys(state)
    assert reopen(state).recall(KEY, CONTEXT) == []


def test_a_session_is_its_peers_only() -> None:
    """A slot copied to another peer is worth nothing there."""
    state, memory = begin()
    session(memory)
    memory.peer_marks(OTHER)
    values = state.extents[0].values
    slots = {memory.peer_marks(key)._base: key for key in (KEY, OTHER)}  # type: ignore[attr-defined]
    source, target = sorted(slots, key=lambda base: slots[base] != KEY)
    length = PEER_WORDS - PeerSlot.KEYPAIRS
    start = source + PeerSlot.KEYPAIRS
    values[target + PeerSlot.KEYPAIRS : target + PEER_WORDS] = values[start : start + length]
    assert reopen(state).recall(OTHER, CONTEXT) == []


def test_every_flipped_bit_of_a_constant_part_is_noticed() -> None:
    state, memory = begin()
    session(memory)
    values = state.extents[0].values
    base = next(base for base in (0, PEER_WORDS) if values[base]) + PeerSlot.KEYPAIRS
    whole = values.copy()
    for offset in range(KeypairSlot.SEND_KEY, KeypairSlot.CHECKSUM + 1):
        for bit in range(64):
            values[base + offset] ^= 1 << bit
            assert reopen(state).recall(KEY, CONTEXT) == [], (offset, bit)
            values[:] = whole


def test_every_flipped_bit_of_a_peers_key_hides_the_peer() -> None:
    state, memory = begin()
    session(memory)
    values = state.extents[0].values
    base = next(base for base in (0, PEER_WORDS) if values[base])
    whole = values.copy()
    for offset in range(PeerSlot.PUBLIC_KEY, PeerSlot.CHECKSUM + 1):
        for bit in range(64):
            values[base + offset] ^= 1 << bit
            assert not reopen(state).knows(KEY), (offset, bit)
            values[:] = whole


@pytest.mark.parametrize("position", [5, 77, 2**64 - 1])
def test_a_position_that_does_not_exist_is_refused(position: int) -> None:
    state, memory = begin()
    session(memory)
    values = state.extents[0].values
    base = next(base for base in (0, PEER_WORDS) if values[base])
    values[base + PeerSlot.KEYPAIRS + KeypairSlot.POSITION] = position
    assert reopen(state).recall(KEY, CONTEXT) == []


def test_what_was_never_placed_is_not_recalled() -> None:
    state, memory = begin()
    memory.peer_marks(KEY)
    memory.keypair_numbers(KEY, FACTS, CONTEXT)
    assert reopen(state).recall(KEY, CONTEXT) == []
    assert not holds_keys(state)


def test_lost_sessions_keep_their_index_and_no_keys() -> None:
    state, memory = begin()
    numbers = session(memory)
    numbers.highest_received = 41
    numbers.lose()
    assert not holds_keys(state)
    [recalled] = reopen(state).recall(KEY, CONTEXT)
    assert recalled.position is Position.LOST
    assert recalled.facts == FACTS._replace(send_key=bytes(32), receive_key=bytes(32))
    assert recalled.numbers.highest_received == 41


def test_lost_sessions_make_room_for_new_ones() -> None:
    state, memory = begin()
    for index in range(4):
        session(memory, facts=FACTS._replace(local_index=index)).lose()
    session(memory, facts=FACTS._replace(local_index=9))
    indices = {each.facts.local_index for each in reopen(state).recall(KEY, CONTEXT)}
    assert 9 in indices
    assert len(indices) == 4


def test_the_newest_session_comes_first() -> None:
    state, memory = begin()
    session(memory, position=Position.PREVIOUS, facts=FACTS._replace(born=1.0))
    session(memory, position=Position.CURRENT, facts=FACTS._replace(born=3.0))
    session(memory, position=Position.NEXT, facts=FACTS._replace(born=2.0))
    assert [each.facts.born for each in reopen(state).recall(KEY, CONTEXT)] == [3.0, 2.0, 1.0]


def test_erased_sessions_leave_no_trace() -> None:
    state, memory = begin()
    session(memory).erase()
    assert not holds_keys(state)
    assert reopen(state).recall(KEY, CONTEXT) == []


def test_erased_peers_leave_no_trace() -> None:
    state, memory = begin()
    session(memory)
    memory.peer_marks(KEY).erase()
    assert stored_words(state) == {0}
    assert not memory.knows(KEY)


def test_growth_keeps_every_session() -> None:
    state, memory = begin()
    keys = [number.to_bytes(32, "big") for number in range(1, 5 * PEERS_PER_EXTENT)]
    for number, key in enumerate(keys):
        session(memory, key, facts=FACTS._replace(local_index=number))
    assert len(state.extents) == 5
    memory = reopen(state)
    for number, key in enumerate(keys):
        [recalled] = memory.recall(key, CONTEXT)
        assert recalled.facts.local_index == number


def test_freed_slots_are_used_again() -> None:
    state, memory = begin()
    for number in range(1, 50):
        key = number.to_bytes(32, "big")
        session(memory, key)
        memory.peer_marks(key).erase()
    assert len(state.extents) == 1


def test_slots_that_were_never_used_are_not_looked_at() -> None:
    state, memory = begin()
    session(memory)
    assert state.header[Header.USED] == 1
    values = state.extents[0].values
    values[PEER_WORDS:] = [2**64 - 1] * (len(values) - PEER_WORDS)
    memory = reopen(state)
    assert memory.knows(KEY)
    session(memory, OTHER)
    assert [each.facts for each in reopen(state).recall(OTHER, CONTEXT)] == [FACTS]
    assert state.header[Header.USED] == 2


@pytest.mark.parametrize("used", [PEERS_PER_EXTENT + 1, 2**64 - 1])
def test_more_slots_than_there_are_cannot_be_used(used: int) -> None:
    state, memory = begin()
    session(memory)
    state.header[Header.USED] = used
    memory = reopen(state)
    assert memory.knows(KEY)
    session(memory, OTHER)
    assert len(state.extents) == 1


def test_an_index_names_its_peer() -> None:
    state, memory = begin()
    session(memory)
    session(memory, OTHER, facts=FACTS._replace(local_index=7))
    assert memory.peer_of(7) is None, "it is for what was there at the start"
    memory = reopen(state)
    assert memory.peer_of(FACTS.local_index) == KEY
    assert memory.peer_of(7) == OTHER
    assert memory.peer_of(8) is None
    for _ in memory.sweep():
        pass
    assert memory.peer_of(7) is None


@pytest.mark.parametrize("extents_read", range(4))
def test_an_index_is_found_however_much_was_read(extents_read: int) -> None:
    keys = [bytes([number]) * 32 for number in range(3 * PEERS_PER_EXTENT)]
    state, memory = begin()
    for index, key in enumerate(keys):  # 0 lies in whatever was never written, too
        for position in (Position.CURRENT, Position.PREVIOUS):
            session(memory, key, position, FACTS._replace(local_index=index << 8 * (position % 2)))
    lost = memory.keypair_numbers(keys[0], FACTS._replace(local_index=99), CONTEXT)
    lost.place(Position.FREE)
    memory = reopen(state)
    for _, _ in zip(range(extents_read), memory.read_ahead(), strict=False):
        pass
    for index in (*range(3), *range(256, 256 * len(keys), 256), 99, 1 << 24, 1 << 31):
        number = index if index < 256 else index >> 8
        expected = keys[number] if number < len(keys) else None
        assert memory.peer_of(index) == expected, index
    assert memory.knows(keys[-1])
    session(memory, b"n" * 32)
    assert len(state.extents) == 4


@pytest.mark.parametrize("keys_first", [False, True])
def test_a_damaged_slot_that_an_index_names_is_nobodys(keys_first: bool) -> None:
    state, memory = begin()
    session(memory)
    state.extents[0].values[PeerSlot.CHECKSUM] ^= 1
    memory = reopen(state)
    if keys_first:
        assert not memory.knows(OTHER)
    assert memory.peer_of(FACTS.local_index) is None
    assert not memory.knows(KEY)
    session(memory, OTHER)
    session(memory, b"r" * 32)
    assert len(state.extents) == 1, "its slot is used again"
    assert memory.recall(KEY, CONTEXT) == []


def test_only_the_present_peers_are_kept() -> None:
    state, memory = begin()
    session(memory)
    session(memory, OTHER)
    memory = reopen(state)
    memory.forget_others({OTHER})
    assert not memory.knows(KEY)
    assert [each.facts for each in memory.recall(OTHER, CONTEXT)] == [FACTS]


def test_where_there_is_no_room_sessions_end_with_the_process(caplog: pytest.LogCaptureFixture) -> None:
    state, memory = begin()
    session(memory)
    session(memory, OTHER)

    def full() -> None:
        raise OSError(28, "No space left on device")

    memory._grow = full  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        for number in range(1, 4):
            further = number.to_bytes(32, "big")
            numbers = session(memory, further)
            numbers.ceiling = 512
            memory.peer_marks(further).endpoint = ENDPOINTS[0]
    assert len(caplog.records) == 1
    assert "No space left" in caplog.text
    memory = reopen(state)
    assert memory.knows(KEY)
    assert memory.knows(OTHER)
    assert not memory.knows((1).to_bytes(32, "big"))


def test_nothing_is_recalled_once_another_took_over() -> None:
    state, memory = begin()
    session(memory)
    memory.committed_term = 3
    memory = reopen(state)
    assert memory.committed_term == 3
    assert memory.recall(KEY, CONTEXT) == []
    assert not holds_keys(state)


def test_what_nobody_claims_is_swept() -> None:
    state, memory = begin()
    session(memory)
    session(memory, OTHER)
    memory.peer_marks(KEY).outbound_stamp = 5
    memory = reopen(state)
    assert memory.recall(OTHER, CONTEXT)
    for _ in memory.sweep():
        pass
    assert memory.recall(KEY, CONTEXT) == []
    assert memory.peer_marks(KEY).outbound_stamp == 5
    [kept] = reopen(state).recall(OTHER, CONTEXT)
    assert kept.facts == FACTS


def test_what_a_crash_left_of_an_erased_peer_is_swept() -> None:
    state, memory = begin()
    session(memory)
    state.steps.left = 1
    with pytest.raises(Crash):
        memory.peer_marks(KEY).erase()
    assert holds_keys(state)
    memory = reopen(state)
    assert not memory.knows(KEY)
    for _ in memory.sweep():
        pass
    assert stored_words(state) == {0}


def test_a_sweep_goes_in_steps() -> None:
    _, memory = begin()
    for number in range(1, 200):
        memory.peer_marks(number.to_bytes(32, "big"))
    assert len(list(memory.sweep())) >= 6


def test_a_crash_at_every_store_of_a_session_leaves_it_whole_or_not_at_all() -> None:
    crash_at = 0
    while True:
        state, memory = begin()
        state.steps.left = crash_at
        try:
            session(memory).ceiling = 512
        except Crash:
            recalled = reopen(state).recall(KEY, CONTEXT)
            assert [each.facts for each in recalled] in ([], [FACTS])
            crash_at += 1
        else:
            break
    assert crash_at > PEER_WORDS


def test_a_crash_at_every_store_of_an_erasure_leaves_nothing_that_counts() -> None:
    for crash_at in range(1, PEER_WORDS):
        state, memory = begin()
        session(memory)
        state.steps.left = crash_at
        with pytest.raises(Crash):
            memory.peer_marks(KEY).erase()
        assert not reopen(state).knows(KEY)


def test_the_port_is_kept() -> None:
    state, memory = begin()
    assert memory.listen_port == 0
    memory.listen_port = 51999
    assert reopen(state).listen_port == 51999


def test_drained_is_kept() -> None:
    state, memory = begin()
    assert not memory.drained
    memory.drained = True
    assert reopen(state).drained
    assert state.header[Header.DRAINED] == 1


def test_owners_are_counted() -> None:
    state, _ = begin()
    reopen(state)
    assert state.header[Header.INCARNATION] == 2
    assert isinstance(reopen(state).peer_marks(KEY), SlotMarks)
