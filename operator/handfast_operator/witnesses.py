"""Who had a session right before a sidecar's image was replaced, and what has become of it since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from handfast_tunnel.control import PeerStatus
from handfast_tunnel.core.constants import REJECT_AFTER_TIME, REKEY_AFTER_TIME

MOST: Final = 500
"""So many are looked at, those that were heard last: all annotations of a pod have 256 KiB together."""
LIVELY_SECONDS: Final = 5.0
"""Whoever was heard within them will be heard again, and is waited for."""
OWN_SECONDS: Final = 10.0
"""Without a container for so long, clients shake hands of their own accord: they do after 15 s without an
answer, and its end and beginning take some of these."""

Fate = Literal["resumed", "unheard", "excused", "lost", "anew"]
"""`unheard`: the session is there, and nothing has come on it yet; `excused`: it would be over anyway."""


@dataclass(frozen=True, slots=True)
class Witness:
    key: str
    born: float
    """When its session was, in Unix seconds."""
    lively: bool

    @classmethod
    def parse(cls, value: Any) -> Witness:
        """Raises ValueError or TypeError."""
        key, born, lively = value
        if (type(key), type(lively)) != (str, bool) or type(born) not in {int, float}:
            raise ValueError("this is no witness")
        return cls(key, born, lively)

    def fate(self, peer: PeerStatus, silence: float, now: float) -> Fate:
        """`silence` was between the two containers."""
        if not peer.connected:
            return "excused" if now - self.born >= REJECT_AFTER_TIME else "lost"
        if peer.method == "resumed":
            return "resumed"
        if peer.method is None:
            return "unheard"
        due = (peer.last_handshake or 0.0) - self.born >= REKEY_AFTER_TIME
        return "excused" if due or silence >= OWN_SECONDS else "anew"


def witnesses(peers: Iterable[PeerStatus], now: float) -> tuple[Witness, ...]:
    """Of all peers those with a session."""
    connected = [peer for peer in peers if peer.connected and peer.last_handshake]
    connected.sort(key=lambda peer: -(peer.last_received or 0.0))
    return tuple(
        Witness(
            peer.public_key,
            round(peer.last_handshake or 0.0, 1),
            now - (peer.last_received or 0.0) <= LIVELY_SECONDS,
        )
        for peer in connected[:MOST]
    )


@dataclass(frozen=True, slots=True)
class Testimony:
    """What has become of all of them; whoever is no Peer any more does not count."""

    fates: Counter[Fate]
    awaited: int
    """So many were lively, and may be heard any moment."""
    method: str = ""
    """By which somebody came back who shook hands anew."""


def testimony(
    before: Iterable[Witness], peers: Mapping[str, PeerStatus], silence: float, now: float
) -> Testimony:
    found = [(each, peer, each.fate(peer, silence, now)) for each in before if (peer := peers.get(each.key))]
    methods = (peer.method or "" for _, peer, fate in found if fate == "anew")
    return Testimony(
        Counter(fate for _, _, fate in found),
        sum(fate == "unheard" and each.lively for each, _, fate in found),
        next(methods, ""),
    )
