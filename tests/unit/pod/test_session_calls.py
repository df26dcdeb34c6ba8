"""What an active pod tells of its sessions, and what a standby learns of them, by the control API."""

from __future__ import annotations

import gzip
import time
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from handfast_tunnel.adapters.text import parse_base64_key
from handfast_tunnel.control import ControlClient, Export, Role, SealedAccount, TlsFiles
from handfast_tunnel.control.account import ACCOUNTS_LIMIT, Account
from handfast_tunnel.control.export import ExportedPeer, ExportedSession, Handover
from handfast_tunnel.core.constants import REJECT_AFTER_TIME
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.pod.api import CALL_LIMIT

from .calls import Ask, raw, refused
from .conftest import PRIVATE, SPEC, STANDBY, Pod, key

SECRET = parse_base64_key(PRIVATE), SPEC.uid


@pytest.fixture
def new(pods: Callable[[str], Pod]) -> Pod:
    return pods("b").start(standing=STANDBY)


def sealed(**changes: Any) -> SealedAccount:
    now = time.time()
    sessions = (ExportedSession(77, now - 1, 5),)
    peer = ExportedPeer(key(2), "198.51.100.2:9", None, None, now - 1, sessions)
    return SealedAccount.seal(replace(Account("a", 3, 5, now, (peer,)), **changes), *SECRET)


def tell(*accounts: SealedAccount) -> Callable[[ControlClient], Any]:
    return lambda s: s.tell_sessions(accounts)


def knows(pod: Pod) -> dict[int, bytes]:
    return {index: lost.peer.public_key for index, lost in pod.tunnel.device._interface.lost.items()}


def test_an_active_pod_tells_and_goes_on(active: Pod, ask: Ask) -> None:
    news = ask(active, lambda s: s.sessions(0))
    assert news.generation == 5
    account = news.sealed.open(*SECRET)
    assert (account.source, account.term, account.generation) == ("a", 3, 5)
    assert [peer.endpoint for peer in account.peers] == [f"192.0.2.{n}:7" for n in (2, 3, 4)]
    assert not active.tunnel.device.frozen
    assert active.gateway.told == 1
    assert ask(active, lambda s: s.sessions(news.until)).sealed is None, "nothing is new"
    peer = active.tunnel.device.peers[parse_base64_key(key(3))]
    active.tunnel.device._interface.note_change(peer, active.tunnel.loop.now)
    later = ask(active, lambda s: s.sessions(news.until))
    assert [peer.public_key for peer in later.sealed.open(*SECRET).peers] == [key(3)]
    assert later.until > news.until
    of_another_boot = ask(active, lambda s: s.sessions(later.until + 1000))
    assert len(of_another_boot.sealed.open(*SECRET).peers) == 3


def test_no_account_holds_a_secret(active: Pod, ask: Ask) -> None:
    body = gzip.decompress(ask(active, lambda s: s.sessions(0)).sealed.body)
    assert PRIVATE.encode() not in body
    assert b64decode(PRIVATE).hex().encode() not in body


def test_a_frozen_pod_still_tells(active: Pod, ask: Ask) -> None:
    ask(active, lambda s: s.drain(term=4, generation=5, successor_uid="b"))
    assert ask(active, lambda s: s.sessions(0)).sealed.open(*SECRET).term == 3


def test_who_owns_no_sessions_tells_of_none(new: Pod, active: Pod, ask: Ask) -> None:
    assert "standby" in refused(ask, new, lambda s: s.sessions(0)).why
    ask(active, lambda s: s.drain(term=4, generation=5, successor_uid="b"))
    ask(active, lambda s: s.commit(term=4))
    assert "committed" in refused(ask, active, lambda s: s.sessions(0)).why


@pytest.mark.parametrize("since", ["x", "-1", "nan", "inf", ""])
def test_a_moment_that_is_none(active: Pod, operator_tls: TlsFiles, since: str) -> None:
    assert raw(active, operator_tls, "GET", f"/v1/sessions?since={since}")[0] == 422


def test_a_standby_learns_and_then_answers_for_them(new: Pod, ask: Ask) -> None:
    assert ask(new, lambda s: s.status()).known_sessions == 0
    status = ask(new, tell(sealed(term=6), sealed(term=2, peers=())))
    assert (status.role, status.heard, status.known_sessions) == (Role.STANDBY, 6, 1)
    peer = new.tunnel.device.peers[parse_base64_key(key(2))]
    assert knows(new) == {77: peer.public_key}
    assert peer.endpoint == Endpoint("198.51.100.2", 9)
    assert new.tunnel.device.frozen
    assert refused(ask, new, lambda s: s.activate(term=6, generation=5)).status == 409
    assert ask(new, lambda s: s.activate(term=7, generation=5)).role is Role.ACTIVE
    assert knows(new) == {77: peer.public_key}


def test_it_may_come_again(new: Pod, ask: Ask) -> None:
    account = sealed()
    for _ in range(3):
        ask(new, tell(account, account))
    assert list(knows(new)) == [77]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"source": "b"}, "this pod's own"),
        ({"created": time.time() - 3600}, "s old"),
        ({"created": time.time() + 3600}, "ahead"),
        ({"generation": 6}, "generation 6 has not come here yet"),
    ],
)
def test_what_is_not_for_it_is_refused_whole(new: Pod, ask: Ask, changes: dict[str, Any], why: str) -> None:
    answer = refused(ask, new, tell(sealed(), sealed(**changes)))
    assert (answer.status, why in answer.why) == (409, True), answer
    assert knows(new) == {}


def test_what_no_pod_of_the_tunnel_made_is_refused(new: Pod, ask: Ask) -> None:
    good = sealed()
    strangers = SealedAccount.seal(Account("a", 3, 5, time.time()), bytes(32), SPEC.uid)
    bent = replace(good, body=good.body[:-1] + bytes([good.body[-1] ^ 1]))
    for account in (strangers, bent):
        assert "not made by a pod of this tunnel" in refused(ask, new, tell(good, account)).why
    export = Export.seal(Handover("a", "b", 4, 5, time.time()), *SECRET)
    assert refused(ask, new, tell(SealedAccount(export.body, export.mac))).status == 422
    assert knows(new) == {}


def test_only_a_standby_learns(active: Pod, ask: Ask) -> None:
    assert "only a standby" in refused(ask, active, tell(sealed(source="b"))).why
    assert knows(active) == {}


def test_more_than_there_can_be_are_refused(new: Pod, ask: Ask) -> None:
    for accounts in ((), [sealed()] * (ACCOUNTS_LIMIT + 1)):
        assert refused(ask, new, tell(*accounts)).status == 422


def test_a_long_one_fits(new: Pod, ask: Ask) -> None:
    """10,000 peers are more than any other call may carry."""
    now = time.time()
    random = Random(1)
    keys = [key(2), *(b64encode(random.randbytes(32)).decode() for _ in range(9_999))]
    peers = tuple(
        ExportedPeer(public_key, "198.51.100.2:9", None, None, now, (ExportedSession(n, now, n),))
        for n, public_key in enumerate(keys)
    )
    accounts = [sealed(peers=peers, created=now)] * 2
    assert sum(len(account.to_json()["body"]) for account in accounts) > CALL_LIMIT
    assert ask(new, tell(*accounts)).role is Role.STANDBY
    assert list(knows(new)) == [0], "of those that are configured"


def test_sessions_that_have_died_are_forgotten_with_the_next_account(new: Pod, ask: Ask) -> None:
    """A standby is told of new ones for as long as it stands by."""
    device = new.tunnel.device
    peer = device.peers[parse_base64_key(key(3))]
    device._interface.remember_lost(peer, 1, new.tunnel.loop.now - REJECT_AFTER_TIME, 0)
    ask(new, tell(sealed()))
    assert list(knows(new)) == [77]
