"""What may be asked of a running tunnel: one function a call, from plain values to plain values.

The local control socket serves them, and whatever serves them elsewhere adds only its own transport.
No answer holds a secret.
"""

from __future__ import annotations

import errno
import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, get_args

from .. import __version__
from ..core.peer import Peer, RecoveryState
from ..errors import ConfigurationError
from .text import format_key, format_prefix, parse_base64_key

if TYPE_CHECKING:
    from .tunnel import Tunnel

PEERS_A_PIECE: Final = 32

Request = Mapping[str, Any]
Answer = Iterator[str]
"""JSON text of one object, in pieces that each take less than a millisecond."""


def drain(tunnel: Tunnel, request: Request) -> Answer:
    on = request.get("on", True)
    if not isinstance(on, bool):
        raise ConfigurationError("drain: 'on' is neither true nor false")
    tunnel.drain(on)
    yield json.dumps({"frozen": tunnel.device.frozen})


def handshake(tunnel: Tunnel, request: Request) -> Answer:
    """Without 'peers', all peers with an endpoint; with 'lost_only', those that a start would greet. Unknown
    peers refuse the whole call."""
    names = request.get("peers")
    if names is None and request.get("lost_only") is True:
        yield json.dumps({"initiated": tunnel.greet()})
        return
    if names is not None and not isinstance(names, list):
        raise ConfigurationError("handshake: 'peers' is not a list of public keys")
    keys = None if names is None else [_peer_key(tunnel, name) for name in names]
    yield json.dumps({"initiated": tunnel.handshake(keys)})


def status(tunnel: Tunnel, _request: Request) -> Answer:
    yield json.dumps(_interface_status(tunnel))[:-1] + ', "peers": ['
    now, now_ns = tunnel.loop.now, time.time_ns()
    progress: Counter[str] = Counter()
    peers = list(tunnel.device.peers.values())
    for start in range(0, len(peers), PEERS_A_PIECE):
        piece = peers[start : start + PEERS_A_PIECE]
        progress.update(map(recovery_state, piece))
        statuses = [json.dumps(_peer_status(peer, now, now_ns)) for peer in piece]
        yield (", " if start else "") + ", ".join(statuses)
    yield f'], "recovery": {json.dumps(_progress(progress))}}}'


CALLS: Final[Mapping[str, Callable[[Tunnel, Request], Answer]]] = {
    "drain": drain,
    "handshake": handshake,
    "status": status,
}


def answer(tunnel: Tunnel, request: bytes) -> Answer:
    """Raises ConfigurationError for a request that is refused, then or when it is iterated."""
    name, fields = parse(request, CALLS)
    return CALLS[name](tunnel, fields)


def parse(request: bytes, names: Collection[str]) -> tuple[str, Request]:
    """The call, which is one of `names`, and its fields."""
    try:
        fields = json.loads(request)
        name = fields["call"]
        known = name in names
    except (ValueError, TypeError, KeyError, RecursionError):
        known = False
    if not known:
        raise ConfigurationError(f"a request is JSON with a 'call' out of {', '.join(names)}")
    return name, fields


def format_refusal(error: ConfigurationError) -> str:
    return json.dumps({"error": str(error)})


def recovery_state(peer: Peer) -> str:
    """`idle` outside a recovery; else how far the peer has come back."""
    return "idle" if peer.recovery is None else peer.recovery.state


def _peer_key(tunnel: Tunnel, name: object) -> bytes:
    try:
        key = parse_base64_key(str(name))
    except ValueError as reason:
        raise ConfigurationError(f"peer {name!r}: {reason}") from None
    if key not in tunnel.device.peers:
        raise ConfigurationError(f"{tunnel.name} has no peer {name}", errno.ENOENT)
    return key


def _interface_status(tunnel: Tunnel) -> dict[str, Any]:
    device = tunnel.device
    return {
        "interface": tunnel.name,
        "version": __version__,
        "public_key": None if device.public_key is None else format_key(device.public_key),
        "listen_port": device.listen_port,
        "frozen": device.frozen,
        "incarnation": tunnel.incarnation,
        "queue_drops": {"at_takeover": tunnel.drops.at_takeover, "total": tunnel.drops.in_queues},
        "settings": {
            "timers": device.settings.timers,
            "announce": device.settings.announce,
            "burst_per_second": device.settings.burst_per_second,
        },
        "data_plane": tunnel.plane.name,
        "features": tunnel.features,
    }


def _peer_status(peer: Peer, now: float, now_ns: int) -> dict[str, Any]:
    handshake_ns = peer.last_handshake_wall
    return {
        "public_key": format_key(peer.public_key),
        "endpoint": None if peer.endpoint is None else str(peer.endpoint),
        "allowed_ips": [format_prefix(prefix) for prefix in peer.allowed_ips],
        "recovery": recovery_state(peer),
        "method": peer.method,
        "latency": peer.latency,
        "outage": peer.outage,
        "last_handshake": handshake_ns / 1e9 if handshake_ns else None,
        "handshake_age": max(0, now_ns - handshake_ns) / 1e9 if handshake_ns else None,
        "received_age": max(0.0, now - peer.last_received) if peer.last_received else None,
        "received_bytes": peer.received_bytes,
        "sent_bytes": peer.sent_bytes,
    }


def _progress(states: Counter[str]) -> dict[str, int]:
    """How far a recovery has come: `total` of its peers, and what became of them."""
    return {
        "total": states.total() - states["idle"],
        **{state: states[state] for state in get_args(RecoveryState)},
    }
