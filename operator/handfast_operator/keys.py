"""WireGuard's keys, as `wg genkey`, `wg pubkey` and `wg genpsk` make them."""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

_LENGTH: Final = 32


class KeyMaterialError(ValueError):
    """What a Secret holds is not a key."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    private: str
    public: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


def generate() -> KeyPair:
    return pair(base64.b64encode(os.urandom(_LENGTH)).decode())


def generate_preshared() -> str:
    return base64.b64encode(os.urandom(_LENGTH)).decode()


def pair(private: str) -> KeyPair:
    """The pair of a private key in base64; raises KeyMaterialError."""
    raw = X25519PrivateKey.from_private_bytes(_bytes(private))
    return KeyPair(base64.b64encode(raw.private_bytes_raw()).decode(), _public(raw))


def preshared(text: str) -> str:
    """A preshared key as it stands in a Secret; raises KeyMaterialError."""
    return base64.b64encode(_bytes(text)).decode()


def _public(raw: X25519PrivateKey) -> str:
    return base64.b64encode(raw.public_key().public_bytes_raw()).decode()


def _bytes(text: str) -> bytes:
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise KeyMaterialError("is not base64") from None
    if len(raw) != _LENGTH:
        raise KeyMaterialError(f"has {len(raw)} bytes instead of {_LENGTH}")
    return raw
