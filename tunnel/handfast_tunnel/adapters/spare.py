"""A spare worker: forked before it is needed, it rehearses, and waits for descriptors and the word.

A fresh fork is slow: each page that it writes to is copied first, and Python writes wherever it reads. A
spare has that behind it. It holds no descriptor but its line, no key and no state. It is a worker from the
word on, and dies with the keeper.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

log = logging.getLogger(__name__)

PATIENCE: Final = 1.0
"""Seconds that a spare may take to answer: one that was stopped (SIGSTOP) holds nobody up for longer."""

HAS_LET_GO: Final = b"."
GO: Final = b"!"
IS_AWAKE: Final = b"*"
SEPARATOR: Final = b"\0"
MESSAGE_BYTES: Final = 4096
MAX_DESCRIPTORS: Final = 253
"""SCM_MAX_FD: so many fit into one message."""


class Spare:
    """As its keeper sees it."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self.line = line

    def has_let_go(self) -> bool:
        """Waits until what the keeper holds is not held here: what a worker closes must not live on in a
        spare. False where it does not answer; then it is gone."""
        return self._says(HAS_LET_GO)

    def wake(self, held: Mapping[str, int]) -> bool:
        """Gives it the descriptors: it is a worker now. False where it does not answer; then it is gone."""
        message = SEPARATOR.join([GO, *map(str.encode, held)])
        try:
            socket.send_fds(self.line, [message], list(held.values()))
        except OSError:
            self.dismiss()
            return False
        return self._says(IS_AWAKE)

    def _says(self, word: bytes) -> bool:
        poll = select.poll()
        poll.register(self.line, select.POLLIN)
        with suppress(ConnectionError):
            if poll.poll(PATIENCE * 1000) and self.line.recv(len(word)) == word:
                return True
        self.dismiss()
        return False

    def dismiss(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        self.line.close()


def wait_for_the_word(line: socket.socket, rehearse: Callable[[], None]) -> dict[str, int] | None:
    """A spare's life until it is a worker: descriptors by name; None if it is not needed."""
    line.send(HAS_LET_GO)
    try:
        rehearse()
    except Exception:  # whoever wakes it needs it all the same
        log.exception("the spare worker could not rehearse")
    gc.freeze()
    message, fds, _, _ = socket.recv_fds(line, MESSAGE_BYTES, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    if not message:
        return None
    line.send(IS_AWAKE)
    _, *names = message.split(SEPARATOR)
    return dict(zip(map(bytes.decode, names), fds, strict=True))
