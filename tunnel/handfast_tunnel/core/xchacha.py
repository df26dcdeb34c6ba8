"""XChaCha20-Poly1305, which only cookies need; apart because importing PyNaCl costs 18 ms."""

from __future__ import annotations

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError


def seal(key: bytes, nonce: bytes, plaintext: bytes, additional: bytes) -> bytes:
    return crypto_aead_xchacha20poly1305_ietf_encrypt(plaintext, additional, nonce, key)


def open_(key: bytes, nonce: bytes, ciphertext: bytes, additional: bytes) -> bytes | None:
    """The plaintext, or None if it does not authenticate."""
    try:
        return crypto_aead_xchacha20poly1305_ietf_decrypt(ciphertext, additional, nonce, key)
    except CryptoError:
        return None
