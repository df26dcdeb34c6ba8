"""Messages that nobody asked for: floods of initiations with a valid mac1, and noise."""

from __future__ import annotations

import base64
import os
import random
import socket
import threading
import time
from contextlib import suppress
from hashlib import blake2s
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from .namespaces import Node

_MAC1_LABEL = b"mac1----"


def forged_initiation(public_key: str) -> bytes:
    """An initiation that passes mac1 for this responder and fails only after a Diffie-Hellman."""
    key = blake2s(_MAC1_LABEL + base64.b64decode(public_key)).digest()
    message = b"\1\0\0\0" + os.urandom(112)
    return message + blake2s(message, digest_size=16, key=key).digest() + bytes(16)


def noise(size: int, count: int, seed: int) -> list[bytes]:
    """Random datagrams: of each type in turn at its proper length or any other, and of no type at all."""
    chance = random.Random(seed)  # noqa: S311 (repeatable)
    proper = {1: 148, 2: 92, 3: 64, 4: 32}
    datagrams = []
    for number in range(count):
        type_ = number % 5
        length = proper[type_] if type_ in proper and number % 2 else chance.randrange(size)
        body = chance.randbytes(length)
        datagrams.append(bytes([type_, 0, 0, 0])[:length] + body[4:] if type_ else body)
    return datagrams


class Flood:
    """Sends forged initiations as fast as `rate` says until it is left; a context manager."""

    def __init__(self, node: Node, address: str, port: int, public_key: str, rate: float = 20_000) -> None:
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
        # Bursts, not a steady stream: what fills a responder's queue is what it cannot work off meanwhile.
        burst = max(int(self._rate / 10), 1)
        while self._open:
            began = time.monotonic()
            for number in range(burst):
                with suppress(OSError):
                    self._socket.sendto(self._messages[number % len(self._messages)], self._target)
            time.sleep(max(began + 0.1 - time.monotonic(), 0.01))
