"""A pod's status, gathered on the event loop in slices."""

from __future__ import annotations

import time
from base64 import b64encode
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ..adapters.text import format_key
from ..control.status import (
    DrainingStatus,
    FamilyStatus,
    ForwardingStatus,
    PeerStatus,
    RecoveryProgress,
    Status,
)
from ..core.constants import REJECT_AFTER_TIME
from . import translate

if TYPE_CHECKING:
    from ..control.status import Listed
    from ..core.peer import Peer
    from .gateway import Gateway
    from .surroundings import Surroundings

PEERS_A_STEP: Final = 32
COUNT_INTERVAL: Final = 1.0
"""Between two counts of all peers: a change is answered with a status, too, and may cost no more for many."""


class Counts(NamedTuple):
    """Of all peers: what takes a look at each."""

    at: float
    connected: int
    last_received: float
    progress: Counter[str]
    """By the state of their recovery."""


def gather(gateway: Gateway, surroundings: Surroundings, *, peers: Listed) -> Generator[None, None, Status]:
    """A job for the event loop."""
    while gateway.tunnel.device.building_up:
        yield
    tunnel, configuration, standing = gateway.tunnel, gateway.configuration, gateway.standing
    now = tunnel.loop.now
    offset = time.time() - now
    counts = gateway.counts
    if counts is None or now - counts.at >= COUNT_INTERVAL:
        counts = gateway.counts = yield from _count(tunnel.device.peers, now, offset)
    listed: list[PeerStatus] = []
    if peers != "none":
        for piece in _pieces(tunnel.device.peers):
            wanted = piece if peers == "all" else filter(_is_heard, piece)
            listed += [_peer(gateway, peer, now, offset) for peer in wanted]
            yield
    device, progress = tunnel.device, counts.progress
    draining = None
    if standing.thaw_at is not None:
        draining = DrainingStatus(max(0.0, standing.thaw_at - now), standing.successor)
    return Status(
        role=standing.role,
        term=standing.term,
        heard=standing.heard,
        generation=configuration.generation,
        incarnation=tunnel.incarnation or 0,
        offering=gateway.offering,
        draining=draining,
        pod_uid=gateway.pod_uid,
        uid=configuration.tunnel.uid,
        public_key=format_key(device.public_key or b""),
        interface=tunnel.name,
        listen_port=device.listen_port,
        mtu=surroundings.mtu,
        forwarding=ForwardingStatus(FamilyStatus(*surroundings.ipv4), FamilyStatus(*surroundings.ipv6)),
        recovery=RecoveryProgress(progress["pending"], progress["waiting"], progress["recovered"]),
        connected=counts.connected,
        max_received_age=max(0.0, now - counts.last_received) if counts.last_received else None,
        control_age=None if gateway.control_call_at is None else now - gateway.control_call_at,
        outbound_stamp=translate.stamp_to_text(device.highest_stamp),
        known_sessions=device.known_sessions,
        peers=None if peers == "none" else tuple(listed),
    )


def _count(peers: Mapping[bytes, Peer], now: float, offset: float) -> Generator[None, None, Counts]:
    progress: Counter[str] = Counter()
    connected, last_received = 0, 0.0
    for piece in _pieces(peers):
        for peer in piece:
            connected += _is_connected(peer, now, offset)
            last_received = max(last_received, peer.last_received)
            progress[peer.recovery.state if peer.recovery is not None else "idle"] += 1
        yield
    return Counts(now, connected, last_received, progress)


def _pieces(peers: Mapping[bytes, Peer]) -> Iterator[list[Peer]]:
    everyone = list(peers.values())
    for start in range(0, len(everyone), PEERS_A_STEP):
        yield everyone[start : start + PEERS_A_STEP]


def _is_connected(peer: Peer, now: float, offset: float) -> bool:
    return now + offset - peer.last_handshake_wall / 1e9 < REJECT_AFTER_TIME


def _is_heard(peer: Peer) -> bool:
    return peer.has_marks or peer.endpoint is not None or bool(peer.last_handshake_wall)


def _peer(gateway: Gateway, peer: Peer, now: float, offset: float) -> PeerStatus:
    public_key = format_key(peer.public_key)
    spec = gateway.configuration.peers.get(public_key)
    stamp = peer.marks.inbound_stamp if peer.has_marks else b""
    return PeerStatus(
        public_key=public_key,
        name=spec.name if spec is not None else "",
        endpoint=None if peer.endpoint is None else str(peer.endpoint),
        last_handshake=peer.last_handshake_wall / 1e9 if peer.last_handshake_wall else None,
        last_received=peer.last_received + offset if peer.last_received else None,
        inbound_stamp=b64encode(stamp).decode() if stamp else None,
        connected=_is_connected(peer, now, offset),
        method=peer.method,
        latency=peer.latency,
        received_bytes=peer.received_bytes,
        sent_bytes=peer.sent_bytes,
    )
