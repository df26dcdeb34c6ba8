"""Between the documents' plain text and what the core works with."""

from __future__ import annotations

from base64 import b64decode
from typing import Final

from ..adapters.text import parse_base64_key, parse_endpoint, parse_prefix
from ..control import stamps
from ..control.configuration import Configuration, Patch, PeerSpec, TunnelSpec
from ..control.state import PeerState
from ..core.configuration import InterfaceChange, PeerChange, Settings
from ..core.handover import Handed
from ..core.noise import NO_PRESHARED_KEY
from .way_out import mark_of

MARK_TOLERANCE_NS: Final = 24 * 3600 * 10**9
"""A mark further ahead of its document than this is a broken clock's: it would lock the peer out."""


def settings(spec: TunnelSpec) -> Settings:
    recovery = spec.recovery
    return Settings(
        timers=recovery.timers,
        announce=recovery.announce == "always",
        burst_per_second=recovery.burst_per_second,
        shared_networks=tuple(map(parse_prefix, spec.shared_networks)),
    )


def whole(new: Configuration, old: Configuration | None) -> InterfaceChange:
    """Makes an interface what `new` says, whatever it was."""
    known = old.peers if old is not None else {}
    return InterfaceChange(
        private_key=parse_base64_key(new.tunnel.private_key),
        listen_port=new.tunnel.listen_port,
        fwmark=mark_of(new.tunnel),
        replace_peers=True,
        peers=tuple([_peer(peer, known.get(key)) for key, peer in new.peers.items()]),
    )


def difference(patch: Patch, old: Configuration) -> InterfaceChange:
    gone = [PeerChange(parse_base64_key(key), remove=True) for key in patch.remove]
    put = [_peer(peer, old.peers.get(peer.public_key)) for peer in patch.put]
    return InterfaceChange(peers=(*gone, *put))


def _peer(new: PeerSpec, old: PeerSpec | None) -> PeerChange:
    """A peer may have roamed: its endpoint is set only where the configuration's is another than before."""
    moved = new.endpoint is not None and (old is None or old.endpoint != new.endpoint)
    return PeerChange(
        public_key=parse_base64_key(new.public_key),
        preshared_key=NO_PRESHARED_KEY if new.preshared_key is None else parse_base64_key(new.preshared_key),
        endpoint=parse_endpoint(new.endpoint) if moved and new.endpoint is not None else None,
        persistent_keepalive=new.persistent_keepalive,
        replace_allowed_ips=True,
        allowed_ips=tuple(map(parse_prefix, new.allowed_ips)),
    )


def stamp_to_text(stamp: int) -> str | None:
    return stamps.to_text(stamp) if stamp else None


def stamp_from_text(text: str | None, created: float | None = None) -> int:
    """0 for none, and for one too far ahead of its document's `created`."""
    stamp = 0 if text is None else stamps.from_text(text)
    too_far = created is not None and stamp > int(created * 1e9) + MARK_TOLERANCE_NS
    return 0 if too_far else stamp


def inbound(text: str | None, created: float) -> bytes:
    return b64decode(text) if text is not None and stamp_from_text(text, created) else b""


def remembered(peer: PeerState, created: float, wall_offset: float) -> Handed:
    """What a state document tells, which may be minutes old."""
    return Handed(
        parse_endpoint(peer.endpoint) if peer.endpoint is not None else None,
        inbound(peer.inbound_stamp, created),
        last_received=moment(peer.last_received, created, wall_offset),
    )


def moment(unix: float | None, created: float, wall_offset: float) -> float:
    """In this device's time; nothing happened after the document was made."""
    return max(0.0, min(unix, created) - wall_offset) if unix is not None else 0.0
