"""The local control socket: /run/handfast/INTERFACE.control, for people and hooks.

A request is one line of JSON, `{"call": "drain", "on": true}`; so is its answer, which has the key
`error` where the call was refused. The calls themselves are in `calls`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import ConfigurationError
from .local_server import NEXT_TURN, Client, Conversation, LocalServer, listen, remove

if TYPE_CHECKING:
    from .calls import Answer
    from .tunnel import Tunnel

SUFFIX: Final = ".control"
REQUEST_LIMIT: Final = 1024 * 1024
"""Enough to name 20,000 peers."""


def directory() -> Path:
    return Path(os.environ.get("HANDFAST_RUN_DIR") or "/run/handfast")


def open_listener(interface: str) -> socket.socket:
    return listen(directory() / f"{interface}{SUFFIX}", 0o700)


class ControlServer:
    """`answer` is what the calls do, those of `calls` if it is not given."""

    def __init__(
        self, tunnel: Tunnel, listener: socket.socket, answer: Callable[[bytes], Answer] | None = None
    ) -> None:
        self._tunnel = tunnel
        self._answer = answer
        self._path = Path(listener.getsockname())
        self._server = LocalServer(tunnel.loop, listener, self._converse)

    def close(self) -> None:
        self._server.close()
        remove(self._path)

    def _converse(self, client: Client) -> Conversation:
        from . import calls

        answer = self._answer or partial(calls.answer, self._tunnel)
        while True:
            line = yield from client.receive_line(REQUEST_LIMIT)
            while self._tunnel.device.building_up:
                yield NEXT_TURN
            try:
                for piece in answer(line):
                    yield from client.send(piece.encode())
                    yield NEXT_TURN
            except ConfigurationError as error:
                yield from client.send(calls.format_refusal(error).encode())
            yield from client.send(b"\n")
