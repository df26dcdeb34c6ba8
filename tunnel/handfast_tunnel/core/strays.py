"""Answering packets of sessions whose keys are gone (RECOVERY, section 6): rung 3 of the ladder.

The receiver index of such a packet names its peer, and a handshake goes back along the path it came. The
packet itself proves nothing: so an initiation to an address that is not known to be the peer's goes out
once, at most three bytes for one received, rarely, and moves nothing. What an initiation could be hoarded for
is void once a newer one was answered.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

from .constants import ANSWER_INTERVAL, ANSWER_INTERVAL_LIMIT, REJECT_AFTER_TIME
from .endpoint import Endpoint
from .handshake import Handshakes, Initiate
from .interface import Interface, LostSession
from .messages import TRANSPORT_COUNTER
from .peer import Peer
from .startup_handshake import StartupHandshakes
from .token_bucket import TokenBucket, TokenBuckets
from .transport import Transport

ANSWERS_PER_SECOND: Final = 50.0
ANSWERS_PER_NETWORK: Final = 5.0
IPV4_NETWORK: Final = 24
IPV6_NETWORK: Final = 56


def network_of(source: Endpoint) -> str:
    """The network whose addresses share a budget."""
    length = IPV6_NETWORK if source.is_ipv6 else IPV4_NETWORK
    return str(ipaddress.ip_network((source.host, length), strict=False))


class Strays:
    """What is done with transport messages whose receiver index names no session."""

    def __init__(
        self,
        interface: Interface,
        handshakes: Handshakes,
        startup: StartupHandshakes,
        transport: Transport,
    ) -> None:
        self._interface = interface
        self._handshakes = handshakes
        self._startup = startup
        self._transport = transport
        self._overall = TokenBucket(ANSWERS_PER_SECOND, burst=ANSWERS_PER_SECOND)
        self._networks: TokenBuckets[str] = TokenBuckets(ANSWERS_PER_NETWORK, ANSWERS_PER_NETWORK, limit=4096)
        self.settings_changed()

    def settings_changed(self) -> None:
        self._shared = [ipaddress.ip_network(prefix) for prefix in self._interface.settings.shared_networks]

    def receive(self, index: int, datagrams: Sequence[bytes], source: Endpoint, now: float) -> None:
        """A run of strays with one receiver index from one source."""
        lost = self._interface.lost.get(index)
        if lost is None or now - lost.born >= REJECT_AFTER_TIME:
            self._count("unknown_index", len(datagrams))
        elif TRANSPORT_COUNTER.unpack_from(datagrams[-1], 8)[0] <= lost.highest_received:
            self._count("old_counter", len(datagrams))
        else:
            self._count(self._answer(lost, source, now), len(datagrams))

    def _count(self, action: str, count: int) -> None:
        self._interface.statistics.strays[action] += count

    def _answer(self, lost: LostSession, source: Endpoint, now: float) -> str:
        peer = lost.peer
        at_home = peer.endpoint is not None and source.address == peer.endpoint.address
        if peer.current is not None and not peer.current.expired(now):
            return "confirmed" if at_home and self._transport.reconfirm(peer, now) else "has_session"
        if peer.endpoint is not None and at_home:
            if not peer.endpoint.local:
                # Configured, not heard: only the packet tells which address of ours the peer knows.
                peer.endpoint = source
            return "answered" if self._startup.answer(peer, now) else "under_way"
        return self._answer_elsewhere(peer, source, now)

    def _answer_elsewhere(self, peer: Peer, source: Endpoint, now: float) -> str:
        if now < peer.stray_answer_at:
            return "too_often"
        if not self._is_within_limits(source, now):
            return "too_many"
        peer.stray_interval = min(max(peer.stray_interval * 2, ANSWER_INTERVAL), ANSWER_INTERVAL_LIMIT)
        peer.stray_answer_at = now + peer.stray_interval
        if peer.recovery is None or peer.recovery.state != "pending":
            peer.recover("answered", "waiting", now)
        self._handshakes.initiate(peer, now, Initiate.STRAY, source)
        return "answered"

    def _is_within_limits(self, source: Endpoint, now: float) -> bool:
        address = ipaddress.ip_address(source.host)
        if any(address in network for network in self._shared):
            return self._startup.take_one(now)
        return self._networks.take(network_of(source), now) and self._overall.take(now)
