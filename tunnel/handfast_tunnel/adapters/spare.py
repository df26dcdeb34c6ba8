"""A spare worker: forked before it is needed, it rehearses, and waits for the end of the one that serves.

A fresh fork is slow: each page that it writes to is copied first, and Python writes wherever it reads. A
spare has that behind it. It has what the keeper held when it was forked, and no key and no state. It is a
worker from the word on, and dies with the keeper.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds that a spare may take to answer: one that was stopped (SIGSTOP) holds nobody up for longer."""

GO: Final = b"!"
IS_AWAKE: Final = b"*"


class Spare:
    """As its keeper sees it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line

    def wake(self) -> bool:
        """It is a worker now. False where it does not answer; then it is gone."""
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        with suppress(OSError):
            self.line.send(GO)
            if poll.poll(PATIENCE * 1000) and self.line.recv(len(IS_AWAKE)) == IS_AWAKE:
                return True
        self.dismiss()
        return False

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def dismiss(self) -> None:
        self.kill()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.line.close()


def get_ready(rehearse: Callable[[], None]) -> None:
    """The first part of a spare's life."""
    try:
        rehearse()
    except Exception as error:  # noqa: BLE001 - whoever wakes it needs it all the same
        log.warning("the spare worker could not rehearse: %r", error)
    gc.freeze()


def wait_for_the_word(line: socket.socket) -> None:
    """The last part: where the keeper has no use for it, it ends here."""
    if line.recv(len(GO)) != GO:
        os._exit(0)
    line.send(IS_AWAKE)
