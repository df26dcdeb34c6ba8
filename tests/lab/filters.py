"""What the router does to the messages that pass: drop, count, translate, admit answers only.

Packet filters look at the first four bytes of a UDP payload, the type of a WireGuard message. Directions
are the cables a packet comes from and leaves by, so they hold behind NAT too.
"""

from __future__ import annotations

import enum
import json
import re

from .namespaces import LabError, Node


class Message(enum.IntEnum):
    INITIATION = 1
    RESPONSE = 2
    COOKIE_REPLY = 3
    TRANSPORT = 4


_SETUP = """
table inet lab {
    chain forward {
        type filter hook forward priority filter
    }
    chain prerouting {
        type filter hook prerouting priority raw
    }
    chain postrouting {
        type nat hook postrouting priority srcnat
    }
}
"""


class Rule:
    """One rule in the router; it counts what it matched."""

    def __init__(self, router: Node, chain: str, handle: int) -> None:
        self._router, self._chain, self._handle = router, chain, handle

    @property
    def packets(self) -> int:
        listing = json.loads(self._router.run("nft", "-j", "list", "chain", "inet", "lab", self._chain))
        for item in listing["nftables"]:
            if item.get("rule", {}).get("handle") == self._handle:
                return next(int(e["counter"]["packets"]) for e in item["rule"]["expr"] if "counter" in e)
        raise LabError(f"rule {self._handle} is gone")

    def remove(self) -> None:
        self._router.run("nft", "delete", "rule", "inet", "lab", self._chain, "handle", str(self._handle))


class Filters:
    """The router's rules. Each method adds one at the end and returns it."""

    def __init__(self, router: Node) -> None:
        self._router = router
        router.run("nft", "-f", "-", input=_SETUP)

    def drop(
        self,
        message: Message | None = None,
        *,
        source: str = "",
        destination: str = "",
        first: int = 0,
        after: int = 0,
        keepalives: bool = False,
    ) -> Rule:
        """Drop messages of one type (default: everything) between two hosts.

        Only the `first` so many, or all `after` so many; `keepalives`: only empty transport messages.
        """
        # A week is longer than any lab lives: the burst is never refilled.
        budget = f"limit rate 1/week burst {first} packets" if first else ""
        budget += f"limit rate over 1/week burst {after} packets" if after else ""
        match = _match(message, source, destination, keepalives)
        return self._add("forward", f"{match} {budget} counter drop")

    def count(
        self, message: Message | None = None, *, source: str = "", destination: str = "", expression: str = ""
    ) -> Rule:
        """Only count; `expression` narrows it in the words of nft."""
        return self._add("forward", f"{_match(message, source, destination, False)} {expression} counter")

    def mark_congestion(self, *, source: str = "", destination: str = "") -> Rule:
        """What a congested router says: ECN becomes CE (here whether or not the packet allows it)."""
        match = _match(None, source, destination, False)
        return self._add("forward", f"{match} counter ip ecn set ce")

    def lose(self, percent: int, *, source: str = "", destination: str = "") -> Rule:
        """Drop this share of all packets, at random."""
        match = _match(None, source, destination, False)
        return self._add("forward", f"{match} numgen random mod 100 < {percent} counter drop")

    def admit_answers_only(self, host: str) -> Rule:
        """A stateful firewall before `host`: what does not belong to a flow that it began is dropped."""
        return self._add("forward", f'oifname "{host}" ct state new counter drop')

    def admit_only_from(self, host: str, address: str) -> Rule:
        """A firewall before `host` that admits one IPv4 source address."""
        return self._add("forward", f'oifname "{host}" ip saddr != {address} counter drop')

    def readdress(self, host: str, old: str, new: str, *, leave: bool = False) -> None:
        """From now on the others see IPv4 address `new` of this host, which does not notice: it roams.

        With `leave` nothing reaches it at `old` any more.
        """
        if leave:
            self._add("prerouting", f'iifname != "{host}" ip daddr {old} counter drop')
        rules = [f'forward iifname "{host}" ip saddr {old} ip saddr set {new}']
        rules.append(f"prerouting ip daddr {new} ip daddr set {old}")
        for rule in rules:
            self._router.run("nft", "add", "rule", "inet", "lab", rule)

    def masquerade(self, host: str) -> Rule:
        return self._add("postrouting", f'iifname "{host}" counter masquerade')

    def _add(self, chain: str, rule: str) -> Rule:
        added = self._router.run("nft", "--echo", "--handle", "add", "rule", "inet", "lab", chain, rule)
        if not (handle := re.search(r"# handle (\d+)", added)):
            raise LabError(f"nft did not say the handle of: {rule}")
        return Rule(self._router, chain, int(handle[1]))


def _match(message: Message | None, source: str, destination: str, keepalives: bool) -> str:
    parts = [f'iifname "{source}"'] if source else []
    parts += [f'oifname "{destination}"'] if destination else []
    if message:
        parts.append(f"meta l4proto udp @th,64,32 0x{message.to_bytes(4, 'little').hex()}")
    if keepalives:
        parts.append("udp length 40")
    return " ".join(parts)
