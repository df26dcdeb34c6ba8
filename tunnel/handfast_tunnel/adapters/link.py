"""The network interface: up, down, another MTU, deleted; and how long its queue is.

Sources: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
from struct import Struct
from typing import Final, NamedTuple

from .netlink import RECEIVE_BYTES, attribute, attributes, messages, open_netlink, request

RTMGRP_LINK: Final = 1
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
IFLA_MTU: Final = 4
IFLA_TXQLEN: Final = 13
IFLA_STATS64: Final = 23
IFF_UP: Final = 1

_LINK = Struct("=BxHiII")  # family, type, index, flags, change
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
        self._socket = open_netlink(RTMGRP_LINK)
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
        statistics = dict(attributes(answer[_LINK.size :])).get(IFLA_STATS64)
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
            for kind, body in messages(data):
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
        mtu = next(
            (_UNSIGNED.unpack(value)[0] for key, value in attributes(body[_LINK.size :]) if key == IFLA_MTU),
            0,
        )
        return LinkState(up=bool(flags & IFF_UP), mtu=mtu)


def set_queue_length(name: str, packets: int) -> None:
    """How many packets may wait for their reader. (In a user namespace the ioctl for it is refused.)"""
    _request(RTM_NEWLINK, socket.if_nametoindex(name), attribute(IFLA_TXQLEN, _UNSIGNED.pack(packets)))


def _request(kind: int, index: int, attributes: bytes = b"") -> tuple[int, bytes]:
    """The kernel's answer, type and body, to a request about the interface `index`."""
    return request(kind, _LINK.pack(socket.AF_UNSPEC, 0, index, 0, 0) + attributes)
