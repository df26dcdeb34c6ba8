"""What is kept of pods' accounts, for how long, and who is told what of it."""

from __future__ import annotations

from handfast_operator.chronicle import SIZE_LIMIT, Chronicle
from handfast_tunnel.control import News, SealedAccount
from handfast_tunnel.control.account import ACCOUNTS_LIMIT, LIFETIME


def sealed(name: str) -> SealedAccount:
    return SealedAccount(name.encode(), b"")


def heard_from(chronicle: Chronicle, pod: str, *names: str, generation: int = 1, at: float = 0.0) -> None:
    for name in names:
        chronicle.since(pod, 1)
        chronicle.add(News(at, generation, sealed(name)), at)


def told(chronicle: Chronicle, pod: str, generation: int = 1) -> list[str]:
    accounts = chronicle.untold(pod, generation)
    if accounts:
        chronicle.heard(pod, accounts)
    return [each.sealed.body.decode() for each in accounts]


def test_each_is_told_once_in_order() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1", "2")
    assert told(chronicle, "b") == ["1", "2"]
    assert told(chronicle, "b") == []
    heard_from(chronicle, "a", "3")
    assert told(chronicle, "b") == ["3"]
    assert told(chronicle, "c") == ["1", "2", "3"], "one that has come since"


def test_nothing_new_is_nothing_to_tell() -> None:
    chronicle = Chronicle()
    chronicle.since("a", 1)
    chronicle.add(News(7.0, 1, None), 0.0)
    assert told(chronicle, "b") == []
    assert chronicle.since("a", 1) == 7.0


def test_whoever_was_not_asked_last_tells_everything() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1", at=5.0)
    assert chronicle.since("a", 1) == 5.0
    assert chronicle.since("a", 2) == 0.0, "it may have been told by others meanwhile"
    chronicle.add(News(6.0, 1, None), 6.0)
    assert chronicle.since("b", 2) == 0.0
    assert chronicle.since("a", 2) == 0.0


def test_nobody_is_told_what_it_said_itself() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1")
    heard_from(chronicle, "b", "2")
    assert told(chronicle, "a") == ["2"]
    assert told(chronicle, "b") == ["1"]


def test_what_is_told_by_a_configuration_waits_for_it() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1")
    heard_from(chronicle, "a", "2", generation=2)
    heard_from(chronicle, "b", "3", generation=1)
    assert told(chronicle, "c") == ["1"]
    assert told(chronicle, "c", generation=2) == ["2", "3"]


def test_what_nobody_would_take_is_forgotten() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1", at=0.0)
    heard_from(chronicle, "a", "2", at=10.0)
    chronicle.forget_old(LIFETIME)
    assert told(chronicle, "b") == ["2"]
    chronicle.forget_old(LIFETIME + 10)
    assert told(chronicle, "c") == []


def test_it_does_not_grow_without_end() -> None:
    """Where clients move all the time, everything is asked for anew."""
    chronicle = Chronicle()
    half = SealedAccount(bytes(SIZE_LIMIT // 2), b"")
    for number in (1, 2):
        chronicle.since("a", 1)
        chronicle.add(News(number, 1, half), 0.0)
    assert (chronicle.since("a", 1), len(chronicle.untold("b", 1))) == (2, 2)
    chronicle.add(News(3, 1, half), 0.0)
    assert (chronicle.since("a", 1), chronicle.untold("b", 1)) == (0.0, [])
    chronicle.add(News(4, 1, half), 0.0)
    assert len(chronicle.untold("b", 1)) == 1


def test_one_call_has_its_limit() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", *map(str, range(ACCOUNTS_LIMIT + 1)))
    assert len(told(chronicle, "b")) == ACCOUNTS_LIMIT
    assert told(chronicle, "b") == [str(ACCOUNTS_LIMIT)]


def test_a_pod_that_is_gone_is_forgotten() -> None:
    chronicle = Chronicle()
    heard_from(chronicle, "a", "1")
    told(chronicle, "b")
    chronicle.keep_pods(["a"])
    assert told(chronicle, "b") == ["1"], "another one, with nothing in its memory"
