"""An account of sessions travels unread, and is good for as long as a session lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handfast_tunnel.control import DocumentError, Export, Refused, SealedAccount
from handfast_tunnel.control.account import CLOCK_LIMIT, LIFETIME, Account, News, check
from handfast_tunnel.control.fields import pack
from handfast_tunnel.core.constants import REJECT_AFTER_TIME

from .test_export import HANDOVER, PEER, PRIVATE

ACCOUNT = Account("a", 4, 5, 1.7e9, (PEER,))


def test_it_comes_back_as_it_was() -> None:
    sealed = SealedAccount.seal(ACCOUNT, PRIVATE, "u")
    assert SealedAccount.from_json(sealed.to_json()) == sealed
    assert sealed.open(PRIVATE, "u") == ACCOUNT


@pytest.mark.parametrize(("key", "uid"), [(bytes(32), "u"), (PRIVATE, "v")])
def test_it_is_of_one_tunnel(key: bytes, uid: str) -> None:
    with pytest.raises(Refused, match="not made by a pod of this tunnel"):
        SealedAccount.seal(ACCOUNT, PRIVATE, "u").open(key, uid)


@pytest.mark.parametrize("at", range(0, 200, 7))
def test_no_bit_of_it_can_be_changed(at: int) -> None:
    sealed = SealedAccount.seal(ACCOUNT, PRIVATE, "u")
    body = bytearray(sealed.body)
    body[at % len(body)] ^= 1
    with pytest.raises(Refused, match="not made"):
        replace(sealed, body=bytes(body)).open(PRIVATE, "u")


def test_an_export_is_no_account_nor_the_other_way_round() -> None:
    export, sealed = Export.seal(HANDOVER, PRIVATE, "u"), SealedAccount.seal(ACCOUNT, PRIVATE, "u")
    with pytest.raises(DocumentError):
        SealedAccount(export.body, export.mac).open(PRIVATE, "u")
    with pytest.raises(DocumentError):
        Export(sealed.body, sealed.mac).open(PRIVATE, "u")


def test_an_authentic_one_is_checked() -> None:
    with pytest.raises(DocumentError):
        SealedAccount.of(pack(["{}\n"]), PRIVATE, "u").open(PRIVATE, "u")


def test_it_is_good_for_as_long_as_a_session_lives() -> None:
    """Whatever the difference of clocks that exports allow for, too."""
    assert LIFETIME == REJECT_AFTER_TIME
    for wall in (1.7e9 + LIFETIME + CLOCK_LIMIT - 0.1, 1.7e9 - CLOCK_LIMIT + 0.1):
        check(ACCOUNT, pod_uid="b", generation=5, wall=wall)


@pytest.mark.parametrize(
    ("pod", "generation", "wall", "why"),
    [
        ("a", 5, 1.7e9, "this pod's own"),
        ("b", 4, 1.7e9, "generation 5 has not come"),
        ("b", 5, 1.7e9 + LIFETIME + CLOCK_LIMIT, "210 s old"),
        ("b", 5, 1.7e9 - CLOCK_LIMIT, "ahead"),
    ],
)
def test_one_that_is_not_for_this_pod_now(pod: str, generation: int, wall: float, why: str) -> None:
    with pytest.raises(Refused, match=why):
        check(ACCOUNT, pod_uid=pod, generation=generation, wall=wall)


@pytest.mark.parametrize("sealed", [None, SealedAccount(b"body", b"mac")])
def test_the_answer_comes_back_as_it_was(sealed: SealedAccount | None) -> None:
    news = News(12.5, 7, sealed)
    assert News.from_json(news.to_json()) == news


def test_an_answer_that_is_none() -> None:
    with pytest.raises(DocumentError, match="until"):
        News.from_json({"generation": 1, "sealed": None})
