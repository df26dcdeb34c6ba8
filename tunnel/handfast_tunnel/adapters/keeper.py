"""The keeper: a parent that outlives its worker, holds its descriptors, and forks the next one with them.

While no worker lives, packets wait in the kernel's queues of those descriptors. The keeper imports what a
worker needs, so that a fork is ready at once; it opens nothing, starts no thread, never holds a key and
touches no packet.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from ..core.noise import static_key
from ..libc import die_with_parent
from .systemd import Notifier

log = logging.getLogger(__name__)

WATCHDOG_SECONDS: Final = 5.0
"""A worker that says nothing for so long hangs, and is killed."""
START_SECONDS: Final = 10.0
"""So long it may say nothing before it serves: 10,000 sessions take a second, a state memory's lock two."""
MESSAGE_BYTES: Final = 256
FORWARDED_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

HOLD: Final = b"+"
RELEASE: Final = b"-"
READY: Final = b"!"
SERVES: Final = b"="
ALIVE: Final = b"."


class RestartLimit(NamedTuple):
    """More than `deaths` within `seconds`: give up."""

    deaths: int = 5
    seconds: float = 60.0


class KeeperLine:
    """A worker's line to its keeper. Requests are acknowledged: what is held is held for certain."""

    def __init__(self, line: socket.socket, held: dict[str, int]) -> None:
        self._line = line
        self.inherited = held
        """Descriptors by name that a former worker left; this one's own from here on."""
        self.can_be_replaced = False
        """Whether a next worker could go on from what this one leaves."""

    def hold(self, name: str, fd: int) -> None:
        """From here on `fd` outlives this process under `name`; an older one of that name is let go."""
        socket.send_fds(self._line, [HOLD + name.encode()], [fd])
        self._line.recv(1)

    def release(self, name: str) -> None:
        self._line.send(RELEASE + name.encode())
        self._line.recv(1)

    def ready(self) -> None:
        """The worker serves: if it dies now, another takes its place, where one can."""
        self._line.send(READY if self.can_be_replaced else SERVES)
        self._line.recv(1)

    def alive(self) -> None:
        self._line.send(ALIVE)


class Keeper:
    """Keeps one worker running. `work` is what a worker does; it returns the exit status."""

    def __init__(
        self,
        work: Callable[[KeeperLine], int],
        limit: RestartLimit,
        on_first_ready: Callable[[], None],
        notifier: Notifier,
    ) -> None:
        self._work = work
        self._limit = limit
        self._on_first_ready: Callable[[], None] | None = on_first_ready
        self._notifier = notifier
        self._restarts = 0
        self._held: dict[str, int] = {}
        self._deaths: deque[float] = deque()
        self._ending = False
        self._worker = 0
        self._line: socket.socket

    def run(self) -> int:
        """Until a worker ends by itself or too many have died; the exit status."""
        static_key(bytes(32))  # the first X25519 of a process costs 7 ms: not in each worker
        for number in FORWARDED_SIGNALS:
            signal.signal(number, self._forward)
        ever_ready = False
        while self._fork():
            status, was_ready = self._keep_one()
            ever_ready = ever_ready or was_ready
            if status == 0 or self._ending or not ever_ready:
                return max(status, 0) if status >= 0 else 128 - status
            if self._too_many_deaths():
                log.error("%d workers died within %g s: giving up", len(self._deaths), self._limit.seconds)
                return 1
            log.warning("the worker died (%s): the next one goes on", _describe(status))
            self._notifier.status(f"the worker died ({_describe(status)}): the next one goes on")
            self._restarts += 1
        return 0

    def _forward(self, number: int, _frame: object) -> None:
        self._ending = True
        self._notifier.stopping()
        if self._worker:
            with suppress(ProcessLookupError):
                os.kill(self._worker, number)

    def _too_many_deaths(self) -> bool:
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - self._limit.seconds:
            self._deaths.popleft()
        return len(self._deaths) > self._limit.deaths

    def _fork(self) -> bool:
        """Starts a worker, unless a signal said to end. None gets lost between the two processes."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED_SIGNALS)
        try:
            if self._ending:
                return False
            keeper = os.getpid()
            self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._worker = os.fork()
            if self._worker == 0:
                self._line.close()
                os._exit(self._become_worker(theirs, keeper))
            theirs.close()
            return True
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)

    def _keep_one(self) -> tuple[int, bool]:
        """One worker's life: (exit status, negative for a signal; whether it was ever ready)."""
        with self._line as line:
            was_ready = self._listen(line)
        status = self._reap()
        self._worker = 0
        return status, was_ready

    def _become_worker(self, line: socket.socket, keeper: int) -> int:
        for number in FORWARDED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)
        gc.freeze()  # no collection need touch, and so copy, what the keeper made
        die_with_parent()
        if os.getppid() != keeper:
            return 1
        held, self._held = self._held, {}
        try:
            return self._work(KeeperLine(line, held))
        except BaseException:
            log.exception("the worker failed")
            return 70  # EX_SOFTWARE

    def _listen(self, line: socket.socket) -> bool:
        """Serves the worker's requests until it is gone."""
        was_ready = False
        patience = START_SECONDS
        poll = select.poll()
        poll.register(line, select.POLLIN)
        while True:
            if not poll.poll(patience * 1000):
                log.error("the worker was silent for %g s: it is killed", patience)
                os.kill(self._worker, signal.SIGKILL)
                return was_ready
            try:
                message, fds, _, _ = socket.recv_fds(line, MESSAGE_BYTES, 1)
                if not message:
                    return was_ready
                self._serve(message[:1], message[1:].decode(), fds)
                if message[:1] in {READY, SERVES}:
                    was_ready = message[:1] == READY
                    patience = WATCHDOG_SECONDS
                    self._note_ready()
                if message[:1] == ALIVE:
                    self._notifier.alive()
                    self._reap_orphans()
                else:
                    line.send(b"k")
            except ConnectionError:
                return was_ready

    def _note_ready(self) -> None:
        self._notifier.ready(f"serving; workers replaced so far: {self._restarts}")
        if self._on_first_ready is not None:
            self._on_first_ready()
            self._on_first_ready = None

    def _serve(self, request: bytes, name: str, fds: list[int]) -> None:
        if request in {HOLD, RELEASE} and name in self._held:
            os.close(self._held.pop(name))
        if request == HOLD:
            [self._held[name]] = fds

    def _reap_orphans(self) -> None:
        """As PID 1 of a container the keeper is also the parent of whatever lost its own."""
        while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if child.si_pid == self._worker:
                return
            os.waitpid(child.si_pid, 0)

    def _reap(self) -> int:
        """Waits for the worker, whoever else ends meanwhile."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._worker:
                return os.waitstatus_to_exitcode(status)


def _describe(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
