"""Asks a running tunnel of this host: the other end of `control`."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import HandfastError
from .control import SUFFIX, directory

ANSWER_TIME: Final = 30.0


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
