"""Messages that nobody asked for: floods of initiations with a valid mac1, noise, replays and forgeries."""

from __future__ import annotations

import base64
import os
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from hashlib import blake2s
from types import TracebackType
from typing import Self

from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_encrypt

from .namespaces import Node
from .wire import Datagram

_MAC1_LABEL = b"mac1----"


def with_macs(message: bytes, public_key: str) -> bytes:
    """A handshake message with the mac1 that this receiver expects, and no mac2."""
    key = blake2s(_MAC1_LABEL + base64.b64decode(public_key)).digest()
    return message + blake2s(message, digest_size=16, key=key).digest() + bytes(16)


def forged_initiation(public_key: str) -> bytes:
    """An initiation that passes mac1 for this responder and fails only after a Diffie-Hellman."""
    return with_macs(b"\1\0\0\0" + os.urandom(112), public_key)


def noise(size: int, count: int, seed: int) -> list[bytes]:
    """Random datagrams: of each type in turn at its proper length or any other, and of no type at all."""
    chance = random.Random(seed)
    proper = {1: 148, 2: 92, 3: 64, 4: 32}
    datagrams = []
    for number in range(count):
        type_ = number % 5
        length = proper[type_] if type_ in proper and number % 2 else chance.randrange(size)
        body = chance.randbytes(length)
        datagrams.append(bytes([type_, 0, 0, 0])[:length] + body[4:] if type_ else body)
    return datagrams


def cookie_reply(initiation: bytes, public_key: str, mac1: bytes | None = None) -> bytes:
    """What anyone who saw an initiation to this responder can answer it with."""
    key = blake2s(b"cookie--" + base64.b64decode(public_key)).digest()
    nonce, mac1 = os.urandom(24), mac1 or initiation[116:132]
    sealed = crypto_aead_xchacha20poly1305_ietf_encrypt(os.urandom(16), mac1, nonce, key)
    return b"\3\0\0\0" + initiation[4:8] + nonce + sealed


class Injector:
    """Puts datagrams on the wire at the router, with any source address (IPv4)."""

    def __init__(self, router: Node) -> None:
        self._socket = router.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)

    def close(self) -> None:
        self._socket.close()

    def send(self, payload: bytes, source: tuple[str, int], destination: tuple[str, int]) -> None:
        self._socket.sendto(_udp(payload, source, destination), destination)

    def resend(self, datagram: Datagram, payload: bytes | None = None) -> None:
        """Send a captured datagram once more, as it was or with another payload."""
        source = datagram.source, datagram.source_port
        self.send(payload or datagram.payload, source, (datagram.destination, datagram.destination_port))

    def claim_small_path(self, datagram: Datagram, mtu: int) -> None:
        """Tell the sender of a captured datagram that a router could not pass it on unfragmented."""
        source = datagram.source, datagram.source_port
        quoted = _udp(datagram.payload, source, (datagram.destination, datagram.destination_port))[:28]
        message = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + quoted
        message = message[:2] + checksum(message) + message[4:]
        packet = _ipv4(socket.IPPROTO_ICMP, datagram.destination, datagram.source) + message
        self._socket.sendto(packet, (datagram.source, 0))


def _ipv4(protocol: int, source: str, destination: str) -> bytes:
    # The kernel fills in what is 0: length, identification and checksum.
    header = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, protocol, 0)
    return header + socket.inet_aton(source) + socket.inet_aton(destination)


def _udp(payload: bytes, source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    header = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0)
    return _ipv4(socket.IPPROTO_UDP, source[0], destination[0]) + header + payload


def checksum(message: bytes) -> bytes:
    """Of the Internet (RFC 1071)."""
    total = sum(int.from_bytes(message[at : at + 2], "big") for at in range(0, len(message), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2, "big")


class Flood:
    """Sends forged initiations as fast as `rate` says until it is left; a context manager."""

    def __init__(self, node: Node, address: str, port: int, public_key: str, rate: float = 6_000) -> None:
        self._messages = [forged_initiation(public_key) for _ in range(2_000)]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = node.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._target = (address, port)
        self._rate = rate
        self._open = True
        self._thread = threading.Thread(target=self._run, name="flood", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        # Bursts, not a steady stream: they fill a responder's queue, yet leave its socket's buffer room in
        # between for others.
        burst = max(int(self._rate / 10), 1)
        while self._open:
            began = time.monotonic()
            for number in range(burst):
                with suppress(OSError):
                    self._socket.sendto(self._messages[number % len(self._messages)], self._target)
            time.sleep(max(began + 0.1 - time.monotonic(), 0.03))
