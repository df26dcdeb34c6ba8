"""Drain, activate, commit and thaw by the control API, and handshakes."""

from __future__ import annotations

import gzip
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from handfast_tunnel.adapters.text import parse_base64_key
from handfast_tunnel.control import (
    ControlClient,
    Export,
    Role,
)
from handfast_tunnel.control.export import Handover

from .calls import Ask, refused
from .conftest import ACTIVE, CONFIGURATION, PRIVATE, SPEC, STANDBY, Pod, key


def drain(
    term: int = 4, generation: int = 5, successor: str = "b"
) -> Callable[[ControlClient], Awaitable[Any]]:
    return lambda s: s.drain(term=term, generation=generation, successor_uid=successor)


def test_drain_freezes_and_exports(active: Pod, ask: Ask) -> None:
    export = ask(active, drain())
    assert active.tunnel.device.frozen
    handover = export.open(parse_base64_key(PRIVATE), SPEC.uid)
    assert (handover.source, handover.successor, handover.term, handover.generation) == ("a", "b", 4, 5)
    assert [peer.endpoint for peer in handover.peers] == [f"192.0.2.{n}:7" for n in (2, 3, 4)]
    status = ask(active, lambda s: s.status())
    assert (status.role, status.term, status.heard) == (Role.DRAINING, 3, 4)
    assert status.draining.successor_uid == "b"
    assert 0 < status.draining.seconds_left <= 5
    assert ask(active, drain()) == export, "the same call, the same answer"


def test_no_export_holds_a_secret(active: Pod, ask: Ask) -> None:
    body = gzip.decompress(ask(active, drain()).body)
    assert PRIVATE.encode() not in body
    assert b64decode(PRIVATE).hex().encode() not in body


def test_it_thaws_by_itself(active: Pod, ask: Ask) -> None:
    ask(active, lambda s: s.drain(term=4, generation=5, successor_uid="b", seconds=0.2))
    deadline = time.monotonic() + 5
    while ask(active, lambda s: s.status()).role is not Role.ACTIVE:
        assert time.monotonic() < deadline
    assert not active.tunnel.device.frozen
    assert ask(active, lambda s: s.status()).term == 3
    assert active.gateway.handovers == {"timeout": 1}


def test_thaw(active: Pod, ask: Ask) -> None:
    ask(active, drain())
    assert ask(active, lambda s: s.thaw(term=4)).role is Role.ACTIVE
    assert not active.tunnel.device.frozen
    assert refused(ask, active, drain()).status == 409
    ask(active, drain(term=5))


def test_commit_is_for_ever(active: Pod, ask: Ask) -> None:
    ask(active, drain())
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert refused(ask, active, lambda s: s.activate(term=9, generation=5)).status == 410
    assert refused(ask, active, drain(term=9)).status == 410
    active.stop()
    active.start()
    assert ask(active, lambda s: s.status()).role is Role.COMMITTED, "the next container knows it"
    assert active.tunnel.device.frozen
    assert active.tunnel.device.committed


def test_a_whole_handover(active: Pod, ask: Ask, pods: Callable[[str], Pod]) -> None:
    new = pods("b").start(standing=STANDBY)
    export = ask(active, drain())
    status = ask(new, lambda s: s.activate(term=4, generation=5, export=export))
    assert (status.role, status.term) == (Role.ACTIVE, 4)
    assert not new.tunnel.device.frozen
    assert ask(new, lambda s: s.activate(term=4, generation=5, export=export)).role is Role.ACTIVE
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert refused(ask, new, lambda s: s.activate(term=4, generation=5)).status == 409
    assert new.accepted.load_standing(SPEC.uid) == new.gateway.standing


def sealed(**changes: Any) -> Export:
    handover = Handover("a", "b", 4, 5, time.time())
    return Export.seal(replace(handover, **changes), parse_base64_key(PRIVATE), SPEC.uid)


def forged() -> Export:
    return Export.seal(Handover("a", "b", 4, 5, time.time()), bytes(32), SPEC.uid)


def bent() -> Export:
    good = sealed()
    return replace(good, body=good.body[:-1] + bytes([good.body[-1] ^ 1]))


@pytest.mark.parametrize(
    ("export", "why"),
    [
        (forged, "not made by a pod of this tunnel"),
        (bent, "not made by a pod of this tunnel"),
        (
            lambda: Export.seal(Handover("a", "b", 4, 5, time.time()), parse_base64_key(PRIVATE), "x"),
            "not made",
        ),
        (lambda: sealed(successor="c"), "for another pod"),
        (lambda: sealed(source="b"), "this pod's own"),
        (lambda: sealed(term=3), "of term 3"),
        (lambda: sealed(created=time.time() - 31), "not younger"),
        (lambda: sealed(created=time.time() + 31), "not younger"),
    ],
)
def test_an_export_that_is_not_for_this_is_refused(
    pods: Callable[[str], Pod], ask: Ask, export: Callable[[], Export], why: str
) -> None:
    new = pods("b").start(standing=STANDBY)
    answer = refused(ask, new, lambda s: s.activate(term=4, generation=5, export=export()))
    assert answer.status == 409
    assert why in answer.why
    assert new.gateway.standing == STANDBY
    assert new.tunnel.device.frozen
    assert ask(new, lambda s: s.activate(term=4, generation=5, export=sealed())).role is Role.ACTIVE


def test_an_export_is_taken_once(pods: Callable[[str], Pod], ask: Ask) -> None:
    new = pods("b").start(standing=STANDBY)
    export = sealed()
    ask(new, lambda s: s.activate(term=4, generation=5, export=export))
    ask(new, lambda s: s.put_config(CONFIGURATION, term=6))
    for term in (4, 7):
        answer = refused(ask, new, lambda s: s.activate(term=term, generation=5, export=export))  # noqa: B023
        assert answer.status == 409


def test_only_a_standby_takes_one(pods: Callable[[str], Pod], ask: Ask) -> None:
    new = pods("b").start(standing=ACTIVE)
    answer = refused(ask, new, lambda s: s.activate(term=4, generation=5, export=sealed()))
    assert "only a standby" in answer.why


def test_activation_needs_the_configuration(pod: Pod, ask: Ask) -> None:
    assert "PUT" in refused(ask, pod, lambda s: s.activate(term=4, generation=6)).remedy
    assert refused(ask, pod, lambda s: s.activate(term=4, generation=4)).status == 409
    assert pod.tunnel.device.frozen


def test_stamps_begin_above_what_others_may_have_sent(pod: Pod, ask: Ask) -> None:
    ceiling = "QAAAAHD////AAAAA"  # some decades ahead
    assert ask(pod, lambda s: s.status()).outbound_stamp is None
    status = ask(pod, lambda s: s.activate(term=4, generation=5, outbound_timestamp_ceiling=ceiling))
    assert status.outbound_stamp >= ceiling[:10]
    pod.stop()
    pod.start()
    assert pod.tunnel.device.highest_stamp >= pod.gateway.standing.stamp_floor > 0


def test_handshake(active: Pod, ask: Ask) -> None:
    assert ask(active, lambda s: s.handshake()) == 3
    assert ask(active, lambda s: s.handshake([key(2)])) == 1
    assert refused(ask, active, lambda s: s.handshake([key(99)])).status == 404
    assert refused(ask, active, lambda s: s.handshake(["x"])).status == 422
    assert active.tunnel.handshakes == [None, [parse_base64_key(key(2))]]
