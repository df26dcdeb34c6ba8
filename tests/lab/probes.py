"""Measuring what users notice: probes at a fixed rate, and how long nothing came through.

How the outage of each kind of client is measured:

- *sending*: the client asks a UDP echo server N times a second (`Probes.ask`); its outage is the longest
  silence between two answers.
- *receiving*: the server's side sends N datagrams a second, the client never sends one of its own
  (`Probes.stream`); its outage is the longest silence between two arrivals.
- *only keepalives* and *idle*: nothing of theirs is to be seen inside the tunnel, so the cable is watched:
  `wire.session_completed` says when a session first held again in both directions.

All sockets are served by one thread of this process; times are CLOCK_MONOTONIC at the send and receive calls.
"""

from __future__ import annotations

import selectors
import socket
import struct
import threading
import time
from bisect import bisect_left
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import pairwise
from types import TracebackType
from typing import Self

from .namespaces import Node

ECHO_PORT = 7
SINK_PORT = 9
RATE = 20.0
_PAYLOAD = struct.Struct("!Qd")


@dataclass(slots=True)
class Log:
    """When each probe was sent, and when it came through."""

    sent: list[float] = field(default_factory=list)
    arrived: list[float] = field(default_factory=list)
    """Of an answer, or of a one-way datagram; in order."""
    latency: list[float] = field(default_factory=list)
    """From send to arrival, one for each arrival."""

    def first_after(self, moment: float) -> float | None:
        at = bisect_left(self.arrived, moment)
        return self.arrived[at] if at < len(self.arrived) else None

    def longest_silence(self, since: float, until: float | None = None) -> float:
        """The longest time from `since` on in which nothing came through; the last one is cut at `until`."""
        until = time.monotonic() if until is None else until
        arrived = [t for t in self.arrived if since < t < until]
        return max(later - earlier for earlier, later in pairwise([since, *arrived, until]))

    def unanswered(self, since: float, until: float) -> list[float]:
        """When those probes of this time were sent that never came through, in seconds since its begin."""
        came = {round(at - taken, 6) for at, taken in zip(self.arrived, self.latency, strict=False)}
        return [at - since for at in self.sent if since < at < until and round(at, 6) not in came]

    def settled(self, since: float, count: int = 5) -> bool:
        """Do probes come through again? True when `count` in a row did, all sent after `since`."""
        sent = [t - taken for t, taken in zip(self.arrived[-count:], self.latency[-count:], strict=True)]
        return len(sent) == count and sent[0] > since and time.monotonic() - self.arrived[-1] < 0.5


@dataclass(slots=True)
class _Sender:
    socket: socket.socket
    target: tuple[str, int]
    interval: float
    log: Log
    due: float


class Probes:
    """Echo servers, askers and streams, all driven by one thread; a context manager."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._senders: list[_Sender] = []
        self._lock = threading.Lock()
        self._open = True
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def answer(self, node: Node, port: int = ECHO_PORT) -> None:
        """Echo what comes to this UDP port of the node, over IPv4."""
        opened = self._socket(node, socket.AF_INET)
        opened.bind(("", port))
        self._watch(opened, lambda: _echo(opened))

    def ask(self, node: Node, address: str, *, rate: float = RATE, port: int = ECHO_PORT) -> Log:
        """Send probes to an echo server and log the answers."""
        log = Log()
        opened = self._socket(node, _family(address))
        self._watch(opened, lambda: _note(opened, log))
        self._send(opened, (address, port), rate, log)
        return log

    def stream(self, node: Node, to: Node, address: str, *, rate: float = RATE, port: int = SINK_PORT) -> Log:
        """Send datagrams one way, to `address` on the node `to`, and log their arrivals there."""
        log = Log()
        sink = self._socket(to, _family(address))
        sink.bind(("", port))
        self._watch(sink, lambda: _note(sink, log))
        self._send(self._socket(node, _family(address)), (address, port), rate, log)
        return log

    def close(self) -> None:
        self._open = False
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        for sender in self._senders:
            sender.socket.close()
        self._selector.close()

    def _socket(self, node: Node, family: int) -> socket.socket:
        opened = node.socket(family, socket.SOCK_DGRAM)
        opened.setblocking(False)
        return opened

    def _watch(self, opened: socket.socket, callback: Callable[[], None]) -> None:
        with self._lock:
            self._selector.register(opened, selectors.EVENT_READ, callback)

    def _send(self, opened: socket.socket, target: tuple[str, int], rate: float, log: Log) -> None:
        with self._lock:
            self._senders.append(_Sender(opened, target, 1 / rate, log, time.monotonic()))

    def _run(self) -> None:
        while self._open:
            with self._lock:
                due = min((sender.due for sender in self._senders), default=time.monotonic() + 0.05)
            # Without descriptors select() would return at once, and new ones are seen within 50 ms.
            for key, _ in self._selector.select(min(max(due - time.monotonic(), 0), 0.05)):
                key.data()
            self._send_due(time.monotonic())

    def _send_due(self, now: float) -> None:
        with self._lock:
            senders = [sender for sender in self._senders if sender.due <= now]
        for sender in senders:
            sender.due = max(sender.due + sender.interval, now)
            number = len(sender.log.sent)
            sender.log.sent.append(now)
            # A probe that cannot even be sent (no route while the interface is gone) is a lost one.
            with suppress(OSError):
                sender.socket.sendto(_PAYLOAD.pack(number, now), sender.target)


def _family(address: str) -> int:
    return socket.AF_INET if ip_address(address).version == 4 else socket.AF_INET6


def _echo(opened: socket.socket) -> None:
    with suppress(OSError):
        while True:
            payload, source = opened.recvfrom(2048)
            opened.sendto(payload, source)


def _note(opened: socket.socket, log: Log) -> None:
    with suppress(OSError):
        while True:
            _, sent = _PAYLOAD.unpack(opened.recv(2048))
            now = time.monotonic()
            log.arrived.append(now)
            log.latency.append(now - sent)
