"""MACs and cookies: what keeps a flood of handshakes cheap (paper, sections 5.3 and 5.4.7).

`CookieChecker` is the responder's side, one an interface; `mac1`/`add_macs` and `open_cookie` are the
initiator's.
"""

from __future__ import annotations

import os
from typing import Final

from .constants import COOKIE_SECRET_TIME
from .endpoint import Endpoint
from .hashes import blake2s, compare_digest
from .messages import COOKIE_NONCE_LENGTH, MAC_LENGTH, CookieReply, pack_cookie_reply, sender_index
from .noise import cookie_key, mac1_key

_NO_MAC: Final = bytes(MAC_LENGTH)
_MAC1: Final = slice(-2 * MAC_LENGTH, -MAC_LENGTH)
_MAC2: Final = slice(-MAC_LENGTH, None)


def _mac(key: bytes, data: bytes) -> bytes:
    return blake2s(data, digest_size=MAC_LENGTH, key=key).digest()


def mac1_of(datagram: bytes) -> bytes:
    return datagram[_MAC1]


def add_macs(message: bytes, remote_mac1_key: bytes, cookie: bytes | None) -> bytes:
    """A handshake message with mac1 and, where a cookie is held, mac2."""
    message += _mac(remote_mac1_key, message)
    return message + (_mac(cookie, message) if cookie else _NO_MAC)


def open_cookie(reply: CookieReply, remote_cookie_key: bytes, mac1: bytes) -> bytes | None:
    """The cookie, if the reply answers the message that carried `mac1`.

    The key is public; only who saw that message can have made the reply.
    """
    from .xchacha import open_

    return open_(remote_cookie_key, reply.nonce, reply.cookie, mac1)


class CookieChecker:
    """Verifies mac1 and mac2 of what reaches us and makes cookie replies."""

    def __init__(self, public_key: bytes) -> None:
        self._mac1_key = mac1_key(public_key)
        self._cookie_key = cookie_key(public_key)
        self._secret = b""
        self._secret_born = 0.0

    def valid_mac1(self, datagram: bytes) -> bool:
        return compare_digest(_mac(self._mac1_key, datagram[: _MAC1.start]), datagram[_MAC1])

    def valid_mac2(self, datagram: bytes, source: Endpoint, now: float) -> bool:
        if not self._secret or now - self._secret_born >= COOKIE_SECRET_TIME:
            return False
        expected = _mac(_mac(self._secret, source.packed()), datagram[: _MAC2.start])
        return compare_digest(expected, datagram[_MAC2])

    def reply(self, datagram: bytes, source: Endpoint, now: float) -> bytes:
        """A cookie reply to a handshake message whose mac1 is valid."""
        from .xchacha import seal

        if not self._secret or now - self._secret_born >= COOKIE_SECRET_TIME:
            self._secret, self._secret_born = os.urandom(32), now
        cookie = _mac(self._secret, source.packed())
        nonce = os.urandom(COOKIE_NONCE_LENGTH)
        sealed = seal(self._cookie_key, nonce, cookie, mac1_of(datagram))
        return pack_cookie_reply(CookieReply(sender_index(datagram), nonce, sealed))
