"""Brings one Tunnel's Secrets, workload and statuses to what its spec and its Peers ask for.

It decides nothing: it gathers what the pure modules need, and writes what they say where that differs from what is
there. Secrets come first, then the pods are told, then statuses say so.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from handfast_tunnel.control import Configuration
from handfast_tunnel.control import PeerSpec as Line

from . import certificates, client_config, documents, keys, materials, membership, names, status, workload
from .addresses import Resting
from .conditions import Finding
from .materials import Material, Missing
from .membership import Member, PeerObject
from .resources import GROUP
from .settings import Settings
from .store import Conflict, Object, Store, secret_values
from .tunnel_state import TunnelState

FULL_CHECK_SECONDS: Final = 600.0
CONNECTED_WRITES_PER_SECOND: Final = 5
CLIENTS_ANNOTATION: Final = f"{GROUP}/clients"
"""On the config Secret: a fingerprint of what all client configurations were made of."""

logger = logging.getLogger(__name__)


class Authority(Protocol):
    @property
    def credentials(self) -> certificates.Credentials: ...


class KeyUnavailableError(Exception):
    """There is no key to serve the Tunnel with; `finding` says why."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


@dataclass(slots=True)
class Reconciler:
    """For one Tunnel. `reconcile` may be called again whenever anything has changed."""

    store: Store
    settings: Settings
    authority: Authority
    state: TunnelState
    _materials: dict[str, Material | Missing] = field(default_factory=dict)
    _material_inputs: dict[str, Any] = field(default_factory=dict)
    _written: dict[str, str] = field(default_factory=dict)
    """By a Peer's uid: a fingerprint of what its Secret says."""
    _statuses: dict[str, Object] = field(default_factory=dict)
    _applied: dict[tuple[str, str], str] = field(default_factory=dict)
    _resting: Resting = field(default_factory=Resting)
    _settled_clients: str = ""
    """The fingerprint that the config Secret's annotation had when it was read."""
    _tls_renewal: float = 0.0
    _next_check: float = 0.0

    async def reconcile(self, peers: list[PeerObject], now: float) -> float:
        """Returns when it is next due by itself."""
        if now >= self._next_check:
            self._forget(full=self._next_check > 0)
            self._next_check = now + FULL_CHECK_SECONDS
        if self.state.config is None:
            await self._read_config()
        await self._certificate(now)
        try:
            self.state.key = await self._private_key()
            self.state.findings["KeyAvailable"] = Finding("KeyAvailable", "True", "Available")
        except KeyUnavailableError as error:
            self.state.findings["KeyAvailable"] = error.finding
            if self.state.config is None:
                return self._next_check
            self.state.key = keys.pair(self.state.config.tunnel.private_key)
        await self._members(peers, now)
        await self._write_config()
        await self._workload()
        await self._client_secrets()
        due = [self._next_check, self._tls_renewal]
        if self.state.membership is not None and self.state.membership.next_expiry is not None:
            due.append(self.state.membership.next_expiry)
        return min(due)

    def _forget(self, *, full: bool) -> None:
        """Look at everything again: it may have been edited or deleted by hand."""
        self._applied.clear()
        self._tls_renewal = 0.0
        if full:
            self._settled_clients = ""
            self._materials.clear()
            self._written.clear()
            self.state.config = None

    # The Tunnel's own Secrets

    async def _read_config(self) -> None:
        owner = self.state.tunnel.owner
        secret = await self.store.get("v1", "Secret", owner.namespace, names.config_secret(owner.name))
        self.state.config_version = secret["metadata"]["resourceVersion"] if secret else ""
        self._settled_clients = (
            ((secret or {}).get("metadata", {}).get("annotations") or {}).get(CLIENTS_ANNOTATION, "")
            if not self._next_check
            else self._settled_clients
        )
        self.state.config = _decoded(secret)

    async def _certificate(self, now: float) -> None:
        if now < self._tls_renewal:
            return
        owner, authority = self.state.tunnel.owner, self.authority.credentials
        secret = await self.store.get("v1", "Secret", owner.namespace, names.tls_secret(owner.name))
        held = secret_values(secret or {})
        certificate = held.get("tls.crt", "")
        if (
            held.get("ca.crt") != authority.certificate
            or "tls.key" not in held
            or not certificates.issued_by(certificate, authority.certificate)
            or certificates.renewal(certificate) <= now
        ):
            leaf = certificates.tunnel_leaf(authority, owner.namespace, owner.name, now)
            certificate = leaf.certificate
            values = {"tls.crt": certificate, "tls.key": leaf.key, "ca.crt": authority.certificate}
            await self.store.apply(self._secret(names.tls_secret(owner.name), values))
        self._tls_renewal = certificates.renewal(certificate)

    async def _private_key(self) -> keys.KeyPair:
        """Raises KeyUnavailableError."""
        tunnel = self.state.tunnel
        owner, reference = tunnel.owner, tunnel.spec.private_key_secret_ref
        name, item = (
            (reference.name, reference.key) if reference else (names.key_secret(owner.name), "privateKey")
        )
        secret = await self.store.get("v1", "Secret", owner.namespace, name)
        text = secret_values(secret or {}).get(item)
        if text is None and reference is None and secret is None and not tunnel.status.public_key:
            if self.state.config is not None:
                # The status may be lost, as in a restored backup; clients know the key all the same.
                raise _key_missing(f"Secret {name} is gone")
            return await self._make_key(name)
        if text is None:
            raise _key_missing(
                f"Secret {name} {'is not there' if secret is None else f'has no value {item}'}"
            )
        try:
            pair = keys.pair(text)
        except keys.KeyMaterialError as error:
            raise _key_missing(f"{item} of Secret {name} {error}") from None
        if reference is None and tunnel.status.public_key not in {"", pair.public}:
            raise _key_missing(f"Secret {name} holds another key than the one that clients know")
        return pair

    async def _make_key(self, name: str) -> keys.KeyPair:
        tunnel = self.state.tunnel
        pair = keys.generate()
        secret = self._secret(name, {"privateKey": pair.private})
        if tunnel.spec.key_deletion_policy == "Retain":
            del secret["metadata"]["ownerReferences"]
        await self.store.create(secret)
        return pair

    async def _write_config(self) -> None:
        state = self.state
        assert state.key is not None
        owner, members = state.tunnel.owner, state.membership
        assert members is not None
        head = documents.tunnel(owner, state.tunnel.spec, state.key.private, self.settings.shared_networks)
        former = state.config
        lines = list(self._lines(members.members.values()))
        # Also where the Secret was lost: a pod refuses what is not above what it has.
        last = max(former.generation if former else 0, state.tunnel.status.config_generation, state.confirmed)
        wanted = Configuration.of(last + 1, head, lines)
        if documents.same(former, wanted):
            self._note_lines(former)
            return
        packed = wanted.dump()
        if len(packed) > documents.MOST_BYTES:
            message = (
                f"the configuration of {len(lines)} Peers has {len(packed)} bytes, and a Secret at most"
                f" {documents.MOST_BYTES}: the pods keep the last one; spread the Peers over more Tunnels"
            )
            state.findings["Degraded"] = Finding("Degraded", "True", "TooManyPeers", message)
            return
        state.findings.pop("Degraded", None)
        await self._store_config(packed)
        state.former_config, state.config = former, wanted
        self._note_lines(former)

    async def _store_config(self, packed: bytes) -> None:
        """Raises Conflict where somebody else wrote meanwhile."""
        state = self.state
        name = names.config_secret(state.tunnel.owner.name)
        data = {documents.CONFIG_KEY: documents.encode(packed)}
        if not state.config_version:
            secret = self._secret(name, {})
            written: Object | None = await self.store.create({**secret, "data": data})
        else:
            patch = {"metadata": {"resourceVersion": state.config_version}, "data": data}
            try:
                written = await self.store.merge("v1", "Secret", state.tunnel.owner.namespace, name, patch)
            except Conflict:
                state.config = None
                raise
        if written is None:
            state.config, state.config_version = None, ""
            raise LookupError(f"Secret {name} was deleted while it was written")
        state.config_version = written["metadata"]["resourceVersion"]

    def _note_lines(self, former: Configuration | None) -> None:
        """For each Peer, the generation that first served it as it is."""
        state = self.state
        assert state.config is not None
        assert state.membership is not None
        programmed = {}
        for uid, member in state.membership.members.items():
            line = self._line(member)
            if line is None:
                continue
            same = former is not None and former.peers.get(line.public_key) == line
            known = state.programmed.get(uid, member.peer.status.config_generation)
            keep = same and 0 < known <= state.config.generation
            programmed[uid] = known if keep else state.config.generation
        state.programmed = programmed

    # Peers

    async def _members(self, peers: list[PeerObject], now: float) -> None:
        gone = self._materials.keys() - {peer.uid for peer in peers}
        former = self.state.membership
        for uid in gone:
            for memory in (self._materials, self._material_inputs, self._written, self._statuses):
                memory.pop(uid, None)
            if former is not None and (member := former.members.get(uid)) is not None:
                owner = f"{member.peer.namespace}/{member.peer.name}"
                self._resting.give_back((net.network_address for net in member.addresses), owner, now)
        by_name = {line.name: line for line in self.state.config.peers.values()} if self.state.config else {}
        await asyncio.gather(*(self._material(peer, by_name.get(peer.name)) for peer in peers))
        public = {peer.uid: key for peer in peers if (key := self.public_key(peer))}
        self.state.membership = membership.admit(self.state.tunnel.spec, peers, public, self._resting, now)

    async def _material(self, peer: PeerObject, line: Line | None) -> None:
        spec = peer.spec
        inputs = (spec.public_key, spec.key_rotation, spec.preshared_key_secret_ref)
        if peer.uid in self._materials and self._material_inputs.get(peer.uid) == inputs:
            return
        known = None
        if self._settled(peer):
            known = materials.unread(peer, line)
        self._materials[peer.uid] = known or await self._read_material(peer)
        self._material_inputs[peer.uid] = inputs

    def _settled(self, peer: PeerObject) -> bool:
        """Whether its Secret was in order when another operator last looked, for what it was made of then."""
        ready = any(each.type == "ConfigReady" and each.status == "True" for each in peer.status.conditions)
        return bool(self._settled_clients) and ready and peer.status.observed_generation == peer.generation

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

    def _lines(self, members: Iterable[Member]) -> Iterable[Line]:
        return (line for member in members if (line := self._line(member)) is not None)

    def _line(self, member: Member) -> Line | None:
        if not member.served:
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

    # What clients are given

    async def _client_secrets(self) -> None:
        state = self.state
        assert state.membership is not None
        fingerprint = self._clients_fingerprint()
        settled = self._settled_clients == fingerprint
        members = [member for member in state.membership.members.values() if member.refusal is None]
        await asyncio.gather(*(self._client_secret(member, settled) for member in members))
        if not settled and state.endpoint and state.config_version:
            owner = state.tunnel.owner
            name = names.config_secret(owner.name)
            patch = {"metadata": {"annotations": {CLIENTS_ANNOTATION: fingerprint}}}
            written = await self.store.merge("v1", "Secret", owner.namespace, name, patch)
            if written is not None:
                state.config_version = written["metadata"]["resourceVersion"]
            self._settled_clients = fingerprint

    def _clients_fingerprint(self) -> str:
        state, spec = self.state, self.state.tunnel.spec
        assert state.key is not None
        return _fingerprint([state.key.public, state.endpoint, spec.mtu, spec.client.model_dump(mode="json")])

    async def _client_secret(self, member: Member, settled: bool) -> None:
        peer = member.peer
        material = self._materials[peer.uid]
        if isinstance(material, Missing):
            return
        if not material.read:
            if settled and self._settled(peer):
                return
            read = await self._read_material(peer)
            self._materials[peer.uid] = read
            if isinstance(read, Missing):
                return
            material = read
        values = self.client_values(member, material)
        body = self._peer_secret(peer, values)
        fingerprint = _fingerprint(body)
        if self._written.get(peer.uid) != fingerprint:
            await self.store.apply(body)
            self._written[peer.uid] = fingerprint

    def client_values(self, member: Member, material: Material) -> dict[str, str]:
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

    def _peer_secret(self, peer: PeerObject, values: Mapping[str, str]) -> Object:
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

    def _secret(self, name: str, values: Mapping[str, str]) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.state.tunnel.owner.metadata(name),
            "data": {key: documents.encode(value.encode()) for key, value in values.items()},
        }

    # What runs

    async def _workload(self) -> None:
        tunnel = self.state.tunnel
        wanted = workload.objects(tunnel.owner, tunnel.spec, self.settings)
        taken = []
        for body in wanted:
            if not await self._apply(body):
                taken.append(f"{body['kind']} {body['metadata']['name']}")
        if taken:
            message = f"{', '.join(taken)} is somebody else's: delete it, or give the Tunnel another name"
            self.state.findings["Degraded"] = Finding("Degraded", "True", "NameTaken", message)
        elif (degraded := self.state.findings.get("Degraded")) and degraded.reason == "NameTaken":
            del self.state.findings["Degraded"]
        present = {body["kind"] for body in wanted}
        for api, kind in _WORKLOAD:
            if kind not in present:
                await self._remove(api, kind)

    async def _apply(self, body: Object) -> bool:
        """False where an object of this name belongs to somebody else."""
        key = body["kind"], body["metadata"]["name"]
        fingerprint = _fingerprint(body)
        if self._applied.get(key) == fingerprint:
            return True
        if key not in self._applied:
            there = await self.store.get(
                body["apiVersion"], body["kind"], body["metadata"]["namespace"], body["metadata"]["name"]
            )
            if there is not None and not self._is_ours(there):
                return False
        written = await self.store.apply(body)
        self._applied[key] = fingerprint
        if body["kind"] == "Service":
            self.state.service = written
        return True

    async def _remove(self, api: str, kind: str) -> None:
        owner = self.state.tunnel.owner
        if self._applied.get((kind, owner.name)) == "":
            return
        there = await self.store.get(api, kind, owner.namespace, owner.name)
        if there is not None and self._is_ours(there):
            await self.store.delete(api, kind, owner.namespace, owner.name)
        self._applied[kind, owner.name] = ""

    def _is_ours(self, there: Object) -> bool:
        owners = there["metadata"].get("ownerReferences") or ()
        return any(each["uid"] == self.state.tunnel.owner.uid for each in owners)

    # Statuses

    async def write_peer_statuses(self, now: float) -> None:
        """Those that differ. `connected` alone is written a few at a time: see CONNECTED_WRITES_PER_SECOND."""
        if self.state.membership is None:
            return
        urgent, later = [], []
        for member in self.state.membership.members.values():
            wanted = self._peer_status(member, now)
            known = self._statuses.get(member.peer.uid) or member.peer.raw_status
            if wanted != known:
                quiet = {**wanted, **{name: known[name] for name in _QUIET if name in known}}
                (later if quiet == known else urgent).append((member.peer, wanted))
        await asyncio.gather(*(self._write_peer_status(*each) for each in urgent))
        for each in later[:CONNECTED_WRITES_PER_SECOND]:
            await self._write_peer_status(*each)

    async def _write_peer_status(self, peer: PeerObject, wanted: Object) -> None:
        self._statuses[peer.uid] = wanted
        try:
            await self.store.apply_status("Peer", peer.namespace, peer.name, wanted)
        except Exception:
            self._statuses.pop(peer.uid, None)
            raise

    def _peer_status(self, member: Member, now: float) -> Object:
        peer, state = member.peer, self.state
        public = self.public_key(peer)
        generation = state.programmed.get(peer.uid)
        former = peer.status
        confirmed = generation is not None and (
            generation <= state.confirmed or self._was_programmed(peer, generation)
        )
        connected = state.connected.get(public, False) and member.served
        since = former.last_connected_time
        last = self._statuses.get(peer.uid) or peer.raw_status
        if connected and not last.get("connected"):
            since = status.timestamp(now)
        elif last.get("lastConnectedTime"):
            since = last["lastConnectedTime"]
        material = self._materials[peer.uid]
        rotation = former.key_rotation if isinstance(material, Missing) else peer.spec.key_rotation
        return status.peer(
            member,
            public,
            rotation,
            generation if confirmed else None,
            self._config_ready(member),
            now,
            (connected, since),
        )

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


_QUIET: Final = ("connected", "lastConnectedTime")
_WORKLOAD: Final = (
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)


def _key_missing(what: str) -> KeyUnavailableError:
    message = (
        f"{what}. Clients know the public key, so another one is never made: restore the Secret from a backup."
        " The pods go on with what they have"
    )
    return KeyUnavailableError(Finding("KeyAvailable", "False", "KeyMissing", message))


def _decoded(secret: Object | None) -> Configuration | None:
    """None where there is nothing to read, or nothing that this release can read: then it is written anew."""
    import base64

    from handfast_tunnel.control import DocumentError

    encoded = ((secret or {}).get("data") or {}).get(documents.CONFIG_KEY)
    if not encoded:
        return None
    try:
        return Configuration.parse(base64.b64decode(encoded))
    except (DocumentError, ValueError) as error:
        logger.warning("The configuration in a Secret cannot be read, and is written anew: %s", error)
        return None


def _made_by_us(secret: Object) -> bool:
    labels = secret["metadata"].get("labels") or {}
    return names.MANAGED_BY.items() <= labels.items()


def _fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
