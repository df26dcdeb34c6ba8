"""20 Hz probes through tunnels, all in one thread, and the silence they show.

A probe socket may belong to any network namespace: what is sent in one and arrives in another is
stamped with one clock, CLOCK_MONOTONIC.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

PERIOD: Final = 0.05
SLOTS: Final = 10
"""The probes of one period leave in so many bunches, so that their answers do not queue for each other."""
RELAPSE: Final = 1.0
"""A silence after the first answer that is longer than this is a relapse, not jitter."""
IN_FLIGHT: Final = 0.1
"""What the killed server had already sent may arrive for so long."""

IP_PKTINFO: Final = 8


@dataclass(slots=True)
class Flow:
    """Packets from one socket to an address, seen where they end: at the sender (echo) or at a receiver."""

    sender: socket.socket
    target: tuple[str, int]
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

        def arrive() -> None:
            receiver.recv(2048)
            flow.arrivals.append(time.monotonic())

        sender.setblocking(False)
        self._watch(receiver, arrive)
        self._slots[self._count % SLOTS].append(flow)
        self._count += 1
        return flow

    def _watch(self, watched: socket.socket, reader: Callable[[], None]) -> None:
        watched.setblocking(False)
        self._readers[watched.fileno()] = reader
        self._epoll.register(watched, select.EPOLLIN)

    def run(self) -> None:
        tick = 0
        start = time.monotonic()
        while not self._stopping.is_set():
            due = start + tick * PERIOD / SLOTS
            wait = due - time.monotonic()
            if wait <= 0:
                for flow in self._slots[tick % SLOTS]:
                    # Without the tunnel's device there is no route: a probe that cannot leave is lost.
                    with contextlib.suppress(OSError):
                        flow.sender.sendto(b"probe", flow.target)
                tick += 1
                continue
            for descriptor, _ in self._epoll.poll(wait):
                with contextlib.suppress(OSError):
                    self._readers[descriptor]()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()
        self._epoll.close()
