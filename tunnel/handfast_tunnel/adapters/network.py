"""The network around an interface, by netlink: its addresses, its routes, and who may forward.

What is not asked for any more is removed; what is there already stays untouched, so that connections do.
Sources: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from .link import IFF_UP, IFLA_MTU, RTM_GETLINK, RTM_NEWLINK
from .netlink import NLA_F_NESTED, NLM_F_CREATE, NLM_F_REPLACE, attribute, attributes, dump, request

RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26

IFF_LOOPBACK: Final = 0x8
IFLA_AF_SPEC: Final = 26
IFLA_INET_CONF: Final = 1
IPV4_DEVCONF_FORWARDING: Final = 1

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x2
"""Addresses work at once: nobody else is on a tunnel's link."""
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253

RT_TABLE_MAIN: Final = 254
RTPROT_HANDFAST: Final = 145
"""Marks the routes that are ours: any other on the interface is somebody's. The kernel does not read it."""
RTN_UNICAST: Final = 1
RTA_DST: Final = 1
RTA_OIF: Final = 4

CONF: Final = Path("/proc/sys/net")

_LINK = Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = Struct("=BBBBI")  # family, length, flags, scope, index
_ROUTE = Struct("=BBBBBBBBI")  # family, destination and source length, tos, table, protocol, scope, type
_UNSIGNED = Struct("=I")


class Network(NamedTuple):
    """A packed address and the length of its network."""

    address: bytes
    length: int

    @classmethod
    def parse(cls, text: str) -> Network:
        address, _, length = text.partition("/")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return cls(socket.inet_pton(family, address), int(length))

    @property
    def family(self) -> int:
        return socket.AF_INET6 if len(self.address) > 4 else socket.AF_INET

    def __str__(self) -> str:
        return f"{socket.inet_ntop(self.family, self.address)}/{self.length}"


class Link(NamedTuple):
    number: int
    flags: int
    mtu: int


def links() -> list[Link]:
    found = []
    for body in dump(RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
        _, _, index, flags, _ = _LINK.unpack_from(body)
        known = dict(attributes(body[_LINK.size :]))
        found.append(Link(index, flags, _UNSIGNED.unpack(known[IFLA_MTU])[0]))
    return found


def underlay_mtu(name: str) -> int | None:
    """The least MTU of the interfaces that packets of the interface `name` may leave by."""
    own = socket.if_nametoindex(name)
    mtus = [
        link.mtu
        for link in links()
        if link.number != own and link.flags & IFF_UP and not link.flags & IFF_LOOPBACK
    ]
    return min(mtus, default=None)


def bring_up(name: str, mtu: int) -> None:
    body = _LINK.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(name), IFF_UP, IFF_UP)
    request(RTM_NEWLINK, body + attribute(IFLA_MTU, _UNSIGNED.pack(mtu)))


def set_addresses(name: str, wanted: Collection[Network]) -> None:
    """Link-local IPv6 addresses, which the kernel makes, stay."""
    index = socket.if_nametoindex(name)
    present = _addresses(index)
    for gone in present - set(wanted):
        _change_address(RTM_DELADDR, index, gone)
    for new in set(wanted) - present:
        _change_address(RTM_NEWADDR, index, new)


def _addresses(index: int) -> set[Network]:
    found = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in dump(RTM_GETADDR, _ADDRESS.pack(family, 0, 0, 0, 0)):
            _, length, _, scope, owner = _ADDRESS.unpack_from(body)
            known = dict(attributes(body[_ADDRESS.size :]))
            if owner == index and scope == RT_SCOPE_UNIVERSE:
                found.add(Network(known.get(IFA_LOCAL, known[IFA_ADDRESS]), length))
    return found


def _change_address(kind: int, index: int, network: Network) -> None:
    fixed = _ADDRESS.pack(network.family, network.length, 0, RT_SCOPE_UNIVERSE, index)
    known = attribute(IFA_LOCAL, network.address) + attribute(IFA_ADDRESS, network.address)
    flags = attribute(IFA_FLAGS, _UNSIGNED.pack(IFA_F_NODAD))
    with _named(network):
        request(kind, fixed + known + flags, NLM_F_CREATE | NLM_F_REPLACE if kind == RTM_NEWADDR else 0)


def set_routes(name: str, wanted: Collection[Network]) -> None:
    """Ours through the interface, which must be up."""
    index = socket.if_nametoindex(name)
    present = _routes(index)
    for gone in present - set(wanted):
        _change_route(RTM_DELROUTE, index, gone)
    for new in set(wanted) - present:
        _change_route(RTM_NEWROUTE, index, new)


def _routes(index: int) -> set[Network]:
    found = set()
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        for body in dump(RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, length, _, _, _, protocol, *_ = _ROUTE.unpack_from(body)
            known = dict(attributes(body[_ROUTE.size :]))
            if protocol == RTPROT_HANDFAST and known.get(RTA_OIF) == _UNSIGNED.pack(index):
                found.add(Network(known.get(RTA_DST, bytes(size)), length))
    return found


def _change_route(kind: int, index: int, network: Network) -> None:
    scope = RT_SCOPE_LINK if network.family == socket.AF_INET else RT_SCOPE_UNIVERSE
    fixed = _ROUTE.pack(
        network.family, network.length, 0, 0, RT_TABLE_MAIN, RTPROT_HANDFAST, scope, RTN_UNICAST, 0
    )
    known = attribute(RTA_DST, network.address) + attribute(RTA_OIF, _UNSIGNED.pack(index))
    with _named(network):
        request(kind, fixed + known, NLM_F_CREATE | NLM_F_REPLACE if kind == RTM_NEWROUTE else 0)


class _named:  # noqa: N801 - reads as the statement that it is
    """An OSError from inside says about which network it is."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(self._network)) from None


def forwards_ipv4(names: Iterable[str]) -> bool:
    return all(_reads_one(CONF / "ipv4/conf" / name / "forwarding") for name in names)


def allow_ipv4_forwarding() -> None:
    """On every interface but loopback. Netlink may do it where /proc/sys is read-only."""
    conf = attribute(IPV4_DEVCONF_FORWARDING, _UNSIGNED.pack(1))
    nested = attribute(IFLA_INET_CONF | NLA_F_NESTED, conf)
    family = attribute(socket.AF_INET | NLA_F_NESTED, nested)
    for link in links():
        if not link.flags & IFF_LOOPBACK:
            body = _LINK.pack(socket.AF_UNSPEC, 0, link.number, 0, 0)
            request(RTM_NEWLINK, body + attribute(IFLA_AF_SPEC | NLA_F_NESTED, family))


def forwards_ipv6() -> bool:
    return _reads_one(CONF / "ipv6/conf/all/forwarding")


def allow_ipv6_forwarding() -> None:
    """Netlink has no attribute for it; raises OSError where /proc/sys is read-only, as it is in most pods."""
    try:
        (CONF / "ipv6/conf/all/forwarding").write_text("1")
    except FileNotFoundError as error:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)) from error


def _reads_one(path: Path) -> bool:
    try:
        return path.read_text().strip() == "1"
    except OSError:
        return False
