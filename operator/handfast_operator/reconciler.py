"""Brings one Tunnel's Secrets and workload to what its spec and its Peers ask for.

It decides nothing: it gathers what the pure modules need, and writes what they say where that differs from
what is there. Secrets come first, then the pods are told, then statuses say so.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from handfast_tunnel.control import Configuration, DocumentError, PeerSpec
from handfast_tunnel.control.packing import Packer

from . import certificates, documents, keys, names, workload
from .clients import Clients
from .conditions import Finding
from .fingerprint import fingerprint
from .membership import PeerObject
from .resources import GROUP
from .settings import Settings
from .store import Conflict, Object, Store, secret_values
from .tunnel_state import TunnelState

FULL_CHECK_SECONDS: Final = 600.0
MISSING_CHECK_SECONDS: Final = 10.0
"""Secrets are not watched: so often it is looked for one that somebody has to make."""
CLIENTS_ANNOTATION: Final = f"{GROUP}/clients"
"""On the config Secret: a fingerprint of what all client configurations were made of."""
KEY_ANNOTATION: Final = f"{GROUP}/key-source"
"""On the config Secret: which Secret, and which item of it, the key that is served comes from."""

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
    clients: Clients
    _applied: dict[tuple[str, str], str] = field(default_factory=dict)
    """By kind and name: a fingerprint of what was applied; an empty one where it was removed."""
    _lines: Mapping[str, PeerSpec] = field(default_factory=dict)
    """By uid, as clients have them,"""
    _peers: Mapping[str, PeerSpec] = field(default_factory=dict)
    """and by public key, as pods do."""
    _noted: tuple[Mapping[str, PeerSpec], Configuration | None] = field(default_factory=lambda: ({}, None))
    """Which lines were looked at for the generations that serve them, and in which configuration."""
    _packer: Packer = field(default_factory=Packer)
    _config_known: bool = False
    _key_source: str = ""
    """As KEY_ANNOTATION has it."""
    _tls_renewal: float = 0.0
    certificate_expiry: float | None = None
    """Of the Tunnel's pods."""
    _next_check: float = 0.0

    async def reconcile(self, peers: list[PeerObject], now: float) -> float:
        """Returns when it is next due by itself."""
        if now >= self._next_check:
            self._forget(again=self._next_check > 0)
            self._next_check = now + FULL_CHECK_SECONDS
        if not self._config_known:
            await self._read_config()
        await self._certificate(now)
        missing = not await self._find_key()
        if self.state.key is None:
            return now + MISSING_CHECK_SECONDS
        missing |= await self.clients.admit(peers, now)
        await self._write_config()
        await self._note_key_source()
        await self._workload()
        await self._client_secrets()
        due = [self._next_check, self._tls_renewal]
        if missing:
            due.append(now + MISSING_CHECK_SECONDS)
        if self.state.membership is not None and self.state.membership.next_expiry is not None:
            due.append(self.state.membership.next_expiry)
        return min(due)

    def _forget(self, *, again: bool) -> None:
        """Look at everything: it may have been edited or deleted by hand."""
        self._applied.clear()
        self._tls_renewal = 0.0
        self._config_known = False
        if again:
            self.clients.forget()

    # The Tunnel's own Secrets

    async def _read_config(self) -> None:
        owner = self.state.tunnel.owner
        secret = await self.store.get("v1", "Secret", owner.namespace, names.config_secret(owner.name))
        metadata = secret["metadata"] if secret else {}
        self.state.config_version = metadata.get("resourceVersion", "")
        if self._tls_renewal == 0.0 and not self._applied and self.state.config is None:
            # At the first look only: later it is known from what was read and written.
            self.clients.settled = (metadata.get("annotations") or {}).get(CLIENTS_ANNOTATION, "")
        self._key_source = (metadata.get("annotations") or {}).get(KEY_ANNOTATION, "")
        self.state.config = _decoded(secret)
        self._config_known = True

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
        self.certificate_expiry = certificates.expiry(certificate)

    async def _find_key(self) -> bool:
        """False where it is missing; then the last one serves on, if there is one."""
        state = self.state
        try:
            state.key = await self._private_key()
        except KeyUnavailableError as error:
            state.findings["KeyAvailable"] = error.finding
            if state.config is not None:
                state.key = keys.pair(state.config.tunnel.private_key)
            return False
        state.findings["KeyAvailable"] = Finding("KeyAvailable", "True", "Available")
        return True

    async def _private_key(self) -> keys.KeyPair:
        """Raises KeyUnavailableError."""
        name, item = self._key_place()
        # Only whoever changes the spec asks for another key; a Secret can be changed by mistake.
        moved = self._key_source not in {"", f"{name}/{item}"}
        known = "" if moved else self._known_key()
        generated = self.state.tunnel.spec.private_key_secret_ref is None
        secret = await self.store.get("v1", "Secret", self.state.tunnel.owner.namespace, name)
        text = secret_values(secret or {}).get(item)
        if generated and secret is None and not known:
            return await self._make_key(name)
        if text is None:
            why = "is not there" if secret is None else f"has no value {item}"
            raise _key_missing(f"Secret {name} {why}")
        try:
            pair = keys.pair(text)
        except keys.KeyMaterialError as error:
            raise _key_missing(f"{item} of Secret {name} {error}") from None
        if known not in {"", pair.public}:
            raise _key_changed(name)
        return pair

    def _key_place(self) -> tuple[str, str]:
        """Of the Secret, and its item."""
        reference = self.state.tunnel.spec.private_key_secret_ref
        if reference is None:
            return names.key_secret(self.state.tunnel.owner.name), "privateKey"
        return reference.name, reference.key

    def _known_key(self) -> str:
        """The public key that clients have; the status may be lost, as in a restored backup."""
        config = self.state.config
        return self.state.tunnel.status.public_key or (
            keys.pair(config.tunnel.private_key).public if config is not None else ""
        )

    async def _note_key_source(self) -> None:
        source = "/".join(self._key_place())
        if source == self._key_source or self.state.findings["KeyAvailable"].status != "True":
            return
        await self._annotate(KEY_ANNOTATION, source)
        self._key_source = source

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
        tunnel = state.tunnel
        head = documents.tunnel(tunnel.owner, tunnel.spec, state.key.private, self.settings.shared_networks)
        former = state.config
        lines = self.clients.lines()
        if lines is not self._lines:
            self._lines, self._peers = lines, Configuration.of(0, head, lines.values()).peers
        # Also where the Secret was lost: a pod refuses what is not above what it has.
        last = max(former.generation if former else 0, state.tunnel.status.config_generation, state.confirmed)
        wanted = Configuration(last + 1, head, self._peers)
        if documents.same(former, wanted):
            self._note_lines(lines, former)
            return
        packed = self._packer.pack(wanted)
        if len(packed) > documents.MOST_BYTES:
            message = (
                f"the configuration of {len(lines)} Peers has {len(packed)} bytes, and a Secret at most"
                f" {documents.MOST_BYTES}: the pods keep the last one; spread the Peers over more Tunnels"
            )
            state.findings["Degraded"] = Finding("Degraded", "True", "TooManyPeers", message)
            return
        if (degraded := state.findings.get("Degraded")) and degraded.reason == "TooManyPeers":
            del state.findings["Degraded"]
        await self._store_config(packed)
        state.former_config, state.config = former, wanted
        self._note_lines(lines, former)

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
                namespace = state.tunnel.owner.namespace
                written = await self.store.merge_large("v1", "Secret", namespace, name, patch)
            except Conflict:
                self._config_known = False
                raise
        if written is None:
            self._config_known = False
            raise LookupError(f"Secret {name} was deleted while it was written")
        state.config_version = written["metadata"]["resourceVersion"]

    def _note_lines(self, lines: Mapping[str, PeerSpec], former: Configuration | None) -> None:
        """For each Peer, the generation that first served it as it is."""
        state = self.state
        assert state.config is not None
        assert state.membership is not None
        noted, noted_in = self._noted
        if noted_in is not former:
            noted = {}
        self._noted = lines, state.config
        if noted is lines:
            return
        changed = {uid: line for uid, line in lines.items() if noted.get(uid) is not line}
        programmed = {uid: known for uid, known in state.programmed.items() if uid in lines}
        for uid, line in changed.items():
            same = former is not None and former.peers.get(line.public_key) == line
            status = state.membership.members[uid].peer.status
            known = state.programmed.get(uid, status.config_generation)
            keep = same and 0 < known <= state.config.generation
            programmed[uid] = known if keep else state.config.generation
        self.clients.note_programmed(changed.keys() | (state.programmed.keys() - lines.keys()))
        state.programmed = programmed

    def _secret(self, name: str, values: Mapping[str, str]) -> Object:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": self.state.tunnel.owner.metadata(name),
            "data": {key: documents.encode(value.encode()) for key, value in values.items()},
        }

    async def _client_secrets(self) -> None:
        made_of = self.clients.fingerprint()
        settled = self.clients.settled == made_of
        await self.clients.write_secrets()
        if settled or not self.state.endpoint:
            return
        await self._annotate(CLIENTS_ANNOTATION, made_of)
        self.clients.settled = made_of

    async def _annotate(self, annotation: str, value: str) -> None:
        """The config Secret."""
        owner = self.state.tunnel.owner
        patch = {"metadata": {"annotations": {annotation: value}}}
        written = await self.store.merge_large(
            "v1", "Secret", owner.namespace, names.config_secret(owner.name), patch
        )
        if written is not None:
            self.state.config_version = written["metadata"]["resourceVersion"]

    # What runs

    async def _workload(self) -> None:
        tunnel = self.state.tunnel
        wanted = workload.objects(tunnel.owner, tunnel.spec, self.settings)
        taken = [
            f"{body['kind']} {body['metadata']['name']}" for body in wanted if not await self._apply(body)
        ]
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
        mark = fingerprint(body)
        if self._applied.get(key) == mark:
            return True
        if not self._applied.get(key):
            owner = self.state.tunnel.owner
            there = await self.store.get(body["apiVersion"], key[0], owner.namespace, key[1])
            if there is not None and not self._is_ours(there):
                return False
        written = await self.store.apply(body)
        self._applied[key] = mark
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


_WORKLOAD: Final = (
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)


def _key_missing(what: str) -> KeyUnavailableError:
    message = (
        f"{what}. Clients know the public key, so another one is never made: restore the Secret from a"
        " backup. The pods go on with what they have"
    )
    return KeyUnavailableError(Finding("KeyAvailable", "False", "KeyMissing", message))


def _key_changed(name: str) -> KeyUnavailableError:
    message = (
        f"Secret {name} holds another key than the one that clients know. That one is served on: restore the"
        " Secret, or, to serve another key, put it into another Secret and name that in"
        " spec.privateKeySecretRef"
    )
    return KeyUnavailableError(Finding("KeyAvailable", "False", "KeyChanged", message))


def _decoded(secret: Object | None) -> Configuration | None:
    """None where there is nothing to read, or nothing that this release can read: then it is written anew."""
    encoded = ((secret or {}).get("data") or {}).get(documents.CONFIG_KEY)
    if not encoded:
        return None
    try:
        return Configuration.parse(base64.b64decode(encoded))
    except (DocumentError, ValueError) as error:
        logger.warning("The configuration in a Secret cannot be read, and is written anew: %s", error)
        return None
