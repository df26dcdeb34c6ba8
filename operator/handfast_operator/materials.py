"""The keys of one Peer: which to use, which to make, and when to leave everything as it is.

A key that clients have is never made anew: where one that was there is gone, the Peer says so, and what it is
served with stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from handfast_tunnel.control import PeerSpec as Line

from . import keys
from .membership import PeerObject
from .resources import GROUP

ROTATION: Final = f"{GROUP}/key-rotation"
"""Annotation of a Peer's Secret: which rotation its key is of."""


@dataclass(frozen=True, slots=True, repr=False)
class Material:
    """What a Peer is served with, and what its client is told."""

    public: str
    private: str | None = None
    """None: the client keeps it to itself, or it was not needed yet."""
    preshared: str | None = None
    read: bool = True
    """Whether the Secret was looked at."""

    @property
    def pair(self) -> keys.KeyPair | None:
        return keys.KeyPair(self.private, self.public) if self.private else None


@dataclass(frozen=True, slots=True)
class Missing:
    """No key to serve it with; what was served before stays."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a Peer's Secret holds."""

    values: Mapping[str, str]
    rotation: int
    owner: str | None
    """The uid of the object that it belongs to."""

    @classmethod
    def of(cls, secret: Mapping[str, Any], values: Mapping[str, str]) -> Held:
        meta = secret["metadata"]
        owner = next(
            (each["uid"] for each in meta.get("ownerReferences") or () if each.get("controller")), None
        )
        rotation = (meta.get("annotations") or {}).get(ROTATION, "0")
        return cls(values, int(rotation) if rotation.isdecimal() else -1, owner)


def unread(peer: PeerObject, line: Line | None) -> Material | None:
    """The keys without a look at the Secret, where Peer and configuration agree on them."""
    spec, status = peer.spec, peer.status
    if spec.public_key is None and status.key_rotation != spec.key_rotation:
        return None
    if line is None or line.name != peer.name or status.public_key != line.public_key:
        return None
    if spec.public_key not in {None, line.public_key}:
        return None
    return Material(line.public_key, None, line.preshared_key, read=False)


def decide(
    peer: PeerObject,
    held: Held | None,
    given_preshared: str | None,
    wants_preshared: bool,
    generate: Callable[[], keys.KeyPair] = keys.generate,
    generate_preshared: Callable[[], str] = keys.generate_preshared,
) -> Material | Missing:
    values = held.values if held else {}
    spec, status = peer.spec, peer.status
    fresh = not status.public_key or (
        status.key_rotation != spec.key_rotation
        if spec.public_key is None
        else status.public_key != spec.public_key
    )
    preshared = given_preshared
    if preshared is None and wants_preshared:
        preshared = _valid_preshared(values.get("presharedKey"))
        if preshared is None and not fresh:
            return _gone("presharedKey", held)
        preshared = preshared or generate_preshared()
    if spec.public_key is not None:
        return Material(spec.public_key, None, preshared)
    pair = _valid_pair(values.get("privateKey"))
    if not fresh:
        if pair is None:
            return _gone("privateKey", held)
        if pair.public != status.public_key:
            return Missing(
                "KeyChanged",
                "the private key in its Secret is another one than its client has: restore the Secret from a"
                " backup, or raise spec.keyRotation for a new key",
            )
    elif pair is None or (held is not None and held.rotation != spec.key_rotation):
        pair = generate()
    return Material(pair.public, pair.private, preshared)


def _gone(name: str, held: Held | None) -> Missing:
    what = "its Secret is gone" if held is None else f"its Secret holds no usable {name}"
    return Missing(
        "KeyMissing",
        f"{what}, and a key that its client has is never made anew: restore the Secret from a backup, or"
        " raise spec.keyRotation for a new key; until then it is served as before",
    )


def _valid_pair(text: str | None) -> keys.KeyPair | None:
    try:
        return keys.pair(text) if text else None
    except keys.KeyMaterialError:
        return None


def _valid_preshared(text: str | None) -> str | None:
    try:
        return keys.preshared(text) if text else None
    except keys.KeyMaterialError:
        return None
