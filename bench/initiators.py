"""Peers without an interface: they shake hands with a server from one socket, thousands of them.

Built on the project's own Noise functions, which the interop tests prove against wireguard-go.
"""

from __future__ import annotations

import base64
import socket
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.messages import TYPE_RESPONSE, message_type, pack_initiation, unpack_response
from handfast_tunnel.core.noise import (
    NO_PRESHARED_KEY,
    InitiatorState,
    consume_response,
    create_initiation,
    diffie_hellman,
    mac1_key,
    static_key,
)
from handfast_tunnel.core.tai64n import next_stamp, pack_stamp

WINDOW: Final = 16
"""Handshakes in flight: few enough that a server does not take them for a flood."""
PATIENCE: Final = 1.0
UNDER_LOAD_TIME: Final = 1.1
"""A server that was held up by other work may ask for cookies for a second."""
ATTEMPTS: Final = 3
_KEEPALIVE_NONCE: Final = bytes(12)


class Session(NamedTuple):
    receiver: int
    """The server's index."""
    send: bytes
    receive: bytes


class Initiator:
    """One peer; `index` names its handshakes on the wire."""

    def __init__(self, index: int, server_key: str) -> None:
        self.index = index
        self._own = static_key(X25519PrivateKey.generate().private_bytes_raw())
        self._server = base64.b64decode(server_key)
        self._static_static = diffie_hellman(self._own.private, self._server)
        self._mac1_key = mac1_key(self._server)
        self._stamp = 0
        self._state: InitiatorState | None = None
        self._session: Session | None = None

    @property
    def public_key(self) -> str:
        return base64.b64encode(self._own.public).decode()

    def initiation(self) -> bytes:
        self._stamp = next_stamp(time.time(), self._stamp)
        message, self._state = create_initiation(
            self._own,
            self._server,
            self._static_static,
            self.index,
            pack_stamp(self._stamp),
            X25519PrivateKey.generate(),
        )
        return add_macs(pack_initiation(message), self._mac1_key, None)

    def confirmation(self, response: bytes) -> bytes:
        """A keepalive on the new keys: with it the server has a session that it may send on."""
        assert self._state
        message = unpack_response(response)
        keys = consume_response(self._own, self._state, NO_PRESHARED_KEY, message)
        self._session = Session(message.sender, *keys)
        header = b"\4\0\0\0" + message.sender.to_bytes(4, "little") + bytes(8)
        return header + ChaCha20Poly1305(keys.send).encrypt(_KEEPALIVE_NONCE, b"", None)

    @property
    def session(self) -> Session:
        """Of the last confirmation, whose counter was 0."""
        assert self._session
        return self._session


def answered(sock: socket.socket, initiations: Iterable[bytes]) -> int:
    """Send them in a closed loop over a connected socket; how many responses came."""
    sock.settimeout(PATIENCE)
    waiting = iter(initiations)
    responses = 0
    in_flight = _send(sock, islice(waiting, WINDOW))
    while in_flight:
        try:
            datagram = sock.recv(2048)
        except TimeoutError:
            # What was in flight is lost.
            in_flight = _send(sock, islice(waiting, WINDOW))
            continue
        if message_type(datagram) == TYPE_RESPONSE:
            responses += 1
        else:
            time.sleep(UNDER_LOAD_TIME)
        in_flight += _send(sock, islice(waiting, 1)) - 1
    return responses


def _send(sock: socket.socket, datagrams: Iterable[bytes]) -> int:
    return sum(1 for datagram in datagrams if sock.send(datagram))


def open_sessions(sock: socket.socket, initiators: Sequence[Initiator], window: int = WINDOW) -> int:
    """One confirmed session each, so many at a time; how many were had."""
    missing = list(initiators)
    for _ in range(ATTEMPTS):
        groups = [missing[start : start + window] for start in range(0, len(missing), window)]
        missing = [initiator for group in groups for initiator in _open_group(sock, group)]
    return len(initiators) - len(missing)


def _open_group(sock: socket.socket, group: Sequence[Initiator]) -> list[Initiator]:
    """Returns those that got a cookie instead of a response."""
    sock.settimeout(PATIENCE)
    missing = {initiator.index: initiator for initiator in group}
    in_flight = _send(sock, (initiator.initiation() for initiator in group))
    while in_flight:
        try:
            datagram = sock.recv(2048)
        except TimeoutError:
            break
        in_flight -= 1
        if message_type(datagram) == TYPE_RESPONSE:
            initiator = missing.pop(unpack_response(datagram).receiver)
            sock.send(initiator.confirmation(datagram))
    if missing:
        time.sleep(UNDER_LOAD_TIME)
    return list(missing.values())
