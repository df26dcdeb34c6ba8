"""20 Hz probes through tunnels, all in one thread, and the silence they show.

A probe socket may belong to any network namespace: what is sent in one and arrives in another is
stamped by the kernel with one clock.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import struct
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Final, Self

PERIOD: Final = 0.05
SLOTS: Final = 10
"""The probes of one period leave in so many bunches, so that their answers do not queue for each other."""
TICK: Final = PERIOD / SLOTS
"""Arrivals are read as often: waking for each of thousands a second would slow the servers down."""
RELAPSE: Final = 1.0
"""A silence after the first answer that is longer than this is a relapse, not jitter."""
IN_FLIGHT: Final = 0.1
"""What the killed server had already sent may arrive for so long."""

IP_PKTINFO: Final = 8
SO_TIMESTAMPNS: Final = 35
_TIMESPEC: Final = struct.Struct("qq")


@dataclass(slots=True)
class Flow:
    """Packets from one socket to an address, seen where they end: at the sender (echo) or at a receiver."""

    sender: socket.socket
    target: tuple[str, int]
    began: float = math.inf
    """When its first packet left."""
    arrivals: array[float] = field(default_factory=lambda: array("d"))


def silence(arrivals: Sequence[float], killed: float, limit: float) -> tuple[float, float]:
    """(the silence that the kill caused, the longest later one above RELAPSE or 0); inf when it did not end.

    The first starts with the last arrival before the kill, or with what was in flight then.
    """
    first = max(bisect_left(arrivals, killed) - 1, 0)
    times = arrivals[first : bisect_left(arrivals, killed + limit)]
    steps = list(zip(times, [*times[1:], math.inf], strict=True))
    caused = [(end - start, end) for start, end in steps if start <= killed + IN_FLIGHT and end > killed]
    if not caused:
        return math.inf, 0.0
    outage, back = max(caused)
    later = [min(end, killed + limit) - start for start, end in steps if start >= back]
    relapse = max(later, default=0.0)
    return outage, relapse if relapse > RELAPSE else 0.0


class Prober(threading.Thread):
    """Sends every flow's packet once a period, echoes, and notes arrivals."""

    def __init__(self) -> None:
        super().__init__(name="prober", daemon=True)
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._slots: list[list[Flow]] = [[] for _ in range(SLOTS)]
        self._count = 0
        self._stopping = threading.Event()
        self._to_monotonic = time.monotonic() - time.time()
        self.held = threading.Lock()
        """While someone else has it, nothing is sent, echoed or read."""

    def add_echo_server(self, server: socket.socket) -> None:
        """Answer what arrives, from the address it was sent to."""
        server.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)

        def echo() -> None:
            data, control, _, source = server.recvmsg(2048, 64)
            # in_pktinfo: interface (4 bytes), the address to answer from, the destination
            answer_from = bytes(4) + control[0][2][8:12] + bytes(4)
            server.sendmsg([data], [(socket.IPPROTO_IP, IP_PKTINFO, answer_from)], 0, source)

        self._watch(server, echo)

    def add_flow(self, sender: socket.socket, receiver: socket.socket, target: tuple[str, int]) -> Flow:
        """Probe `target` from `sender`; what `receiver` reads are the arrivals."""
        flow = Flow(sender, target)

        receiver.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)

        def arrive() -> None:
            _, control, _, _ = receiver.recvmsg(2048, 64)
            seconds, nanoseconds = _TIMESPEC.unpack(control[0][2])
            flow.arrivals.append(seconds + nanoseconds / 1e9 + self._to_monotonic)

        sender.setblocking(False)
        self._watch(receiver, arrive)
        self._slots[self._count % SLOTS].append(flow)
        self._count += 1
        return flow

    @staticmethod
    def discard(server: socket.socket) -> None:
        """Forget the probes that an echo server has not answered yet."""
        with contextlib.suppress(BlockingIOError):
            while True:
                server.recv(2048)

    def _watch(self, watched: socket.socket, reader: Callable[[], None]) -> None:
        watched.setblocking(False)
        self._readers[watched.fileno()] = reader
        self._epoll.register(watched, select.EPOLLIN)

    def run(self) -> None:
        due = time.monotonic()
        for slot in cycle(self._slots):
            if self._stopping.is_set():
                break
            due += TICK
            time.sleep(max(due - time.monotonic(), 0))
            with self.held:
                self._turn(slot)

    def _turn(self, slot: list[Flow]) -> None:
        for flow in slot:
            # Without the tunnel's device there is no route: a probe that cannot leave is lost.
            with contextlib.suppress(OSError):
                flow.began = min(flow.began, time.monotonic())
                flow.sender.sendto(b"probe", flow.target)
        for descriptor, _ in self._epoll.poll(0):
            with contextlib.suppress(OSError):
                while True:  # one a tick would be less than the clients of a server send
                    self._readers[descriptor]()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()
        self._epoll.close()
