from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.continuity.storage import KeypairFacts, PlainKeypairNumbers, PlainMemory
from handfast_tunnel.core.batch import PureBatches
from handfast_tunnel.core.constants import REJECT_AFTER_MESSAGES, REKEY_AFTER_TIME
from handfast_tunnel.core.peer import Peer
from handfast_tunnel.core.session import Keypair
from handfast_tunnel.core.timers import Schedule

from .network import START


def keypair(numbers: Any = None, *, initiator: bool = True) -> Keypair:
    peer = Peer(b"p" * 32, PlainMemory(), Schedule(), Random(0))
    facts = KeypairFacts(b"s" * 32, b"r" * 32, 1, 2, initiator, START, REKEY_AFTER_TIME)
    return Keypair(peer, facts, numbers or PlainKeypairNumbers(), PureBatches())


def test_dies_at_180_s() -> None:
    session = keypair()
    assert not session.expired(START + 179.9)
    assert session.can_send(START + 179.9)
    assert session.expired(START + 180)
    assert not session.can_send(START + 180)


@given(st.lists(st.integers(1, 600), max_size=30))
def test_counters_rise_without_gap_or_repetition(sizes: list[int]) -> None:
    session, following = keypair(), 0
    for size in sizes:
        assert session.reserve(size) == (following, size)
        following += size
        assert session.numbers.ceiling == following


def test_ceiling_is_stored_before_a_counter_is_given_out() -> None:
    order: list[str] = []

    class Numbers(PlainKeypairNumbers):
        __slots__ = ()

        def __setattr__(self, name: str, value: int) -> None:
            order.append(f"{name}={value}")
            super().__setattr__(name, value)

    session = keypair(Numbers())
    order.clear()
    assert session.reserve(3) == (0, 3)
    assert order == ["ceiling=3"]


def test_successor_starts_at_the_ceiling() -> None:
    numbers = PlainKeypairNumbers()
    keypair(numbers).reserve(512)
    assert keypair(numbers).reserve(1) == (512, 1)


def test_successor_takes_everything_up_to_the_stored_highest_as_seen() -> None:
    numbers = PlainKeypairNumbers()
    numbers.highest_received = 41
    session = keypair(numbers)
    assert not session.window.accept(41)
    assert session.window.accept(42)


def test_last_counters_are_given_out_only_up_to_the_limit() -> None:
    numbers = PlainKeypairNumbers()
    numbers.ceiling = REJECT_AFTER_MESSAGES - 3
    session = keypair(numbers)
    assert session.reserve(10) == (REJECT_AFTER_MESSAGES - 3, 3)
    assert not session.can_send(START)
    assert session.reserve(10)[1] == 0
    assert session.numbers.ceiling == REJECT_AFTER_MESSAGES


def test_forbidden_session_still_opens() -> None:
    session = keypair()
    session.forbid_sending()
    assert not session.can_send(START)
    assert session.numbers.ceiling == REJECT_AFTER_MESSAGES, "a successor may not send either"
    assert session.opener is not None


def test_erased_session_has_no_keys_left() -> None:
    session = keypair()
    session.reserve(1)
    held = [session._facts, session.sealer, session.opener, session.window]
    session.erase()
    assert not any(each in held for each in map(session.__getattribute__, session.__slots__))
    assert session.numbers.ceiling == 0
    with pytest.raises(AssertionError, match="dead keypair"):
        _ = session.sealer
