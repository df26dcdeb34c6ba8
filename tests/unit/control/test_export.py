"""An export travels unread, and only a pod of the same tunnel can make or open one."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.control import DocumentError, Export, Refused
from handfast_tunnel.control.export import ExportedPeer, ExportedSession, Handover, check
from handfast_tunnel.control.fields import pack
from handfast_tunnel.control.sealed import mac_of

PRIVATE = bytes(range(32))
STAMP = base64.b64encode(bytes(12)).decode()
KEY = base64.b64encode(bytes([7] * 32)).decode()
PEER = ExportedPeer(KEY, "192.0.2.1:7", STAMP, STAMP, 1.7e9, (ExportedSession(2**32 - 1, 1.7e9, 2**64 - 1),))
HANDOVER = Handover("a", "b", 4, 5, 1.7e9, (PEER,), STAMP)


def test_it_comes_back_as_it_was() -> None:
    export = Export.seal(HANDOVER, PRIVATE, "u")
    assert Export.from_json(export.to_json()) == export
    assert export.open(PRIVATE, "u") == HANDOVER


@given(bit=st.integers(0, 8 * 400))
def test_no_bit_of_it_can_be_changed(bit: int) -> None:
    export = Export.seal(HANDOVER, PRIVATE, "u")
    whole = bytearray(export.body + export.mac)
    at = bit % (8 * len(whole))
    whole[at // 8] ^= 1 << at % 8
    bent = Export(bytes(whole[: len(export.body)]), bytes(whole[len(export.body) :]))
    with pytest.raises(Refused, match="not made by a pod of this tunnel"):
        bent.open(PRIVATE, "u")


def test_it_is_of_one_tunnel() -> None:
    export = Export.seal(HANDOVER, PRIVATE, "u")
    for key, uid in ((bytes(32), "u"), (PRIVATE, "v"), (PRIVATE, "")):
        with pytest.raises(Refused):
            export.open(key, uid)


@pytest.mark.parametrize("mac", [b"", bytes(31), bytes(32), bytes(33)])
def test_it_needs_its_mac(mac: bytes) -> None:
    with pytest.raises(Refused):
        replace(Export.seal(HANDOVER, PRIVATE, "u"), mac=mac).open(PRIVATE, "u")


def test_it_is_for_one_pod_one_term_and_half_a_minute() -> None:
    check(HANDOVER, pod_uid="b", term=4, wall=1.7e9 + 29.9)
    check(HANDOVER, pod_uid="b", term=4, wall=1.7e9 - 29.9)
    for pod, term, wall in (("c", 4, 1.7e9), ("b", 5, 1.7e9), ("b", 4, 1.7e9 + 30), ("b", 4, 1.7e9 - 30)):
        with pytest.raises(Refused):
            check(HANDOVER, pod_uid=pod, term=term, wall=wall)
    with pytest.raises(Refused, match="own"):
        check(replace(HANDOVER, source="b"), pod_uid="b", term=4, wall=1.7e9)


def test_even_an_authentic_one_is_checked() -> None:
    body = pack(["{}\n"])
    with pytest.raises(DocumentError):
        Export(body, mac_of(body, PRIVATE, "u")).open(PRIVATE, "u")


@pytest.mark.parametrize("sessions", [1, [[1]], [[1, 2, 3]] * 5, [[-1, 0, 0]], [[1, 0.0, -2]], [[1, "x", 0]]])
def test_sessions_that_are_none(sessions: object) -> None:
    with pytest.raises(DocumentError):
        ExportedPeer.read(PEER.to_json() | {"sessions": sessions}, "peer")


def test_its_key_is_used_for_nothing_else() -> None:
    """Known answer: two releases of one tunnel must understand each other in the middle of an upgrade."""
    assert mac_of(b"body", PRIVATE, "u").hex() == KNOWN


KNOWN = "3b3c327ba1608a299b305ee83762d4069e9bf9d996b37521f2725334a6b43132"
