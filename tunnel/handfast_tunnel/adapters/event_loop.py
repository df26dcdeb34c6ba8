"""The event loop: epoll, because a packet must not pay for more (asyncio's datagrams cost 40 us each)."""

from __future__ import annotations

import heapq
import os
import select
import time
from collections import deque
from collections.abc import Callable, Iterator

_MAX_EVENTS = 64
_LONGEST_WAIT = 3600.0
_ANSWER_TIME = 0.001
"""So long may the end of a turn wait for what answers what went the short way."""


class EventLoop:
    """Callbacks by descriptor, and jobs that advance a step a turn so that packets never wait for them."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._short_ways: dict[int, Callable[[], bool]] = {}
        self._jobs: deque[Iterator[None]] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._sequence = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._status: int | None = None
        self._wakeup = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.watch(self._wakeup, self._run_posted)

    @property
    def now(self) -> float:
        """Seconds of CLOCK_BOOTTIME: sessions age while a machine sleeps, too."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def watch(
        self,
        fd: int,
        callback: Callable[[int], None],
        events: int = select.EPOLLIN,
        short_way: Callable[[], bool] | None = None,
    ) -> None:
        """Calls `callback(events)` in each turn in which `fd` is ready.

        `short_way` is tried before it, while nothing else was called since the last turn's end: if it returns
        that nothing is left to do, the turn goes on, and ends when nothing more comes.
        """
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback
        if short_way is not None:
            self._short_ways[fd] = short_way

    def change(self, fd: int, events: int) -> None:
        self._epoll.modify(fd, events)

    def unwatch(self, fd: int) -> None:
        """Must come before the descriptor is closed."""
        self._epoll.unregister(fd)
        del self._callbacks[fd]
        self._short_ways.pop(fd, None)

    def spawn(self, job: Iterator[None]) -> None:
        """Runs `job` one step a turn; a step should take no longer than a millisecond."""
        self._jobs.append(job)

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        """Calls `callback` in the first turn at or after `when`; from the loop's thread only."""
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, callback))

    def call_soon_threadsafe(self, callback: Callable[[], None]) -> None:
        self._posted.append(callback)
        os.eventfd_write(self._wakeup, 1)

    def stop(self, status: int = 0) -> None:
        """Ends `run` after this turn; from the loop's thread or a signal handler."""
        if self._status is None:
            self._status = status
        os.eventfd_write(self._wakeup, 1)

    def run(self, end_turn: Callable[[], float], go_long: Callable[[], None] = lambda: None) -> int:
        """Turns until `stop`; returns its status. `end_turn` closes a turn and says when the next is due;
        `go_long` is called before anything of a turn that does not go a short way."""
        timeout = 0.0  # first what waits already
        while self._status is None:
            ready = self._epoll.poll(timeout, _MAX_EVENTS)
            if ready and self._goes_short(ready):
                timeout = min(timeout, _ANSWER_TIME)
                continue
            go_long()
            for fd, events in ready:
                callback = self._callbacks.get(fd)
                if callback is not None:
                    callback(events)
            self._step_job()
            self._call_due()
            timeout = self._timeout(end_turn())
        return self._status

    def _goes_short(self, ready: list[tuple[int, int]]) -> bool:
        for fd, _ in ready:
            short_way = self._short_ways.get(fd)
            if short_way is None or not short_way():
                return False
        return True

    def close(self) -> None:
        self._epoll.close()
        os.close(self._wakeup)

    def _timeout(self, deadline: float) -> float:
        if self._jobs:
            return 0.0
        if self._timers:
            deadline = min(deadline, self._timers[0][0])
        return min(max(deadline - self.now, 0.0), _LONGEST_WAIT)

    def _step_job(self) -> None:
        if self._jobs:
            job = self._jobs.popleft()
            for _ in job:
                self._jobs.append(job)
                break

    def _call_due(self) -> None:
        while self._timers and self._timers[0][0] <= self.now:
            heapq.heappop(self._timers)[2]()

    def _run_posted(self, _events: int) -> None:
        os.eventfd_read(self._wakeup)
        while self._posted:
            self._posted.popleft()()
