"""The keeper: a parent that outlives its worker, holds its descriptors, and hands them to the next one.

While no worker lives, packets wait in the kernel's queues of those descriptors. The next worker is there
before it is needed: a spare, forked while the present one serves (`spare`). Where there is none, a fork does
it: the keeper imports what a worker needs. It opens nothing, starts no thread, never holds a key and touches
no packet.
"""

from __future__ import annotations

import errno
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
from ..errors import HandfastError
from ..libc import die_with_parent
from .spare import Spare, get_ready, wait_for_the_word
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

DONE: Final = b"k"
REFUSED: Final = b"x"


class NotHeldError(HandfastError):
    """The keeper has no room for one more descriptor."""


class RestartLimit(NamedTuple):
    """More than `deaths` within `seconds`: give up."""

    deaths: int = 5
    seconds: float = 60.0


class KeeperLine:
    """A worker's line to its keeper. What it holds it holds for certain: such requests are answered."""

    def __init__(self, line: socket.socket, held: dict[str, int], *, is_spare: bool = False) -> None:
        self._line = line
        self.is_spare = is_spare
        """Whether another worker still serves, or is about to end; see `wait_for_the_word`."""
        self.inherited = held
        """Descriptors by name that a former worker left; this one's own from here on."""
        self.can_be_replaced = False
        """Whether a next worker could go on from what this one leaves."""

    def wait_for_the_word(self) -> None:
        """Before it does anything that others notice, a spare waits until it is the worker."""
        if self.is_spare:
            wait_for_the_word(self._line)
            self.is_spare = False

    def hold(self, name: str, fd: int) -> None:
        """From here on `fd` outlives this process under `name`; an older one of that name is let go.

        Raises NotHeldError; then nothing has changed.
        """
        socket.send_fds(self._line, [HOLD + name.encode()], [fd])
        if self._line.recv(1) == REFUSED:
            raise NotHeldError(
                f"the keeper cannot hold {name}: {os.strerror(errno.EMFILE)}; raise RLIMIT_NOFILE"
            )

    def release(self, name: str) -> None:
        self._line.send(RELEASE + name.encode())
        self._line.recv(1)

    def ready(self) -> None:
        """The worker serves: if it dies now, another takes its place, where one can."""
        self._line.send(READY if self.can_be_replaced else SERVES)

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
        rehearse: Callable[[], None] = lambda: None,
    ) -> None:
        """`rehearse` is what a spare does before it waits, so that what comes is not the first time."""
        self._work = work
        self._limit = limit
        self._on_first_ready: Callable[[], None] | None = on_first_ready
        self._notifier = notifier
        self._rehearse = rehearse
        self._restarts = 0
        self._held: dict[str, int] = {}
        self._deaths: deque[float] = deque()
        self._ending = False
        self._worker = 0
        self._line: socket.socket
        self._spare: Spare | None = None

    def run(self) -> int:
        """Until a worker ends by itself or too many have died; the exit status."""
        static_key(bytes(32))  # the first X25519 of a process costs 7 ms: not in each worker
        for number in FORWARDED_SIGNALS:
            signal.signal(number, self._forward)
        try:
            return self._keep()
        finally:
            self._dismiss_spare()

    def _keep(self) -> int:
        ever_ready = False
        former = 0
        while self._start_worker():
            if former:  # only now: packets wait
                self._tell_of_death(former)
            status, was_ready = self._keep_one()
            ever_ready = ever_ready or was_ready
            if status == 0 or self._ending or not ever_ready:
                return max(status, 0) if status >= 0 else 128 - status
            if self._too_many_deaths():
                log.error("%d workers died within %g s: giving up", len(self._deaths), self._limit.seconds)
                return 1
            former = status
        return 0

    def _tell_of_death(self, status: int) -> None:
        self._restarts += 1
        log.warning("the worker died (%s): the next one goes on", _describe(status))
        self._notifier.status(f"the worker died ({_describe(status)}): the next one goes on")

    def _forward(self, number: int, _frame: object) -> None:
        self._ending = True
        self._notifier.stopping()
        if self._spare is not None:
            self._spare.kill()  # first: it must not take the end for a death
        if self._worker:
            with suppress(ProcessLookupError):
                os.kill(self._worker, number)

    def _too_many_deaths(self) -> bool:
        now = time.monotonic()
        self._deaths.append(now)
        while self._deaths[0] < now - self._limit.seconds:
            self._deaths.popleft()
        return len(self._deaths) > self._limit.deaths

    # --- processes --------------------------------------------------------------------------------

    def _start_worker(self) -> bool:
        """Wakes the spare or forks, unless a signal said to end. None gets lost between the processes."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED_SIGNALS)
        try:
            if self._ending:
                return False
            spare, self._spare = self._spare, None
            if spare is not None and spare.wake():
                self._worker, self._line = spare.pid, spare.line
            else:
                self._worker, self._line = self._fork(self._work_at_once)
            return True
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)

    def _fork(self, life: Callable[[socket.socket], int]) -> tuple[int, socket.socket]:
        """A child that lives `life` with its end of a line, of which this is ours; signals are blocked."""
        keeper = os.getpid()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            child = os.fork()
        except OSError:
            ours.close()
            theirs.close()
            raise
        if child == 0:
            ours.close()
            os._exit(self._live(life, theirs, keeper))
        theirs.close()
        return child, ours

    def _live(self, life: Callable[[socket.socket], int], line: socket.socket, keeper: int) -> int:
        for number in FORWARDED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)
        gc.freeze()  # no collection need touch, and so copy, what the keeper made
        die_with_parent()
        if os.getppid() != keeper:
            return 1
        try:
            return life(line)
        except BaseException:
            log.exception("the worker failed")
            return 70  # EX_SOFTWARE

    def _work_at_once(self, line: socket.socket) -> int:
        held, self._held = self._held, {}
        return self._work(KeeperLine(line, held))

    def _fork_spare(self) -> None:
        """Where that fails, the next worker is forked when it is needed."""
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED_SIGNALS)
        try:
            self._spare = Spare(*self._fork(self._work_when_told))
        except OSError as error:
            log.debug("no spare worker: %s", error.strerror)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED_SIGNALS)

    def _work_when_told(self, line: socket.socket) -> int:
        self._line.close()
        held, self._held = self._held, {}
        get_ready(self._rehearse)
        ours = KeeperLine(line, held, is_spare=True)
        try:
            return self._work(ours)
        except BaseException:
            ours.wait_for_the_word()  # nobody wants to hear it of one that was not needed
            raise

    def _dismiss_spare(self) -> None:
        spare, self._spare = self._spare, None
        if spare is not None:
            spare.dismiss()

    # --- a worker's life --------------------------------------------------------------------------

    def _keep_one(self) -> tuple[int, bool]:
        """One worker's life: (exit status, negative for a signal; whether it was ever ready)."""
        with self._line as line:
            was_ready = self._listen(line)
        status = self._reap()
        self._worker = 0
        return status, was_ready

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
                request = message[:1]
                if request in {HOLD, RELEASE}:
                    line.send(self._serve(request, message[1:].decode(), fds))
                elif request == ALIVE:
                    self._notifier.alive()
                    self._reap_others()
                    if was_ready and self._spare is None and not self._ending:
                        self._fork_spare()
                else:
                    was_ready = request == READY
                    patience = WATCHDOG_SECONDS
                    self._note_ready()
            except ConnectionError:
                return was_ready

    def _note_ready(self) -> None:
        self._notifier.ready(f"serving; workers replaced so far: {self._restarts}")
        if self._on_first_ready is not None:
            self._on_first_ready()
            self._on_first_ready = None

    def _serve(self, request: bytes, name: str, fds: list[int]) -> bytes:
        """The answer. A descriptor that found no room here did not come (unix(7), SCM_RIGHTS)."""
        if request == HOLD and not fds:
            return REFUSED
        self._dismiss_spare()  # it has what was held; the next one will have what is
        if name in self._held:
            os.close(self._held.pop(name))
        if request == HOLD:
            [self._held[name]] = fds
        return DONE

    def _reap_others(self) -> None:
        """As PID 1 of a container the keeper is also the parent of whatever lost its own."""
        while (child := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if child.si_pid == self._worker:
                return
            os.waitpid(child.si_pid, 0)
            self._note_end(child.si_pid)

    def _reap(self) -> int:
        """Waits for the worker, whoever else ends meanwhile."""
        while True:
            pid, status = os.waitpid(-1, 0)
            if pid == self._worker:
                return os.waitstatus_to_exitcode(status)
            self._note_end(pid)

    def _note_end(self, pid: int) -> None:
        if self._spare is not None and self._spare.pid == pid:
            self._spare.line.close()
            self._spare = None


def _describe(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"
