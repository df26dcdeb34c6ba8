"""Asking the kernel by netlink: requests, their answers, and attributes, which may nest.

Sources: netlink(7), linux/netlink.h.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from struct import Struct
from typing import Final

NETLINK_ROUTE: Final = 0
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLA_F_NESTED: Final = 0x8000
NLA_TYPE_MASK: Final = 0x3FFF

RECEIVE_BYTES: Final = 65536

_HEADER = Struct("=IHHII")  # length, type, flags, sequence, port
_ATTRIBUTE = Struct("=HH")
_INT = Struct("=i")


def open_netlink(groups: int = 0) -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
    try:
        netlink.bind((0, groups))
    except OSError:
        netlink.close()
        raise
    return netlink


def request(kind: int, body: bytes, flags: int = 0) -> tuple[int, bytes]:
    """The kernel's answer, type and body; raises the OSError that it answers with."""
    with open_netlink() as netlink:
        netlink.send(_message(kind, body, NLM_F_REQUEST | NLM_F_ACK | flags))
        answer_kind, answer = next(messages(netlink.recv(RECEIVE_BYTES)))
    if answer_kind == NLMSG_ERROR:
        _raise_for(answer)
    return answer_kind, answer


def dump(kind: int, body: bytes) -> list[bytes]:
    """All objects of a kind: the bodies of their messages."""
    bodies: list[bytes] = []
    with open_netlink() as netlink:
        netlink.send(_message(kind, body, NLM_F_REQUEST | NLM_F_DUMP))
        while True:
            for answer_kind, answer in messages(netlink.recv(RECEIVE_BYTES)):
                if answer_kind == NLMSG_DONE:
                    return bodies
                if answer_kind == NLMSG_ERROR:
                    _raise_for(answer)
                bodies.append(answer)


def _message(kind: int, body: bytes, flags: int) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 0, 0) + body


def _raise_for(error: bytes) -> None:
    if code := -_INT.unpack_from(error)[0]:
        raise OSError(code, os.strerror(code))


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : length]
        data = data[_aligned(length) :]


def attribute(key: int, value: bytes) -> bytes:
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, key) + value + bytes(_aligned(length) - length)


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Those that follow a message's fixed part, or lie in a nested one."""
    while len(data) >= _ATTRIBUTE.size:
        length, key = _ATTRIBUTE.unpack_from(data)
        yield key & NLA_TYPE_MASK, data[_ATTRIBUTE.size : length]
        data = data[max(_aligned(length), _ATTRIBUTE.size) :]


def _aligned(length: int) -> int:
    """Messages and attributes begin at multiples of four."""
    return length + 3 & ~3
