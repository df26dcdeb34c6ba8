"""nft tables beside the interface: masquerade and the clamp of segment sizes; marks on what stays outside.

Each is replaced in one transaction, and outlives the container: what a former process left is overwritten.
"""

from __future__ import annotations

import subprocess
from typing import Final

from ..control.configuration import ForwardingSpec
from ..errors import HandfastError

NFT_TIME: Final = 10.0
_IPV4_HEADERS: Final = 40
_IPV6_HEADERS: Final = 60
"""Of IP and TCP: what a segment is smaller than its packet."""


class FirewallError(HandfastError):
    """The kernel or the program `nft` refused the table."""


def table_name(interface: str) -> str:
    return "handfast_" + "".join([c if c.isalnum() else "_" for c in interface])


def ruleset(interface: str, spec: ForwardingSpec, mtu: int) -> str:
    """What `nft -f` reads."""
    chains = [
        *(_masquerade(interface) if spec.masquerade else []),
        *(_clamp(interface, mtu) if spec.clamp_mss else []),
    ]
    return _anew(table_name(interface), chains)


def marking(interface: str, mark: int) -> str:
    """Answers go back the way the question came: what begins outside has the mark, and keeps it. Only what
    begins there: an answer from outside could else lead a connection out of the tunnel. 0: nothing has it."""
    chains = [
        "  chain arriving {",
        "    type filter hook prerouting priority mangle; policy accept;",
        f'    iifname != "{interface}" meta mark set {mark:#x}',
        f'    iifname != "{interface}" ct direction original ct mark set {mark:#x}',
        "  }",
        "  chain answering {",
        "    type route hook output priority mangle; policy accept;",
        f"    ct mark {mark:#x} meta mark set {mark:#x}",
        "  }",
    ]
    return _anew(marking_name(interface), chains if mark else [])


def marking_name(interface: str) -> str:
    return f"{table_name(interface)}_outside"


def _anew(name: str, chains: list[str]) -> str:
    """The table, whatever it was."""
    anew = [f"table inet {name}", f"delete table inet {name}"]
    table = [f"table inet {name} {{", *chains, "}"] if chains else []
    return "\n".join([*anew, *table]) + "\n"


def _masquerade(interface: str) -> list[str]:
    return [
        "  chain postrouting {",
        "    type nat hook postrouting priority srcnat; policy accept;",
        f'    iifname "{interface}" oifname != "{interface}" masquerade',
        "  }",
    ]


def _clamp(interface: str, mtu: int) -> list[str]:
    """In both directions, because a client may have set a larger MTU. nft never raises a segment size."""
    syn = "tcp flags & (syn|rst) == syn tcp option maxseg size set"
    sizes = [("ipv4", mtu - _IPV4_HEADERS), ("ipv6", mtu - _IPV6_HEADERS)]
    return [
        "  chain forward {",
        "    type filter hook forward priority mangle; policy accept;",
        *[
            f'    meta nfproto {family} {direction} "{interface}" {syn} {size}'
            for family, size in sizes
            for direction in ("iifname", "oifname")
        ],
        "  }",
    ]


def install(interface: str, spec: ForwardingSpec, mtu: int) -> None:
    """Raises FirewallError."""
    _load(table_name(interface), ruleset(interface, spec, mtu))


def install_marking(interface: str, mark: int) -> None:
    """Raises FirewallError."""
    _load(marking_name(interface), marking(interface, mark))


def _load(name: str, rules: str) -> None:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"], input=rules, capture_output=True, text=True, timeout=NFT_TIME, check=False
        )
    except FileNotFoundError:
        raise FirewallError("there is no program `nft` in this image: install nftables") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"nft: {error}") from None
    if done.returncode:
        reason = next(iter(done.stderr.strip().splitlines()), f"status {done.returncode}")
        raise FirewallError(f"nft refused table {name}: {reason}")
