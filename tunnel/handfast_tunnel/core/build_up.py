"""Peers that are configured, but that nobody has looked at yet: how a start serves packets before it has.

What is kept of each peer is taken up in slices between other work, and at once where a packet needs it. A
successor builds even the peers themselves so (`Succession`); elsewhere a configuration change has made them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from ..continuity.packed_configuration import PackedConfiguration
from .interface import Interface
from .peer import Peer
from .resume import resume
from .routing import RoutingTable

PEERS_PER_STEP: Final = 32
"""About a millisecond of work."""

Resumed = Callable[[Peer, float], None]
"""What is done with a peer whose session goes on."""


class BuildUp:
    """Resumes peers, which exist. While it goes on it is the interface's `build_up`."""

    def __init__(self, interface: Interface, peers: Iterable[Peer], on_resumed: Resumed) -> None:
        self._interface = interface
        self._on_resumed = on_resumed
        self._queue = deque(peers)
        self._waiting = set(self._queue)
        self.silent: dict[Peer, None] = {}
        """Those without a session: to be greeted when all that have one are served."""

    @property
    def is_short(self) -> bool:
        """Whether one step does it all."""
        return len(self) <= PEERS_PER_STEP

    def step(self, now: float) -> bool:
        """Takes up some peers; whether it was the last step."""
        for _ in range(PEERS_PER_STEP):
            peer = self._next()
            if peer is None:
                break
            self.take_up(peer, now)
        if len(self):
            return False
        self._end()
        return True

    def _next(self) -> Peer | None:
        return self._queue.popleft() if self._queue else None

    def __len__(self) -> int:
        """How many peers are still to be looked at."""
        return len(self._queue)

    def _end(self) -> None:
        """The interface is what it would be, had everything been done at once."""

    def take_up(self, peer: Peer, now: float) -> None:
        """Gives the peer what is kept of it, if nobody did yet."""
        if peer not in self._waiting:
            return
        self._waiting.discard(peer)
        if not peer.keypairs and resume(self._interface, peer, now):
            self._on_resumed(peer, now)
        else:
            self.silent[peer] = None

    def find(self, public_key: bytes, now: float) -> Peer | None:
        """The peer with this key, as one that was looked at."""
        peer = self._peer(public_key)
        if peer is not None:
            self.take_up(peer, now)
        return peer

    def _peer(self, public_key: bytes) -> Peer | None:
        return self._interface.peers.get(public_key)

    def find_index(self, index: int, now: float) -> None:
        """Takes up the peer whose session has this receiver index, if there is one."""
        public_key = self._interface.memory.peer_of(index)
        if public_key is not None:
            self.find(public_key, now)


class Succession(BuildUp):
    """Builds the peers of a configuration that a former process left, and resumes them."""

    def __init__(self, interface: Interface, left: PackedConfiguration, on_resumed: Resumed) -> None:
        super().__init__(interface, (), on_resumed)
        self._left = left
        self._built: list[Peer | None] = [None] * left.peers
        self._numbers = iter(range(left.peers))
        self._remaining: int = left.peers
        interface.peers, interface.routes = {}, _LeftRoutes(left, self._build)

    def _next(self) -> Peer | None:
        number = next(self._numbers, None)
        if number is None:
            return None
        self._remaining -= 1
        return self._build(number)

    def __len__(self) -> int:
        return self._remaining

    def _end(self) -> None:
        peers = [peer for peer in self._built if peer is not None]
        self._interface.peers = {peer.public_key: peer for peer in peers}
        self._interface.routes = self._interface.routes.copy()

    def _peer(self, public_key: bytes) -> Peer | None:
        number = self._left.number_of(public_key)
        return None if number is None else self._build(number)

    def _build(self, number: int) -> Peer:
        peer = self._built[number]
        if peer is None:
            interface = self._interface
            left = self._left.peer(number)
            peer = Peer(left.public_key, interface.memory, interface.schedule, interface.random)
            peer.preshared_key = left.preshared_key
            peer.endpoint = peer.configured_endpoint = left.endpoint
            peer.persistent_keepalive, peer.allowed_ips = left.persistent_keepalive, left.allowed_ips
            self._built[number] = interface.peers[left.public_key] = peer
            self._waiting.add(peer)
            for prefix in left.allowed_ips:
                interface.routes.insert(prefix, peer)
        return peer

    def take_up(self, peer: Peer, now: float) -> None:
        if peer in self._waiting:
            peer.timers.set_persistent_interval(peer.persistent_keepalive, now)
        super().take_up(peer, now)


class _LeftRoutes(RoutingTable[Peer]):
    """Routes as they were left: right from the start, while the table's own entries are still being made."""

    __slots__ = ("_build", "_left")

    def __init__(self, left: PackedConfiguration, build: Callable[[int], Peer]) -> None:
        super().__init__()
        self._left, self._build = left, build

    def lookup(self, address: bytes) -> Peer | None:
        number = self._left.owner_of(address)
        return None if number is None else self._build(number)
