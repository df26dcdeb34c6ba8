"""A keeper in a process of its own, with workers that do next to nothing, for tests."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from handfast_tunnel.adapters.keeper import Keeper, KeeperLine, RestartLimit
from handfast_tunnel.adapters.systemd import Notifier

PATIENCE = 20.0
PR_SET_CHILD_SUBREAPER = 36

Work = Callable[[KeeperLine], int]


class Kept:
    """A keeper, and what its workers report, a line each."""

    def __init__(self) -> None:
        self.reports, self._writer = os.pipe()
        self.pid = 0
        self.environment: dict[str, str] = {}
        self.rehearse: Callable[[], None] = lambda: None
        self.prepare: Callable[[KeeperLine], None] = lambda _: None
        """What a worker does before it is sure that it is needed."""
        self._text = b""

    def report(self, text: object) -> None:
        """Called by workers."""
        os.write(self._writer, f"{text}\n".encode())

    def start(self, work: Work, limit: RestartLimit | None = None) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child needs none of the other threads
            self.pid = os.fork()
        if not self.pid:
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            first = lambda: self.report("first ready")  # noqa: E731

            def replaceable(line: KeeperLine) -> int:
                self.prepare(line)
                line.wait_for_the_word()
                line.can_be_replaced = True
                return work(line)

            notifier = Notifier(self.environment)
            os._exit(Keeper(replaceable, limit or RestartLimit(), first, notifier, self.rehearse).run())
        os.close(self._writer)

    def line(self) -> str:
        """The next report; "" when all processes are gone."""
        while b"\n" not in self._text:
            assert select.select([self.reports], [], [], PATIENCE)[0], "nothing is reported"
            data = os.read(self.reports, 4096)
            if not data:
                return ""
            self._text += data
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def status(self) -> int:
        """The keeper's exit status."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        raise AssertionError("the keeper does not end")

    def end(self) -> None:
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.reports)


def serve(line: KeeperLine) -> None:
    """Ready, and the keeper knows it: it answers requests in their order."""
    line.ready()
    line.release("nothing")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def children() -> list[int]:
    """Of the keeper, as its worker sees them: itself and a spare."""
    keeper_id = os.getppid()
    return [int(pid) for pid in Path(f"/proc/{keeper_id}/task/{keeper_id}/children").read_text().split()]


def live_until(line: KeeperLine, condition: Callable[[], bool]) -> None:
    """Giving signs of life: upon one the keeper reaps, and forks a spare."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        line.alive()
        time.sleep(0.01)
