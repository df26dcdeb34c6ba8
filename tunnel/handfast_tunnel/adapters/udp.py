"""UDP sockets on one port for IPv4 and IPv6: many datagrams a system call, replies from where they came to.

UDP_GRO hands over a run of datagrams from one sender as one piece; UDP_SEGMENT sends such a run. Source
addresses stick by IP_PKTINFO and IPV6_PKTINFO. Sources: udp(7), ip(7), ipv6(7), linux/udp.h.
"""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from ..core.data_plane import Batch
from ..core.ecn import CE, ECN_MASK
from ..core.endpoint import Endpoint
from .data_plane import PURE, PacketPlane, Run
from .features import disabled_features

if TYPE_CHECKING:
    from ..core.interface import Transmission

SO_SNDBUFFORCE: Final = 32
SO_RCVBUFFORCE: Final = 33
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
IPV6_PMTUDISC_DONT: Final = 0
IP_PMTUDISC_OMIT: Final = 5
SO_MEMINFO: Final = 55
UDP_SEGMENT: Final = 103
UDP_GRO: Final = 104

BUFFER_BYTES: Final = 7 << 20
"""Room for what arrives in 0.1 s and more, while the process is busy or being replaced."""
BIND_ATTEMPTS: Final = 100
RECEIVE_DATAGRAMS: Final = 128
"""One batch ends after this many datagrams, so that the other direction gets its turn."""
RECEIVE_BYTES: Final = 65535
CONTROL_BYTES: Final = 256
REMEMBERED_ROUTES: Final = 256
SEND_PATIENCE: Final = 5
"""Milliseconds that one `send` may wait for room in a full socket buffer before it drops."""

_IPV4_PKTINFO = Struct("=i4s4s")  # interface, local address, destination in the header
_IPV6_PKTINFO = Struct("=16si")
_INT = Struct("=i")
_SHORT = Struct("=H")
_MEMINFO_DROPS = Struct("=32xI")  # SK_MEMINFO_DROPS in linux/sock_diag.h
_LINK_LOCAL = b"\xfe\x80"
_REFUSES_SEGMENTS: Final = {errno.EIO, errno.EINVAL, errno.EMSGSIZE}
_REFUSES_LOCAL_ADDRESS: Final = {errno.EINVAL, errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EHOSTUNREACH}

ControlMessages = tuple[tuple[int, int, bytes], ...]
Route = tuple[tuple[str | int, ...], ControlMessages]
"""Where a datagram goes, and what the kernel is told beside it."""
ControlList = list[tuple[int, int, bytes]]
WayTo = tuple[Callable[..., int], ControlMessages, tuple[str | int, ...]]
"""`sendmsg`, and what it is given beside the datagram."""
Received = tuple[Batch, Endpoint, int]
"""Datagrams of one sender, where they came from, and the traffic class byte of their IP header."""

WayFrom = tuple[
    Callable[[int, int], tuple[bytes, ControlList, int, Any]],
    ControlList,
    tuple[Any, ...],
    Callable[[bytes, ControlList, Any], Received],
]
"""`recvmsg`, the control messages and the address it will give, and what makes sense of others."""


class UdpSockets:
    """The sockets of one interface, closed until `bind`."""

    def __init__(self, disabled: Collection[str] | None = None, plane: PacketPlane = PURE) -> None:
        self._plane = plane
        self.port = 0
        self.dropped_datagrams = 0
        """What could not leave: no room in the socket buffer, no route, refused by a filter."""
        self._disabled = disabled_features() if disabled is None else disabled
        self._sockets: dict[int, _Socket] = {}
        self._senders: dict[bool, _Socket] = {}

    def bind(self, port: int, fwmark: int = 0) -> None:
        """Listen on `port`, or on a free one if 0. If that fails, the sockets stay as they were."""
        if self._sockets and port == self.port:
            self.set_mark(fwmark)
            return
        sockets = _open_on_one_port(port, fwmark, self._make)
        self.close()
        self._take(sockets)

    def _take(self, sockets: list[_Socket]) -> None:
        self._sockets = {each.fileno(): each for each in sockets}
        self._senders = {each.is_ipv6: each for each in sockets}
        self.port = sockets[0].port

    def adopt(self, descriptors: Collection[int]) -> None:
        """Go on with sockets that another process bound."""
        self._take([self._make(socket.socket(fileno=fd)) for fd in descriptors])

    def _make(self, opened: socket.socket) -> _Socket:
        return _Socket(opened, self._disabled, self._plane)

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets = {}
        self._senders = {}
        self.port = 0

    @property
    def filenos(self) -> list[int]:
        return list(self._sockets)

    @property
    def overflows(self) -> int:
        """Datagrams without room in a socket's buffer, since it was opened, by whatever process."""
        return sum(each.overflows for each in self._sockets.values())

    @property
    def features(self) -> str:
        """What makes batches possible here, as a sentence for the log."""
        return "UDP: " + "; ".join(each.features for each in self._sockets.values())

    @property
    def lacks(self) -> list[str]:
        """The features that nobody disabled and the kernel does not have."""
        return sorted({name for each in self._sockets.values() for name in each.lacks})

    def set_mark(self, fwmark: int) -> None:
        for each in self._sockets.values():
            each.set_mark(fwmark)

    def receive_batch(self, fd: int, most: int = RECEIVE_DATAGRAMS) -> list[Received]:
        """What has arrived on the socket `fd`, in reads until there are so many; empty when nothing has."""
        receive = self._sockets[fd].receive
        senders: list[tuple[list[Batch], Endpoint, int]] = []
        remaining = most
        while remaining > 0 and (received := receive()) is not None:
            datagrams, endpoint, traffic_class = received
            remaining -= len(datagrams)
            if senders and senders[-1][1] is endpoint and senders[-1][2] == traffic_class:
                senders[-1][0].append(datagrams)
            else:
                senders.append(([datagrams], endpoint, traffic_class))
        join = self._plane.join
        return [(join(batches), endpoint, traffic_class) for batches, endpoint, traffic_class in senders]

    def way_to(self, endpoint: Endpoint, traffic_class: int) -> WayTo | None:
        """What sends a datagram there; None without a socket of its family."""
        sender = self._senders.get(":" in endpoint.host)
        return sender.way_to(endpoint, traffic_class) if sender else None

    def way_from(self, endpoint: Endpoint) -> WayFrom | None:
        """What receives the next datagram, and how it looks if it comes from there as the last one did."""
        sender = self._senders.get(":" in endpoint.host)
        return sender.way_from(endpoint) if sender else None

    def send(self, transmissions: Iterable[Transmission]) -> list[Transmission]:
        """Send datagrams; returns the transmissions whose local address is no longer usable.

        They have been sent from an address of the kernel's choice.
        """
        refused = []
        for each in self._senders.values():
            each.patience = SEND_PATIENCE
        for transmission in transmissions:
            endpoint, datagrams, traffic_class, _ = transmission
            sender = self._senders.get(":" in endpoint.host)
            if sender is None:
                self.dropped_datagrams += len(datagrams)
                continue
            try:
                dropped = sender.send(endpoint, datagrams, traffic_class)
            except _LocalAddressRefusedError as refusal:
                refused.append(transmission)
                dropped = refusal.dropped
                dropped += sender.send(endpoint.without_local(), refusal.unsent, traffic_class)
            self.dropped_datagrams += dropped
        return refused


class _LocalAddressRefusedError(Exception):
    def __init__(self, unsent: Batch, dropped: int) -> None:
        self.unsent = unsent
        self.dropped = dropped
        """Of those before."""


class _Socket:
    """One family's socket."""

    def __init__(self, opened: socket.socket, disabled: Collection[str], plane: PacketPlane) -> None:
        self._plane = plane
        self._socket = opened
        self.is_ipv6 = is_ipv6 = opened.family == socket.AF_INET6
        self._level = socket.IPPROTO_IPV6 if is_ipv6 else socket.IPPROTO_IP
        self._traffic_class_kind = socket.IPV6_TCLASS if is_ipv6 else socket.IP_TOS
        self._packet_info_kind = socket.IPV6_PKTINFO if is_ipv6 else IP_PKTINFO
        self.patience = SEND_PATIENCE
        self.fileno = opened.fileno
        self.close = opened.close
        self._last_source: tuple[tuple[Any, ...], bytes] | None = None
        self._last_endpoint = Endpoint("", 0)
        self._last_control: ControlList = []
        self._last_address: tuple[Any, ...] = ()
        self._last_class = 0
        self._route = lru_cache(REMEMBERED_ROUTES)(self._find_route)
        self._set_options(disabled)

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    def _set_options(self, disabled: Collection[str]) -> None:
        option = self._socket.setsockopt
        if self.is_ipv6:
            option(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_DONT)
            option(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        else:
            # A forged ICMP message must not shrink the path (RECOVERY, section 8). With DONT it still does:
            # the kernel fragments as it was told. IPv6 has to believe it, because its routers never fragment.
            option(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
            option(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        if "pktinfo" not in disabled:
            if self.is_ipv6:
                option(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            else:
                option(socket.IPPROTO_IP, IP_PKTINFO, 1)
        self._segments = "udp_gso" not in disabled and self._try_option(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        self._gathers = "udp_gro" not in disabled and self._try_option(socket.IPPROTO_UDP, UDP_GRO, 1)
        found = {"udp_gso": self._segments, "udp_gro": self._gathers}
        self.lacks = [name for name, is_there in found.items() if not is_there and name not in disabled]
        for force, ordinary in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            if not self._try_option(socket.SOL_SOCKET, force, BUFFER_BYTES):
                option(socket.SOL_SOCKET, ordinary, BUFFER_BYTES)

    def _try_option(self, level: int, name: int, value: int) -> bool:
        try:
            self._socket.setsockopt(level, name, value)
        except OSError:
            return False
        return True

    @property
    def overflows(self) -> int:
        """What SO_RXQ_OVFL would say with each datagram, and cost with each, once there was one."""
        try:
            info = self._socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO_DROPS.size)
        except OSError:  # no Linux, or one that only looks like it
            return 0
        count: int = _MEMINFO_DROPS.unpack(info)[0]
        return count

    def set_mark(self, fwmark: int) -> None:
        # Needs NET_ADMIN, so only where it changes something.
        if fwmark or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_MARK):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, fwmark)

    @property
    def features(self) -> str:
        family = "IPv6" if self.is_ipv6 else "IPv4"
        return f"{family} sends {_runs(self._segments)}, receives {_runs(self._gathers)}"

    def receive(self) -> Received | None:
        try:
            data, control, _, address = self._socket.recvmsg(RECEIVE_BYTES, CONTROL_BYTES)
        except OSError:  # nothing there, or an error of an earlier datagram, which this call has cleared
            return None
        return self._understand(data, control, address)

    def _understand(self, data: bytes, control: ControlList, address: tuple[Any, ...]) -> Received:
        size = traffic_class = 0
        packet_info = b""
        for _, kind, value in control:
            if kind == UDP_GRO:
                size = _INT.unpack(value)[0]
            elif kind == self._traffic_class_kind:
                traffic_class = value[0] if len(value) == 1 else _INT.unpack(value)[0]
            elif kind == self._packet_info_kind:
                packet_info = value
        source = (address, packet_info)
        if source != self._last_source:
            self._last_source = source
            self._last_endpoint = _endpoint(address, packet_info)
        self._last_control, self._last_address, self._last_class = control, address, traffic_class
        return self._plane.datagrams(data, size), self._last_endpoint, traffic_class

    def send(self, endpoint: Endpoint, datagrams: Batch, traffic_class: int) -> int:
        """Send in order; returns how many were dropped."""
        route = self._route(endpoint, traffic_class)
        dropped = done = 0
        left = self._runs(datagrams)[::-1]
        while left:
            run = left.pop()
            try:
                self._send_run(run, route)
            except OSError as error:
                if run.datagrams > 1 and error.errno in _REFUSES_SEGMENTS:
                    # EIO is for ever: a device without checksum offload (udp(7)).
                    self._segments = self._segments and error.errno != errno.EIO
                    left += run.single()[::-1]
                    continue
                if endpoint.local and error.errno in _REFUSES_LOCAL_ADDRESS:
                    raise _LocalAddressRefusedError(datagrams[done:], dropped) from error
                dropped += run.datagrams
            done += run.datagrams
        return dropped

    def way_to(self, endpoint: Endpoint, traffic_class: int) -> WayTo:
        address, control = self._route(endpoint, traffic_class)
        return self._socket.sendmsg, control, address

    def way_from(self, endpoint: Endpoint) -> WayFrom | None:
        if (
            endpoint is not self._last_endpoint
            or self._last_source is None
            or self._last_class & ECN_MASK == CE
        ):
            return None
        return self._socket.recvmsg, self._last_control, self._last_address, self._understand

    def _runs(self, datagrams: Batch) -> list[Run]:
        if self._segments and len(datagrams) > 1:
            return list(self._plane.runs(datagrams))
        return [Run((each,), len(each), 1) for each in datagrams]

    def _send_run(self, run: Run, route: Route) -> None:
        address, control = route
        if run.datagrams > 1:
            control = (*control, (socket.IPPROTO_UDP, UDP_SEGMENT, _SHORT.pack(run.size)))
        try:
            self._socket.sendmsg(run.buffers, control, 0, address)
        except BlockingIOError:
            if not self._becomes_writable():
                raise
            self._socket.sendmsg(run.buffers, control, 0, address)

    def _becomes_writable(self) -> bool:
        """Whether a full buffer drains soon. Dropping a burst costs its senders more than a short wait."""
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        if poll.poll(self.patience):
            return True
        self.patience = 0
        return False

    def _find_route(self, endpoint: Endpoint, traffic_class: int) -> Route:
        address = (endpoint.host, endpoint.port, 0, endpoint.scope) if self.is_ipv6 else endpoint[:2]
        control: list[tuple[int, int, bytes]] = []
        if traffic_class:
            control.append((self._level, self._traffic_class_kind, _INT.pack(traffic_class)))
        # Routes choose the interface, as for the kernel's WireGuard: were it named here, IPv4 would take any
        # destination for a neighbour once that interface lost its route. A link-local address needs the name.
        local = endpoint.local
        if self.is_ipv6 and len(local) == 16:
            interface = endpoint.interface if local.startswith(_LINK_LOCAL) else 0
            control.append((self._level, self._packet_info_kind, _IPV6_PKTINFO.pack(local, interface)))
        elif not self.is_ipv6 and len(local) == 4:
            control.append((self._level, self._packet_info_kind, _IPV4_PKTINFO.pack(0, local, bytes(4))))
        return address, tuple(control)


Make = Callable[[socket.socket], _Socket]


def _open_on_one_port(port: int, fwmark: int, make: Make) -> list[_Socket]:
    attempts_left = 0 if port else BIND_ATTEMPTS
    while True:
        try:
            return _open_both_families(port, fwmark, make)
        except OSError as error:
            # The port that IPv4 was given may be taken for IPv6.
            if error.errno != errno.EADDRINUSE or not attempts_left:
                raise
            attempts_left -= 1


def _open(family: socket.AddressFamily, port: int, fwmark: int, make: Make) -> _Socket:
    opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        each = make(opened)
        each.set_mark(fwmark)
        opened.bind(("::" if each.is_ipv6 else "", port))
    except OSError:
        opened.close()
        raise
    return each


def _open_both_families(port: int, fwmark: int, make: Make) -> list[_Socket]:
    sockets: list[_Socket] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            sockets.append(_open(family, port, fwmark, make))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT and (sockets or family == socket.AF_INET):
                continue
            for each in sockets:
                each.close()
            raise
        port = sockets[0].port
    return sockets


def _endpoint(address: tuple[Any, ...], packet_info: bytes) -> Endpoint:
    host, port = address[:2]
    scope = address[3] if len(address) > 2 else 0
    local, interface = b"", 0
    if len(packet_info) == _IPV4_PKTINFO.size:
        interface, local, _ = _IPV4_PKTINFO.unpack(packet_info)
    elif packet_info:
        local, interface = _IPV6_PKTINFO.unpack(packet_info)
    return Endpoint(host, port, scope, local, interface)


def _runs(supported: bool) -> str:
    return "runs of datagrams" if supported else "one datagram a call"
