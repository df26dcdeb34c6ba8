"""The process itself: kept out of dumps, put into the background, ended by signals."""

from __future__ import annotations

import gc
import logging
import os
import resource
import select
import signal
import sys
from typing import TYPE_CHECKING, Final

from ..errors import StartError
from ..libc import forbid_dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tunnel import Tunnel

READY: Final = b"\0"

log = logging.getLogger(__name__)


def protect_secrets() -> None:
    """Keys lie in this process's memory: no core dumps, no tracing by others."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        forbid_dumps()
    except OSError as error:
        log.warning("memory can be dumped by others of this user: %s", error.strerror)


def spread_garbage_collection() -> None:
    """No collection of everything: with 10,000 peers it stops packets for 30 ms; a young one takes 3 ms."""
    gc.set_threshold(5000, 4, 10_000)


def configure_logging(interface: str, level: int) -> None:
    """Lines as wireguard-go writes them, but to the standard error stream."""
    logging.basicConfig(
        level=level,
        format=f"%(levelname)s: ({interface}) %(asctime)s %(message)s",
        datefmt="%Y/%m/%d %H:%M:%S",
    )


def end_on_signals(tunnel: Tunnel, before: Callable[[Callable[[], None]], None] | None = None) -> None:
    """SIGTERM and SIGINT freeze the tunnel, so that nothing half-done leaves it, and end it with status 0.

    With `before`, SIGTERM calls that instead, which calls what it is given when the tunnel may end.
    """

    def end() -> None:
        tunnel.drain(True)
        tunnel.loop.stop(0)

    def told_to_end() -> None:
        end() if before is None else before(end)

    signal.signal(signal.SIGTERM, lambda *_: tunnel.loop.call_soon_threadsafe(told_to_end))
    signal.signal(signal.SIGINT, lambda *_: tunnel.loop.call_soon_threadsafe(end))


class Background:
    """The child of a fork. Its parent waits for its result, and ends with it."""

    def __init__(self, pipe: int, *, keep_output: bool) -> None:
        self._pipe = pipe
        self._keep_output = keep_output

    def detach(self) -> None:
        """From here on there is no terminal, and no parent that waits."""
        os.close(self._pipe)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0,) if self._keep_output else (0, 1, 2):
            os.dup2(null, fd)
        os.close(null)
        os.chdir("/")

    def report(self, result: bytes) -> None:
        """READY, or why this process cannot start, for the parent to print."""
        os.write(self._pipe, result)


def go_to_background(*, keep_output: bool) -> Background:
    """Returns in the child only. The parent ends with status 0, or raises the child's StartError."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.close(reading)
        os.setsid()
        return Background(writing, keep_output=keep_output)
    os.close(writing)
    result = os.read(reading, select.PIPE_BUF)
    if result == READY:
        sys.exit(0)
    raise StartError(result.decode() or "the background process died at its start: see why with --foreground")
