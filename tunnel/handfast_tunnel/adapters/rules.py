"""Which packets go by which table of routes, by netlink. Sources: linux/fib_rules.h, ip-rule(8)."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator
from struct import Struct
from typing import Final, NamedTuple

from .netlink import NLM_F_CREATE, NLM_F_EXCL, attribute, attributes, dump, request
from .network import RTPROT_HANDFAST, Network

RTM_NEWRULE: Final = 32
RTM_DELRULE: Final = 33
RTM_GETRULE: Final = 34
FR_ACT_TO_TBL: Final = 1

FRA_DST: Final = 1
FRA_PRIORITY: Final = 6
FRA_FWMARK: Final = 10
FRA_SUPPRESS_PREFIXLEN: Final = 14
FRA_PROTOCOL: Final = 21
"""Marks the rules that are ours."""

_RULE = Struct("=BBBBBBBBI")  # family, destination and source length, tos, table, two unused, action, flags
_UNSIGNED = Struct("=I")
_NO_SUPPRESSION: Final = 0xFFFFFFFF


class Rule(NamedTuple):
    """Packets for which all of it holds go by a table; the least priority comes first."""

    family: int
    priority: int
    table: int
    mark: int = 0
    """0: any."""
    destination: Network | None = None
    no_default: bool = False
    """Not by the table's default route."""


def set_rules(wanted: Collection[Rule]) -> None:
    """Ours, all of them."""
    present = set(present_rules())
    for new in set(wanted) - present:
        request(RTM_NEWRULE, _packed(new), NLM_F_CREATE | NLM_F_EXCL)
    for gone in present - set(wanted):
        request(RTM_DELRULE, _packed(gone))


def present_rules() -> Iterator[Rule]:
    """Those that are ours."""
    for family in (socket.AF_INET, socket.AF_INET6):
        for body in dump(RTM_GETRULE, _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)):
            _, length, _, _, table, *_ = _RULE.unpack_from(body)
            known = dict(attributes(body[_RULE.size :]))
            if known.get(FRA_PROTOCOL) == bytes([RTPROT_HANDFAST]):
                yield Rule(
                    family,
                    _number(known, FRA_PRIORITY),
                    table,
                    _number(known, FRA_FWMARK),
                    Network(known[FRA_DST], length) if FRA_DST in known else None,
                    _number(known, FRA_SUPPRESS_PREFIXLEN, _NO_SUPPRESSION) == 0,
                )


def _number(known: dict[int, bytes], key: int, otherwise: int = 0) -> int:
    return int(_UNSIGNED.unpack(known[key])[0]) if key in known else otherwise


def _packed(rule: Rule) -> bytes:
    length = rule.destination.length if rule.destination else 0
    parts = [
        _RULE.pack(rule.family, length, 0, 0, rule.table, 0, 0, FR_ACT_TO_TBL, 0),
        attribute(FRA_PRIORITY, _UNSIGNED.pack(rule.priority)),
        attribute(FRA_PROTOCOL, bytes([RTPROT_HANDFAST])),
    ]
    if rule.mark:
        parts.append(attribute(FRA_FWMARK, _UNSIGNED.pack(rule.mark)))
    if rule.destination:
        parts.append(attribute(FRA_DST, rule.destination.address))
    if rule.no_default:
        parts.append(attribute(FRA_SUPPRESS_PREFIXLEN, _UNSIGNED.pack(0)))
    return b"".join(parts)
