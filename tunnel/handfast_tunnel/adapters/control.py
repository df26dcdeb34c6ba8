"""The local control socket: /run/handfast/INTERFACE.control, for people and hooks.

A request is one line of JSON, `{"call": "drain", "on": true}`; so is its answer, which has the key
`error` where the call was refused. The calls themselves are in `calls`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import ConfigurationError, HandfastError
from .calls import CALLS, Answer
from .local_server import NEXT_TURN, Client, Conversation, LocalServer, listen, remove

if TYPE_CHECKING:
    from .tunnel import Tunnel

SUFFIX: Final = ".control"
REQUEST_LIMIT: Final = 1024 * 1024
"""Enough to name 20,000 peers."""
ANSWER_TIME: Final = 30.0


def directory() -> Path:
    return Path(os.environ.get("HANDFAST_RUN_DIR") or "/run/handfast")


def open_listener(interface: str) -> socket.socket:
    return listen(directory() / f"{interface}{SUFFIX}", 0o700)


class ControlServer:
    def __init__(self, tunnel: Tunnel, listener: socket.socket) -> None:
        self._tunnel = tunnel
        self._path = Path(listener.getsockname())
        self._server = LocalServer(tunnel.loop, listener, self._converse)

    def close(self) -> None:
        self._server.close()
        remove(self._path)

    def _converse(self, client: Client) -> Conversation:
        while True:
            line = yield from client.receive_line(REQUEST_LIMIT)
            try:
                for piece in _answer(self._tunnel, line):
                    yield from client.send(piece.encode())
                    yield NEXT_TURN
            except ConfigurationError as error:
                refusal = json.dumps({"error": str(error)})
                yield from client.send(refusal.encode())
            yield from client.send(b"\n")


def _answer(tunnel: Tunnel, line: bytes) -> Answer:
    try:
        request = json.loads(line)
        call = CALLS[request["call"]]
    except (ValueError, TypeError, KeyError):
        raise ConfigurationError(f"a request is {{'call': one of {', '.join(CALLS)}}} in JSON") from None
    return call(tunnel, request)


class ControlError(HandfastError):
    """A running tunnel cannot be asked, or refused."""


def running() -> list[str]:
    """The interfaces of this host whose tunnels answer."""
    try:
        paths = sorted(directory().glob(f"*{SUFFIX}"))
    except OSError as error:
        raise ControlError(f"cannot look into {directory()}: {error.strerror}") from None
    return [path.stem for path in paths if _answers(path)]


def ask(interface: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Calls a running tunnel and waits for its answer."""
    path = directory() / f"{interface}{SUFFIX}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIME)
            connection.connect(str(path))
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlError(
            f"no tunnel answers at {path}: start `handfast-tunnel {interface}`, or say its HANDFAST_RUN_DIR"
        ) from None
    except (OSError, ValueError) as error:
        raise ControlError(f"asking the tunnel at {path} failed: {_reason(error)}") from None
    if "error" in answer:
        raise ControlError(f"{interface} refused: {answer['error']}")
    return answer


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "it ended before its answer"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex(str(path)) == 0
