"""The network interface: up, down, another MTU, deleted; and how long its queue is.

Sources: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Final, NamedTuple

NETLINK_ROUTE: Final = 0
RTMGRP_LINK: Final = 1
NLM_F_REQUEST: Final = 1
NLM_F_ACK: Final = 4
NLMSG_ERROR: Final = 2
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
IFLA_MTU: Final = 4
IFLA_TXQLEN: Final = 13
IFLA_STATS64: Final = 23
IFF_UP: Final = 1

RECEIVE_BYTES: Final = 65536

_HEADER = Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = Struct("=BxHiII")  # family, type, index, flags, change
_ATTRIBUTE = Struct("=HH")
_INT = Struct("=i")
_UNSIGNED = Struct("=I")
_DROPPED = Struct("=48xQQ")  # rx_dropped and tx_dropped in struct rtnl_link_stats64


class LinkState(NamedTuple):
    up: bool
    mtu: int
    deleted: bool = False


DELETED: Final = LinkState(up=False, mtu=0, deleted=True)


class LinkWatcher:
    """Follows one interface by its index, through renames. Raises OSError(ENODEV) if there is none."""

    def __init__(self, name: str) -> None:
        try:
            self._index = socket.if_nametoindex(name)
        except OSError as error:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name) from error
        self._socket = _open_netlink(RTMGRP_LINK)
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno
        self.close = self._socket.close

    def current(self) -> LinkState:
        """Ask the kernel, on a socket where no other message can come between."""
        try:
            kind, answer = _request(RTM_GETLINK, self._index)
        except OSError as error:
            if error.errno == errno.ENODEV:
                return DELETED
            raise
        return self._state(kind, answer) or DELETED

    def dropped(self) -> tuple[int, int] | None:
        """Packets that found no room in its queue, and packets that the host took and dropped."""
        try:
            _, answer = _request(RTM_GETLINK, self._index)
        except OSError:
            return None
        statistics = next((value for key, value in _attributes(answer) if key == IFLA_STATS64), None)
        if statistics is None:
            return None
        by_host, in_queue = _DROPPED.unpack_from(statistics)
        return in_queue, by_host

    def read(self) -> LinkState | None:
        """The newest state among the messages that wait; None when none of them is about this interface."""
        state = None
        some_were_lost = False
        while True:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return self.current() if some_were_lost else state
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                some_were_lost = True
                continue
            for kind, body in _messages(data):
                state = self._state(kind, body) or state

    def _state(self, kind: int, body: bytes) -> LinkState | None:
        """What a message says about this interface."""
        if kind not in {RTM_NEWLINK, RTM_DELLINK}:
            return None
        family, _, index, flags, _ = _LINK.unpack_from(body)
        if index != self._index or family != socket.AF_UNSPEC:
            return None
        if kind == RTM_DELLINK:
            return DELETED
        mtu = next((_UNSIGNED.unpack(value)[0] for key, value in _attributes(body) if key == IFLA_MTU), 0)
        return LinkState(up=bool(flags & IFF_UP), mtu=mtu)


def set_queue_length(name: str, packets: int) -> None:
    """How many packets may wait for their reader. (In a user namespace the ioctl for it is refused.)"""
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + _UNSIGNED.size, IFLA_TXQLEN) + _UNSIGNED.pack(packets)
    _request(RTM_NEWLINK, socket.if_nametoindex(name), attribute)


def _request(kind: int, index: int, attributes: bytes = b"") -> tuple[int, bytes]:
    """The kernel's answer, type and body, to a request about the interface `index`."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes
    header = _HEADER.pack(_HEADER.size + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, 0, 0)
    with _open_netlink() as netlink:
        netlink.send(header + body)
        answer_kind, answer = next(_messages(netlink.recv(RECEIVE_BYTES)))
    if answer_kind == NLMSG_ERROR and (code := -_INT.unpack_from(answer)[0]):
        raise OSError(code, os.strerror(code))
    return answer_kind, answer


def _open_netlink(groups: int = 0) -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        netlink.bind((0, groups))
    except OSError:
        netlink.close()
        raise
    return netlink


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    rest = body[_LINK.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, key = _ATTRIBUTE.unpack_from(rest)
        yield key, rest[_ATTRIBUTE.size : length]
        rest = rest[max(_aligned(length), _ATTRIBUTE.size) :]


def _aligned(length: int) -> int:
    """Messages and attributes begin at multiples of four."""
    return length + 3 & ~3
