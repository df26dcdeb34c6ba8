"""Between an export's plain text and what the core knows of peers. Loaded at the first handover."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable

from ..adapters.text import parse_base64_key, parse_endpoint
from ..control.export import ExportedPeer, ExportedSession
from ..core.handover import ForeignSession, Handed
from .translate import inbound, moment, stamp_from_text, stamp_to_text


def exported(public_key: str, handed: Handed, wall_offset: float) -> ExportedPeer:
    """`wall_offset` is Unix time less the device's."""
    return ExportedPeer(
        public_key,
        str(handed.endpoint) if handed.endpoint is not None else None,
        b64encode(handed.inbound_stamp).decode() if handed.inbound_stamp else None,
        stamp_to_text(handed.outbound_stamp),
        handed.last_received + wall_offset if handed.last_received else None,
        tuple(
            [
                ExportedSession(s.receiver_index, s.born + wall_offset, s.highest_received)
                for s in handed.sessions
            ]
        ),
    )


def known(peers: Iterable[ExportedPeer], created: float, wall_offset: float) -> dict[bytes, Handed]:
    """By public key."""
    return {parse_base64_key(peer.public_key): handed(peer, created, wall_offset) for peer in peers}


def handed(peer: ExportedPeer, created: float, wall_offset: float) -> Handed:
    return Handed(
        parse_endpoint(peer.endpoint) if peer.endpoint is not None else None,
        inbound(peer.inbound_stamp, created),
        stamp_from_text(peer.outbound_stamp, created),
        moment(peer.last_received, created, wall_offset),
        tuple(
            [
                ForeignSession(s.index, moment(s.born, created, wall_offset), s.highest_received)
                for s in peer.sessions
            ]
        ),
    )
