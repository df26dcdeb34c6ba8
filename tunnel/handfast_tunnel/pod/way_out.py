"""Where a peer is the way to everywhere (0.0.0.0/0, ::/0): what goes another way all the same.

The tunnel's own packets, answers to whoever came by another interface (the kubelet's probes, the operator, a
Service's clients), names that are asked for, and what a more exact route leads elsewhere. The rules are those
of wg-quick(8), with marks that connections keep.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..adapters.network import RT_TABLE_HANDFAST, RT_TABLE_MAIN, Network
from ..adapters.rules import Rule
from ..control.configuration import TunnelSpec

MARK: Final = 0xCA6C
"""Of packets that stay outside of the tunnel: the same as wg-quick's."""
RESOLVER: Final = Path("/etc/resolv.conf")
FIRST_PRIORITY: Final = 14500
"""Behind the local table, before the main one."""


def mark_of(spec: TunnelSpec) -> int:
    """What the tunnel's own packets are marked with; 0 where nothing has to tell them from others."""
    return MARK if _families(spec) else 0


def rules(spec: TunnelSpec, resolver: Path = RESOLVER) -> set[Rule]:
    families = _families(spec)
    made = set[Rule]()
    for family in families:
        made |= {
            Rule(family, FIRST_PRIORITY, RT_TABLE_MAIN, mark=MARK),
            Rule(family, FIRST_PRIORITY + 2, RT_TABLE_MAIN, no_default=True),
            Rule(family, FIRST_PRIORITY + 3, RT_TABLE_HANDFAST),
        }
    return made | {
        Rule(server.family, FIRST_PRIORITY + 1, RT_TABLE_MAIN, destination=server)
        for server in nameservers(resolver)
        if server.family in families
    }


def nameservers(resolver: Path) -> Iterable[Network]:
    """Those that the pod was given: an app asks them for the cluster's names, and for all others."""
    with suppress(OSError):
        for line in resolver.read_text().splitlines():
            word, _, address = line.partition(" ")
            if word == "nameserver":
                # What the resolver cannot read, it does not ask either.
                with suppress(OSError):
                    yield Network.parse(f"{address.strip()}/{128 if ':' in address else 32}")


def _families(spec: TunnelSpec) -> set[int]:
    return {network.family for network in map(Network.parse, spec.routes) if not network.length}
