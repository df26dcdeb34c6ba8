"""The network around an interface, by netlink: its addresses, its routes, and who may forward.

What is not asked for any more is removed; what is there already stays untouched, so that connections do.
Sources: rtnetlink(7), linux/rtnetlink.h, linux/if_addr.h, linux/if_link.h, linux/ip.h.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Collection, Iterable, Iterator
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
IPV4_DEVCONF_SRC_VMARK: Final = 24

IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_FLAGS: Final = 8
IFA_F_NODAD: Final = 0x2
"""Addresses work at once: nobody else is on a tunnel's link."""
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_LINK: Final = 253

RT_TABLE_MAIN: Final = 254
RT_TABLE_HANDFAST: Final = 145
"""For default routes: the main table has its own, which what is not the tunnel's goes by."""
RTPROT_HANDFAST: Final = 145
"""Marks the routes that are ours: any other on the interface is somebody's. The kernel does not read it."""
RTN_UNICAST: Final = 1
RTN_UNREACHABLE: Final = 7
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_PRIORITY: Final = 6
BARRIER_METRIC: Final = 2**31 - 1
"""Behind every other route to the same network."""

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

    @property
    def whole(self) -> Network:
        """That of all addresses with the same prefix."""
        bits = 8 * len(self.address)
        number = int.from_bytes(self.address, "big") >> bits - self.length << bits - self.length
        return Network(number.to_bytes(len(self.address), "big"), self.length)

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


def set_routes(name: str, wanted: Iterable[Network]) -> None:
    """Ours through the interface, which must be up."""
    index = socket.if_nametoindex(name)
    _make_routes({_Route(each, index) for each in wanted}, {each for each in _routes() if each.link == index})


def set_barriers(wanted: Iterable[Network]) -> None:
    """While the interface is away, nothing goes to these networks by a wider route: they are unreachable."""
    _make_routes({_Route(each, 0) for each in wanted}, {each for each in _routes() if not each.link})


class _Route(NamedTuple):
    network: Network
    link: int
    """The interface's number; 0 for a barrier."""


def _make_routes(wanted: set[_Route], present: set[_Route]) -> None:
    for gone in present - wanted:
        _change_route(RTM_DELROUTE, gone)
    for new in wanted - present:
        _change_route(RTM_NEWROUTE, new)


def _routes() -> Iterator[_Route]:
    """All of ours."""
    for family, size in ((socket.AF_INET, 4), (socket.AF_INET6, 16)):
        for body in dump(RTM_GETROUTE, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, length, _, _, _, protocol, _, kind, _ = _ROUTE.unpack_from(body)
            if protocol == RTPROT_HANDFAST:
                known = dict(attributes(body[_ROUTE.size :]))
                # Without an interface the kernel names that of IPv6 as loopback.
                index = _UNSIGNED.unpack(known[RTA_OIF])[0] if kind == RTN_UNICAST else 0
                yield _Route(Network(known.get(RTA_DST, bytes(size)), length), index)


def _change_route(change: int, route: _Route) -> None:
    network, index = route
    table = RT_TABLE_MAIN if network.length else RT_TABLE_HANDFAST
    scope = RT_SCOPE_LINK if index and network.family == socket.AF_INET else RT_SCOPE_UNIVERSE
    kind = RTN_UNICAST if index else RTN_UNREACHABLE
    fixed = _ROUTE.pack(network.family, network.length, 0, 0, table, RTPROT_HANDFAST, scope, kind, 0)
    where = (RTA_OIF, index) if index else (RTA_PRIORITY, BARRIER_METRIC)
    known = attribute(RTA_DST, network.address) + attribute(where[0], _UNSIGNED.pack(where[1]))
    with _named(network):
        request(change, fixed + known, NLM_F_CREATE | NLM_F_REPLACE if change == RTM_NEWROUTE else 0)


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
    _configure_ipv4(IPV4_DEVCONF_FORWARDING)


def believe_marks() -> None:
    """Where a packet is taken only from where its answer would go (rp_filter), its mark counts for that."""
    _configure_ipv4(IPV4_DEVCONF_SRC_VMARK)


def _configure_ipv4(what: int) -> None:
    conf = attribute(what, _UNSIGNED.pack(1))
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
