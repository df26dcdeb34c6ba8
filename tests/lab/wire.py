"""What passed on a cable: every WireGuard message with the time at which the kernel saw it.

Sessions can be followed without any key: whoever sends an initiation or a response names its index in it,
and transport messages carry the index of their receiver.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import pairwise
from typing import TypeVar

from .filters import Message
from .namespaces import LabError, Node

_ETH_P_ALL = 3
_ETH_P_IP = 0x0800
_ETH_P_IPV6 = 0x86DD
_UDP = 17
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("qq")
_SNAP = 256
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram whose payload looks like a WireGuard message."""

    time: float
    """CLOCK_MONOTONIC, seconds."""
    source: str
    source_port: int
    destination: str
    destination_port: int
    traffic_class: int
    fragmentation: int
    """Flags and offset of the IPv4 header; 0 for IPv6."""
    payload: bytes = field(repr=False)
    """Its first bytes; all of them for handshake messages."""
    length: int

    @property
    def type(self) -> Message:
        return Message(self.payload[0])

    @property
    def sender(self) -> int:
        """The index that the sender of an initiation or a response chose."""
        return int.from_bytes(self.payload[4:8], "little")

    @property
    def receiver(self) -> int:
        """The index of whom a response, a cookie reply or a transport message is meant for."""
        at = 8 if self.type is Message.RESPONSE else 4
        return int.from_bytes(self.payload[at : at + 4], "little")

    @property
    def counter(self) -> int:
        return int.from_bytes(self.payload[8:16], "little")

    def describe(self) -> str:
        name = f"{self.type.name.lower()} of {self.length} bytes"
        match self.type:
            case Message.INITIATION:
                return f"{name}, index {self.sender:08x}"
            case Message.RESPONSE:
                return f"{name}, index {self.sender:08x}, to {self.receiver:08x}"
            case Message.COOKIE_REPLY:
                return f"{name}, to {self.receiver:08x}"
            case Message.TRANSPORT:
                return f"{name}, to {self.receiver:08x}, counter {self.counter}"

    @property
    def is_fragment(self) -> bool:
        return self.fragmentation & 0x3FFF != 0

    @property
    def may_be_fragmented(self) -> bool:
        return self.fragmentation & 0x4000 == 0

    @property
    def is_keepalive(self) -> bool:
        return self.type is Message.TRANSPORT and self.length == 32


class Capture:
    """Records what passes on one interface until it is closed."""

    def __init__(self, node: Node, interface: str) -> None:
        self.name = f"on the cable of {interface}"
        self.datagrams: list[Datagram] = []
        self._news = threading.Condition()
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._socket.bind((interface, _ETH_P_ALL))
        self._closing = os.eventfd(0)
        self._to_monotonic = time.monotonic() - time.time()
        self._thread = threading.Thread(target=self._record, name=f"capture {interface}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.eventfd_write(self._closing, 1)
        self._thread.join()
        os.close(self._closing)
        self._socket.close()

    def matching(
        self, message: Message | None = None, *, source: str = "", destination: str = "", since: float = 0.0
    ) -> list[Datagram]:
        """What passed so far, in order; `source` and `destination` are addresses."""
        self._read_waiting()
        return [
            d
            for d in list(self.datagrams)
            if d.time >= since
            and (message is None or d.type is message)
            and source in ("", d.source)
            and destination in ("", d.destination)
        ]

    def wait(
        self,
        message: Message | None = None,
        *,
        source: str = "",
        destination: str = "",
        since: float = 0.0,
        count: int = 1,
        timeout: float = 10,
    ) -> list[Datagram]:
        """Wait until `count` such messages have passed and return them all."""

        def enough() -> list[Datagram] | None:
            found = self.matching(message, source=source, destination=destination, since=since)
            return found if len(found) >= count else None

        return self.wait_for(enough, timeout, f"{count} of {message and message.name} from {source or 'any'}")

    def wait_for(self, find: Callable[[], _T | None], timeout: float, what: str) -> _T:
        """Wait until `find` finds something in the capture."""
        deadline = time.monotonic() + timeout
        with self._news:
            while (found := find()) is None:
                if not self._news.wait(deadline - time.monotonic()) and time.monotonic() >= deadline:
                    raise LabError(f"waited {timeout:g} s on the wire for {what}; saw {self.summary()}")
        return found

    def summary(self, last: int = 30) -> str:
        """The last messages, one a line, for people."""
        shown = self.datagrams[-last:]
        start = shown[0].time if shown else 0.0
        lines = (
            f"  {d.time - start:8.4f} {d.source}:{d.source_port} > {d.destination}:{d.destination_port}"
            f" {d.describe()}"
            for d in shown
        )
        return "\n".join(["", *lines]) if shown else "nothing"

    def _record(self) -> None:
        ready = select.poll()
        for descriptor in (self._socket.fileno(), self._closing):
            ready.register(descriptor, select.POLLIN)
        while self._closing not in dict(ready.poll()):
            self._read_waiting()

    def _read_waiting(self) -> None:
        """Whoever looks reads first what waits: the thread may be late."""
        with self._news, suppress(BlockingIOError):
            while self._socket.fileno() != -1:
                packet, control, _, address = self._socket.recvmsg(_SNAP, 64, socket.MSG_DONTWAIT)
                stamp = _TIMESPEC.unpack(control[0][2][: _TIMESPEC.size])
                at = stamp[0] + stamp[1] / 1e9 + self._to_monotonic
                if datagram := _parse(address[1], packet, at):
                    self.datagrams.append(datagram)
                    self._news.notify_all()


def _parse(protocol: int, packet: bytes, at: float) -> Datagram | None:
    if protocol == _ETH_P_IP and len(packet) >= 20 and packet[9] == _UDP:
        header, traffic_class = (packet[0] & 15) * 4, packet[1]
        fragmentation = int.from_bytes(packet[6:8], "big")
        source, destination = packet[12:16], packet[16:20]
    elif protocol == _ETH_P_IPV6 and len(packet) >= 40 and packet[6] == _UDP:
        header, traffic_class = 40, (packet[0] & 15) << 4 | packet[1] >> 4
        fragmentation = 0
        source, destination = packet[8:24], packet[24:40]
    else:
        return None
    payload = packet[header + 8 :]
    if len(payload) < 32 or payload[0] not in Message._value2member_map_ or any(payload[1:4]):
        return None
    source_port, destination_port, length = struct.unpack_from("!HHH", packet, header)
    return Datagram(
        at,
        str(ip_address(source)),
        source_port,
        str(ip_address(destination)),
        destination_port,
        traffic_class,
        fragmentation,
        payload,
        length - 8,
    )


def lateness(datagrams: Sequence[Datagram], due: Sequence[float]) -> list[float]:
    """By how much each pause between them is longer than it should be: on a busy machine they all are."""
    pauses = (later.time - earlier.time for earlier, later in pairwise(datagrams))
    return [pause - wanted for pause, wanted in zip(pauses, due, strict=True)]


def session_completed(capture: Capture, since: float = 0.0) -> Datagram | None:
    """The first transport message, either way, on a session whose handshake began at or after `since`.

    It goes from the initiator to the responder first, once it has verified the response, and its arrival is
    what tells the responder that the session holds. So it is the moment at which a client that sends
    nothing by itself is reachable again.
    """
    initiated: set[int] = set()
    answered: set[int] = set()
    for datagram in capture.matching(since=since):
        if datagram.type is Message.INITIATION:
            initiated.add(datagram.sender)
        elif datagram.type is Message.RESPONSE and datagram.receiver in initiated:
            answered |= {datagram.sender, datagram.receiver}
        elif datagram.type is Message.TRANSPORT and datagram.receiver in answered:
            return datagram
    return None
