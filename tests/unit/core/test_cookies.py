from __future__ import annotations

import os
from typing import Any

import pytest

from handfast_tunnel.core import cookies
from handfast_tunnel.core.cookies import CookieChecker, add_macs, mac1_of, open_cookie
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import unpack_cookie_reply
from handfast_tunnel.core.noise import cookie_key, mac1_key

from .vectors import wireguard_go

PUBLIC = bytes(range(32))
V4 = Endpoint("192.0.2.7", 51820)
V6 = Endpoint("2001:db8::7", 1)
MESSAGE = bytes([1, 0, 0, 0]) + bytes(range(112))
VECTORS = wireguard_go("cookies")
SOURCES = (V4, V6)


def cookie_from(checker: CookieChecker, message: bytes, source: Endpoint, now: float) -> bytes:
    reply = unpack_cookie_reply(checker.reply(message, source, now))
    cookie = open_cookie(reply, cookie_key(PUBLIC), mac1_of(message))
    assert cookie is not None
    return cookie


@pytest.mark.parametrize(("vector", "source"), list(zip(VECTORS, SOURCES, strict=True)))
class TestVectors:
    def test_mac1_is_that_of_wireguard_go(self, vector: dict[str, Any], source: Endpoint) -> None:
        message = add_macs(vector["message"], mac1_key(vector["public_key"]), None)
        assert message == vector["with_mac1"]
        assert CookieChecker(vector["public_key"]).valid_mac1(message)

    def test_cookie_and_mac2_are_those_of_wireguard_go(
        self, vector: dict[str, Any], source: Endpoint
    ) -> None:
        reply = unpack_cookie_reply(vector["reply"])
        cookie = open_cookie(reply, cookie_key(vector["public_key"]), mac1_of(vector["with_mac1"]))
        assert add_macs(vector["message"], mac1_key(vector["public_key"]), cookie) == vector["with_mac2"]

    def test_reply_is_that_of_wireguard_go(
        self, vector: dict[str, Any], source: Endpoint, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        draws = iter([vector["secret"], unpack_cookie_reply(vector["reply"]).nonce])
        monkeypatch.setattr(os, "urandom", lambda _size: next(draws))
        reply = CookieChecker(vector["public_key"]).reply(vector["with_mac1"], source, 0.0)
        assert reply[8:] == vector["reply"][8:]


def test_mac1_is_checked_over_every_byte() -> None:
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    assert checker.valid_mac1(message)
    for position in range(len(message) - 16):
        altered = message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :]
        assert not checker.valid_mac1(altered)


def test_without_a_cookie_mac2_is_zero() -> None:
    assert add_macs(MESSAGE, mac1_key(PUBLIC), None)[-16:] == bytes(16)


@pytest.mark.parametrize("source", SOURCES)
def test_mac2_is_valid_for_the_source_the_cookie_was_given_to(source: Endpoint) -> None:
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    assert not checker.valid_mac2(message, source, 0.0)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), cookie_from(checker, message, source, 0.0))
    assert checker.valid_mac2(message, source, 1.0)


def test_mac2_binds_ip_and_port() -> None:
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), cookie_from(checker, message, V4, 0.0))
    assert not checker.valid_mac2(message, V4._replace(port=V4.port + 1), 1.0)
    assert not checker.valid_mac2(message, V4._replace(host="192.0.2.8"), 1.0)
    reached = V4._replace(local=b"\x0a\0\0\1", interface=3)
    assert checker.valid_mac2(message, reached, 1.0), "our side of the path is no part of it"


def test_a_v4_mapped_source_is_the_ipv4_one() -> None:
    """Whichever socket an initiation came through: the cookie is that of its 4 bytes and its port."""
    mapped = Endpoint(f"::ffff:{V4.host}", V4.port)
    assert mapped.packed() == V4.packed() == bytes([192, 0, 2, 7]) + V4.port.to_bytes(2, "big")
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), cookie_from(checker, message, mapped, 0.0))
    assert checker.valid_mac2(message, V4, 1.0)


def test_mac2_covers_the_message_with_its_mac1() -> None:
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), cookie_from(checker, message, V4, 0.0))
    for position in range(len(message)):
        altered = message[:position] + bytes([message[position] ^ 1]) + message[position + 1 :]
        assert not checker.valid_mac2(altered, V4, 1.0)


def test_cookie_secret_rotates_at_120_s() -> None:
    checker = CookieChecker(PUBLIC)
    plain = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    cookie = cookie_from(checker, plain, V4, 0.0)
    assert cookie_from(checker, plain, V4, 119.9) == cookie
    message = add_macs(MESSAGE, mac1_key(PUBLIC), cookie)
    assert checker.valid_mac2(message, V4, 119.9)
    assert not checker.valid_mac2(message, V4, 120.0)
    assert cookie_from(checker, plain, V4, 120.0) != cookie
    assert not checker.valid_mac2(message, V4, 120.0)


def test_cookie_opens_only_with_the_mac1_it_answers() -> None:
    """The cookie key is public: without this anyone could make a cookie reply."""
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    reply = unpack_cookie_reply(checker.reply(message, V4, 0.0))
    assert open_cookie(reply, cookie_key(PUBLIC), os.urandom(16)) is None
    assert open_cookie(reply, cookie_key(PUBLIC), mac1_of(message)) is not None


def test_macs_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return a == b

    monkeypatch.setattr(cookies, "compare_digest", compare)
    checker = CookieChecker(PUBLIC)
    message = add_macs(MESSAGE, mac1_key(PUBLIC), None)
    cookie_from(checker, message, V4, 0.0)
    checker.valid_mac1(message)
    checker.valid_mac2(message, V4, 0.0)
    assert [len(a) for a, _ in compared] == [16, 16]
