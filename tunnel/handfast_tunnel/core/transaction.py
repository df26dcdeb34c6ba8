"""Configuration changes: prepared beside the running state, in steps, and swapped in at once.

A `set` is applied as a difference: a peer that is replaced by itself keeps its sessions and, where the
change names none, the endpoint it was last heard from.
"""

from __future__ import annotations

from .configuration import InterfaceChange, PeerChange, Prefix
from .endpoint import Endpoint
from .interface import Interface
from .noise import NO_PRESHARED_KEY, StaticKey, static_key
from .peer import Peer
from .routing import RoutingTable


class _Draft:
    """What a peer will be."""

    __slots__ = ("allowed_ips", "endpoint", "is_new", "peer", "persistent_keepalive", "preshared_key")

    def __init__(self, peer: Peer, *, is_new: bool) -> None:
        self.peer = peer
        self.is_new = is_new
        self.preshared_key = peer.preshared_key
        self.endpoint: Endpoint | None = None
        self.persistent_keepalive = peer.persistent_keepalive
        self.allowed_ips: dict[Prefix, None] = dict.fromkeys(peer.allowed_ips)


class Transaction:
    """One change in the making. Staging touches nothing that packets see."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._change = InterfaceChange()
        self._key: StaticKey | None = interface.key
        self._replace = False
        self._drafts: dict[bytes, _Draft] = {}
        self._removed: dict[bytes, Peer] = {}
        self._routes: RoutingTable[Peer] = interface.routes.copy()

    def stage_interface(self, change: InterfaceChange) -> None:
        """The part that is not a peer's; comes first."""
        self._change = change
        if change.private_key is not None:
            key = static_key(change.private_key) if any(change.private_key) else None
            if key is None or self._key is None or key.public != self._key.public:
                self._key = key
        if change.replace_peers:
            self._replace = True
            self._routes = RoutingTable()

    def stage(self, change: PeerChange) -> None:
        key = change.public_key
        if self._key is not None and key == self._key.public:
            return
        if change.remove:
            self._remove(key)
            return
        draft = self._draft(key, create=not change.update_only)
        if draft is None:
            return
        if change.preshared_key is not None:
            draft.preshared_key = change.preshared_key
        if change.endpoint is not None:
            draft.endpoint = change.endpoint
        if change.persistent_keepalive is not None:
            draft.persistent_keepalive = change.persistent_keepalive
        self._stage_allowed_ips(draft, change)
        if draft.is_new:
            self._fill(draft)

    def _draft(self, key: bytes, *, create: bool) -> _Draft | None:
        draft = self._drafts.get(key)
        if draft is not None:
            return draft
        interface = self._interface
        peer = interface.peers.get(key) if key not in self._removed else None
        if peer is not None:
            if self._replace and not create:
                return None
            draft = _Draft(peer, is_new=False)
            if self._replace:
                draft.preshared_key, draft.persistent_keepalive = NO_PRESHARED_KEY, 0
                draft.allowed_ips = {}
        elif create:
            draft = _Draft(Peer(key, interface.memory, interface.schedule, interface.random), is_new=True)
        else:
            return None
        self._drafts[key] = draft
        return draft

    def _remove(self, key: bytes) -> None:
        draft = self._drafts.pop(key, None)
        peer = self._interface.peers.get(key)
        if peer is not None and key not in self._removed:
            self._removed[key] = peer
        owner = draft.peer if draft else peer
        if owner is not None:
            for prefix in draft.allowed_ips if draft else owner.allowed_ips:
                self._routes.remove(prefix, owner)

    def _stage_allowed_ips(self, draft: _Draft, change: PeerChange) -> None:
        gone = list(draft.allowed_ips) if change.replace_allowed_ips else []
        for prefix in (*gone, *change.removed_allowed_ips):
            if prefix in draft.allowed_ips:
                del draft.allowed_ips[prefix]
                self._routes.remove(prefix, draft.peer)
        for prefix in change.allowed_ips:
            former = self._routes.insert(prefix, draft.peer)
            draft.allowed_ips[prefix] = None
            if former is not None:
                self._take(prefix, former)

    def _take(self, prefix: Prefix, former: Peer) -> None:
        """An allowed IP has one owner: the last that claimed it."""
        loser = self._draft(former.public_key, create=False)
        if loser is not None:
            loser.allowed_ips.pop(prefix, None)
            if loser.is_new:
                self._fill(loser)

    def _fill(self, draft: _Draft) -> None:
        peer = draft.peer
        peer.preshared_key = draft.preshared_key
        peer.persistent_keepalive = draft.persistent_keepalive
        peer.allowed_ips = list(draft.allowed_ips)
        if draft.endpoint is None:
            return
        if draft.is_new:
            peer.endpoint = peer.configured_endpoint = draft.endpoint
        else:
            peer.configure_endpoint(draft.endpoint)

    def commit(self, now: float) -> list[Peer]:
        """Swaps the change in. Returns the peers to greet: new ones, and those that can be only now."""
        interface, change = self._interface, self._change
        key_changed = self._key is not interface.key
        self._swap_peers()
        if change.listen_port is not None:
            interface.listen_port = change.listen_port
        if change.fwmark is not None:
            interface.fwmark = change.fwmark
        if key_changed:
            interface.take_key(self._key)
        greet = [draft.peer for draft in self._drafts.values() if self._apply(draft, now)]
        return list(interface.peers.values()) if key_changed else greet

    def _swap_peers(self) -> None:
        interface = self._interface
        if self._replace:
            drafts = {key: draft.peer for key, draft in self._drafts.items()}
            gone = [p for p in interface.peers.values() if drafts.get(p.public_key) is not p]
            peers = drafts
        else:
            gone = list(self._removed.values())
            peers = interface.peers.copy()
            for key in self._removed:
                del peers[key]
            peers |= {key: draft.peer for key, draft in self._drafts.items() if draft.is_new}
        if self._key is not None and (own := peers.pop(self._key.public, None)) is not None:
            gone.append(own)
            for prefix in own.allowed_ips:
                self._routes.remove(prefix, own)
        interface.peers, interface.routes = peers, self._routes
        for peer in gone:
            interface.forget_sessions(peer)
            peer.timers.retire()
            peer.recovery = None
            peer.erase_marks()
            interface.forget_changes(peer)
        interface.lost = {i: lost for i, lost in interface.lost.items() if lost.peer.timers.owner is not None}
        if self._replace:
            interface.memory.forget_others(peers)

    def _apply(self, draft: _Draft, now: float) -> bool:
        """Whether the peer is to be greeted."""
        peer = draft.peer
        silent = peer.persistent_keepalive == 0
        had_endpoint = peer.endpoint is not None and not draft.is_new
        if not draft.is_new:
            self._fill(draft)
        if draft.is_new or peer.timers.persistent_interval != peer.persistent_keepalive:
            peer.timers.set_persistent_interval(peer.persistent_keepalive, now)
            switched_on = silent and peer.persistent_keepalive > 0
        else:
            switched_on = False
        if switched_on and peer.current is not None:
            peer.timers.persistent_keepalive_now(now)
        reachable = peer.endpoint is not None and not had_endpoint
        return draft.is_new or ((reachable or switched_on) and not peer.can_send(now))
