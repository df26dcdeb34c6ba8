"""The Peers of one Tunnel: their keys, what their clients are given, and what is said about them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from handfast_tunnel.control import PeerSpec as Line

from . import client_config, documents, keys, materials, membership, names, news, status, workload
from .addresses import Resting
from .conditions import Finding, timestamp
from .fingerprint import fingerprint
from .materials import Material, Missing
from .membership import Member, PeerObject
from .resources import TunnelSpec
from .store import Object, Store, secret_values
from .tunnel_state import TunnelState

CONNECTED_WRITES_PER_SECOND: Final = 5
IN_FLIGHT: Final = 50
"""Calls for Peers at a time. Those for roles are not among them: a handover waits for no queue."""
_QUIET: Final = ("connected", "lastConnectedTime")


Announce = Callable[[Object, str, str, str], Awaitable[None]]
"""Of which object, and the type, reason and message of an event."""


@dataclass(slots=True)
class Clients:
    """It remembers what it has read and written, until `forget`. Of ten thousand Peers it looks into those
    only for which anything has changed; they are named by their uids."""

    store: Store
    state: TunnelState
    announce: Announce
    settled: str = ""
    """The fingerprint of what all clients' configurations were made of, when they last were all in order."""
    _admitted: TunnelSpec | None = None
    """What the Peers were last compared under."""
    _materials: dict[str, Material | Missing] = field(default_factory=dict)
    _asked: dict[str, PeerObject] = field(default_factory=dict)
    """What their material was found for."""
    _written: dict[str, str] = field(default_factory=dict)
    """A fingerprint of what their Secrets say."""
    _statuses: dict[str, Object] = field(default_factory=dict)
    _lines: Mapping[str, Line] = field(default_factory=dict)
    _unlined: set[str] = field(default_factory=set)
    """Those whose line may be another one now,"""
    _unwritten: set[str] = field(default_factory=set)
    """whose Secret may be,"""
    _unsaid: set[str] = field(default_factory=set)
    """and whose status may be, or will be once it is confirmed."""
    _common: str = ""
    """The fingerprint by which Secrets were last written."""
    _connected: Mapping[str, bool] = field(default_factory=dict)
    """What was last said of it, as in the Tunnel's state,"""
    _withheld: str | None = None
    """and of why clients have no endpoint; None where they have one."""
    _resting: Resting = field(default_factory=Resting)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    @property
    def _memories(self) -> Iterable[dict[str, Any]]:
        return self._materials, self._asked, self._written, self._statuses

    def forget(self) -> None:
        """Read everything again: it may have been edited or deleted by hand."""
        self.settled = ""
        self._admitted = None
        self._materials.clear()
        self._written.clear()

    async def admit(self, peers: list[PeerObject], now: float) -> bool:
        """Decide about all of them. Returns whether some lack a key that somebody has to bring."""
        gone = self._materials.keys() - {peer.uid for peer in peers}
        former = self.state.membership
        self._stir(gone)
        for uid in gone:
            for memory in self._memories:
                memory.pop(uid, None)
            if former is not None and (member := former.members.get(uid)) is not None:
                owner = f"{member.peer.namespace}/{member.peer.name}"
                self._resting.give_back((net.network_address for net in member.addresses), owner, now)
        await self._find_materials([peer for peer in peers if not self._has_material(peer)])
        public = {peer.uid: key for peer in peers if (key := self.public_key(peer))}
        spec = self.state.tunnel.spec
        renewed = former.renewed(peers, public, now) if former and spec == self._admitted else None
        self.state.membership = renewed or membership.admit(spec, peers, public, self._resting, now)
        self._admitted = spec
        before, members = former.members if former else {}, self.state.membership.members
        self._stir([uid for uid, member in members.items() if before.get(uid) is not member])
        missing = [uid for uid, material in self._materials.items() if isinstance(material, Missing)]
        self._stir(missing)
        return bool(missing)

    def _stir(self, uids: Collection[str]) -> None:
        """Look into these again, whatever it is that has changed."""
        for each in (self._unlined, self._unwritten, self._unsaid):
            each.update(uids)

    def _has_material(self, peer: PeerObject) -> bool:
        before = self._asked.get(peer.uid)
        if before is None or not isinstance(self._materials.get(peer.uid), Material):
            return False
        if before is not peer:
            now, then = peer.spec, before.spec
            if (now.public_key, now.key_rotation, now.preshared_key_secret_ref) != (
                then.public_key,
                then.key_rotation,
                then.preshared_key_secret_ref,
            ):
                return False
            self._asked[peer.uid] = peer
        return True

    async def _find_materials(self, peers: list[PeerObject]) -> None:
        if not peers:
            return
        by_name = {line.name: line for line in self.state.config.peers.values()} if self.state.config else {}
        await asyncio.gather(*(self._find_material(peer, by_name.get(peer.name)) for peer in peers))

    async def _find_material(self, peer: PeerObject, line: Line | None) -> None:
        known: Material | Missing | None = materials.unread(peer, line) if self._settled(peer) else None
        if known is None:
            async with self._slots:
                known = await self._read_material(peer)
        self._materials[peer.uid] = known
        self._asked[peer.uid] = peer
        self._stir([peer.uid])

    def _settled(self, peer: PeerObject) -> bool:
        """Whether its Secret was in order when another operator last looked, for what it was made of then."""
        ready = any(each.type == "ConfigReady" and each.status == "True" for each in peer.status.conditions)
        return bool(self.settled) and ready and peer.status.observed_generation == peer.generation

    async def _read_material(self, peer: PeerObject) -> Material | Missing:
        reference, given = peer.spec.preshared_key_secret_ref, None
        if reference is not None:
            own = await self.store.get("v1", "Secret", peer.namespace, reference.name)
            try:
                given = keys.preshared(secret_values(own or {})[reference.key])
            except (KeyError, keys.KeyMaterialError) as error:
                why = f"holds no preshared key at {reference.key}: {error}" if own else "is not there"
                return Missing("PresharedKeyMissing", f"Secret {reference.name} {why}")
        name = names.peer_secret(peer.name)
        secret = await self.store.get("v1", "Secret", peer.namespace, name)
        held = materials.Held.of(secret, secret_values(secret)) if secret else None
        if secret is not None and held is not None and held.owner != peer.uid:
            if not _made_by_us(secret):
                return Missing(
                    "NameTaken", f"Secret {name} is somebody else's: delete it, or give the Peer another name"
                )
            # That of a Peer that had the same name, and is about to be collected.
            await self.store.delete("v1", "Secret", peer.namespace, name)
            held = None
        wants = self.state.tunnel.spec.preshared_keys == "Generate"
        return materials.decide(peer, held, given, wants)

    def public_key(self, peer: PeerObject) -> str:
        """What is or was the Peer's key."""
        material = self._materials.get(peer.uid)
        return material.public if isinstance(material, Material) else peer.status.public_key

    def lines(self) -> Mapping[str, Line]:
        """Of all Peers that are served: what pods are told. The same object as before if nothing has changed,
        and of each Peer for which nothing has, the same line."""
        assert self.state.membership is not None
        members, lines = self.state.membership.members, self._lines
        found = {uid: self._line(members.get(uid)) for uid in self._unlined}
        changed = {uid: line for uid, line in found.items() if line != lines.get(uid)}
        if changed:
            self._lines = {uid: line for uid, line in {**lines, **changed}.items() if line is not None}
        self._unlined.clear()
        return self._lines

    def _line(self, member: Member | None) -> Line | None:
        if member is None or not member.served:
            return None
        peer, material = member.peer, self._materials[member.peer.uid]
        if isinstance(material, Missing):
            former = self.state.config.peers.get(peer.status.public_key) if self.state.config else None
            if former is None:
                return None
            return documents.peer(
                peer.spec, peer.name, former.public_key, former.preshared_key, member.allowed_ips
            )
        return documents.peer(peer.spec, peer.name, material.public, material.preshared, member.allowed_ips)

    def fingerprint(self) -> str:
        """Of what is the same in all clients' configurations."""
        state, spec = self.state, self.state.tunnel.spec
        assert state.key is not None
        return fingerprint([state.key.public, state.endpoint, spec.mtu, spec.client.model_dump(mode="json")])

    async def write_secrets(self) -> None:
        assert self.state.membership is not None
        members, common = self.state.membership.members, self.fingerprint()
        if common != self._common:
            self._unwritten.update(members)
            self._common = common
        due = [member for uid in self._unwritten if (member := members.get(uid)) and not member.refusal]
        self._unwritten.intersection_update(member.peer.uid for member in due)
        await asyncio.gather(*(self._client_secret(member, common) for member in due))

    async def _client_secret(self, member: Member, common: str) -> None:
        """`common` is the fingerprint of what is the same in all of them."""
        peer = member.peer
        material = self._materials[peer.uid]
        if isinstance(material, Missing):
            return
        if not material.read and not (self.settled == common and self._settled(peer)):
            async with self._slots:
                read = await self._read_material(peer)
            self._materials[peer.uid] = read
            self._stir([peer.uid])
            if isinstance(read, Missing):
                return
            material = read
        if material.read:
            body = self._secret(peer, self._values(member, material))
            mark = fingerprint(body)
            if self._written.get(peer.uid) != mark:
                async with self._slots:
                    await self.store.apply(body)
                self._written[peer.uid] = mark
        self._unwritten.discard(peer.uid)

    def _values(self, member: Member, material: Material) -> dict[str, str]:
        state = self.state
        values = {"publicKey": material.public}
        if material.private is not None:
            values["privateKey"] = material.private
        if material.preshared is not None:
            values["presharedKey"] = material.preshared
        if state.endpoint is not None and state.key is not None and member.addresses:
            owner = state.tunnel.owner
            title = f"{member.peer.name}, a Peer of the Tunnel {owner.name} in {owner.namespace}"
            gateway = client_config.Gateway(state.key.public, state.endpoint, state.tunnel.spec)
            values["wg0.conf"] = client_config.render(
                title, member.peer.spec, member.addresses, material.pair, material.preshared, gateway
            )
        return values

    def _secret(self, peer: PeerObject, values: Mapping[str, str]) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": names.peer_secret(peer.name),
                "namespace": peer.namespace,
                "labels": names.MANAGED_BY,
                "annotations": {materials.ROTATION: str(peer.spec.key_rotation)},
                "ownerReferences": [workload.owner_reference("Peer", peer.name, peer.uid)],
            },
            "data": {name: documents.encode(value.encode()) for name, value in values.items()},
        }

    async def write_statuses(self, now: float) -> None:
        """Those that differ. `connected` alone is written a few at a time: see
        CONNECTED_WRITES_PER_SECOND."""
        if self.state.membership is None:
            return
        urgent: list[tuple[PeerObject, Object]] = []
        later: list[tuple[PeerObject, Object]] = []
        self._unsaid |= self._to_be_said()
        for uid in tuple(self._unsaid):
            if (member := self.state.membership.members.get(uid)) is None:
                self._unsaid.discard(uid)
                continue
            wanted = self._peer_status(member, now)
            known = self._statuses.get(uid) or member.peer.raw_status
            if wanted != known:
                quiet = {**wanted, **{name: known[name] for name in _QUIET if name in known}}
                (later if quiet == known else urgent).append((member.peer, wanted))
            elif uid not in self.state.programmed or self._is_confirmed(member.peer):
                self._unsaid.discard(uid)
        await asyncio.gather(*(self._write_peer_status(*each) for each in urgent))
        for each in later[:CONNECTED_WRITES_PER_SECOND]:
            await self._write_peer_status(*each)

    async def _write_peer_status(self, peer: PeerObject, wanted: Object) -> None:
        former = self._statuses.get(peer.uid) or peer.raw_status
        self._statuses[peer.uid] = wanted
        try:
            async with self._slots:
                await self.store.apply_status("Peer", peer.namespace, peer.name, wanted)
        except Exception:
            self._statuses.pop(peer.uid, None)
            self._unsaid.add(peer.uid)
            raise
        for reason, message in news.of_peer(former.get("conditions", ()), wanted["conditions"]):
            async with self._slots:
                await self.announce(peer.subject, "Warning", reason, message)

    def note_programmed(self, uids: Iterable[str]) -> None:
        """Other generations serve these."""
        self._unsaid.update(uids)

    def _to_be_said(self) -> set[str]:
        """Whose status is another one because of what is known of the Tunnel."""
        state, found = self.state, set[str]()
        assert state.membership is not None
        withheld = state.endpoint_reason if state.endpoint is None else None
        if withheld != self._withheld:
            found.update(state.membership.members)
            self._withheld = withheld
        now, before = state.connected, self._connected
        if now != before:
            uids = {key: uid for uid, key in state.membership.keys.items()}
            changed = (key for key in now.keys() | before.keys() if now.get(key) != before.get(key))
            found.update(uid for key in changed if (uid := uids.get(key)))
            self._connected = now
        return found

    def _is_confirmed(self, peer: PeerObject) -> bool:
        generation = self.state.programmed.get(peer.uid)
        return generation is not None and (
            generation <= self.state.confirmed or self._was_programmed(peer, generation)
        )

    def _is_connected(self, member: Member) -> bool:
        return self.state.connected.get(self.public_key(member.peer), False) and member.served

    def _peer_status(self, member: Member, now: float) -> Object:
        peer, state = member.peer, self.state
        public = self.public_key(peer)
        generation = state.programmed.get(peer.uid)
        former = peer.status
        confirmed, connected = self._is_confirmed(peer), self._is_connected(member)
        since = former.last_connected_time
        last = self._statuses.get(peer.uid) or peer.raw_status
        if connected and not last.get("connected"):
            since = timestamp(now)
        elif last.get("lastConnectedTime"):
            since = last["lastConnectedTime"]
        material = self._materials[peer.uid]
        rotation = former.key_rotation if isinstance(material, Missing) else peer.spec.key_rotation
        # A key that was made for a Peer which is refused is in no Secret yet: it may still be another one.
        shown = public if member.refusal is None else peer.spec.public_key or former.public_key
        known = status.Known(shown, rotation, generation if confirmed else None, connected, since, last)
        return status.peer(member, known, self._config_ready(member), now)

    def _was_programmed(self, peer: PeerObject, generation: int) -> bool:
        """A pod that failed does not make unserved what it served: another one reads the same Secret."""
        last = self._statuses.get(peer.uid) or peer.raw_status
        return bool(last.get("configGeneration") == generation)

    def _config_ready(self, member: Member) -> Finding:
        material = self._materials[member.peer.uid]
        if isinstance(material, Missing):
            return Finding("ConfigReady", "False", material.reason, material.message)
        if member.refusal is not None:
            return Finding("ConfigReady", "False", "NoSecret", "it is not accepted")
        if self.state.endpoint is None:
            return Finding("ConfigReady", "False", "EndpointUnknown", self.state.endpoint_reason)
        return Finding("ConfigReady", "True", "Written")


def _made_by_us(secret: Object) -> bool:
    labels = secret["metadata"].get("labels") or {}
    return names.MANAGED_BY.items() <= labels.items()
