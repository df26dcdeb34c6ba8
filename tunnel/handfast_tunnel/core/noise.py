"""Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s as WireGuard uses it (paper, section 5.4).

Pure functions over the messages: no peer, no timer, no index table. A message that does not
authenticate raises `InvalidMessage`; nothing is changed by it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .hashes import blake2s
from .messages import Initiation, Response

_CONSTRUCTION: Final = b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s"
_IDENTIFIER: Final = b"WireGuard v1 zx2c4 Jason@zx2c4.com"
_ZERO_NONCE: Final = bytes(12)
NO_PRESHARED_KEY: Final = bytes(32)

_BLOCK: Final = 64
_INNER_PAD: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD: Final = bytes(byte ^ 0x5C for byte in range(256))


class InvalidMessage(Exception):
    """The message does not authenticate."""


class StaticKey(NamedTuple):
    """The interface's own key pair."""

    private: X25519PrivateKey
    public: bytes
    secret: bytes
    """The private key, clamped as everyone shows it."""


class TransportKeys(NamedTuple):
    """What a finished handshake yields: 32-byte keys, from the holder's point of view."""

    send: bytes
    receive: bytes


class InitiatorState(NamedTuple):
    """What an initiator keeps until the response comes."""

    ephemeral: X25519PrivateKey
    hash: bytes
    chaining_key: bytes


class ResponderState(NamedTuple):
    """What a responder has learnt from an initiation."""

    static: bytes
    timestamp: bytes
    ephemeral: bytes
    hash: bytes
    chaining_key: bytes


def _hash(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def _hmac(key: bytes, data: bytes) -> bytes:
    """HMAC-BLAKE2s (RFC 2104); by hand because `hmac.new` costs twice as much."""
    block = key.ljust(_BLOCK, b"\0")
    inner = blake2s(block.translate(_INNER_PAD) + data).digest()
    return blake2s(block.translate(_OUTER_PAD) + inner).digest()


def _kdf1(key: bytes, data: bytes) -> bytes:
    return _hmac(_hmac(key, data), b"\1")


def _kdf2(key: bytes, data: bytes) -> tuple[bytes, bytes]:
    secret = _hmac(key, data)
    first = _hmac(secret, b"\1")
    return first, _hmac(secret, first + b"\2")


def _kdf3(key: bytes, data: bytes) -> tuple[bytes, bytes, bytes]:
    secret = _hmac(key, data)
    first = _hmac(secret, b"\1")
    second = _hmac(secret, first + b"\2")
    return first, second, _hmac(secret, second + b"\3")


def _seal(key: bytes, plaintext: bytes, hash_: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, plaintext, hash_)


def _open(key: bytes, ciphertext: bytes, hash_: bytes) -> bytes:
    try:
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, ciphertext, hash_)
    except InvalidTag:
        raise InvalidMessage("authentication failed") from None


def diffie_hellman(private: X25519PrivateKey, public: bytes) -> bytes:
    """X25519 (RFC 7748). An all-zero result, from a point of low order, is refused."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise InvalidMessage("the public key is of low order") from None


def static_key(secret: bytes) -> StaticKey:
    clamped = bytes([secret[0] & 0xF8, *secret[1:31], secret[31] & 0x7F | 0x40])
    private = X25519PrivateKey.from_private_bytes(clamped)
    return StaticKey(private, private.public_key().public_bytes_raw(), clamped)


def mac1_key(public_key: bytes) -> bytes:
    return _hash(b"mac1----", public_key)


def cookie_key(public_key: bytes) -> bytes:
    return _hash(b"cookie--", public_key)


_INITIAL_CHAINING_KEY: Final = _hash(_CONSTRUCTION)
_INITIAL_HASH: Final = _hash(_INITIAL_CHAINING_KEY, _IDENTIFIER)


def create_initiation(
    own: StaticKey,
    remote: bytes,
    static_static: bytes,
    sender: int,
    timestamp: bytes,
    ephemeral: X25519PrivateKey,
) -> tuple[Initiation, InitiatorState]:
    """First message of a handshake with `remote`; `static_static` is DH of both static keys."""
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    chaining_key = _kdf1(_INITIAL_CHAINING_KEY, ephemeral_public)
    hash_ = _hash(_hash(_INITIAL_HASH, remote), ephemeral_public)
    chaining_key, key = _kdf2(chaining_key, diffie_hellman(ephemeral, remote))
    sealed_static = _seal(key, own.public, hash_)
    hash_ = _hash(hash_, sealed_static)
    chaining_key, key = _kdf2(chaining_key, static_static)
    sealed_timestamp = _seal(key, timestamp, hash_)
    hash_ = _hash(hash_, sealed_timestamp)
    message = Initiation(sender, ephemeral_public, sealed_static, sealed_timestamp)
    return message, InitiatorState(ephemeral, hash_, chaining_key)


class OpenedInitiation(NamedTuple):
    """An initiation whose sender claims to be `static`; `finish_initiation` proves it."""

    static: bytes
    hash: bytes
    chaining_key: bytes


def open_initiation(own: StaticKey, message: Initiation) -> OpenedInitiation:
    """The part that names the sender. It does not authenticate it yet."""
    chaining_key = _kdf1(_INITIAL_CHAINING_KEY, message.ephemeral)
    hash_ = _hash(_hash(_INITIAL_HASH, own.public), message.ephemeral)
    chaining_key, key = _kdf2(chaining_key, diffie_hellman(own.private, message.ephemeral))
    static = _open(key, message.static, hash_)
    return OpenedInitiation(static, _hash(hash_, message.static), chaining_key)


def finish_initiation(opened: OpenedInitiation, message: Initiation, static_static: bytes) -> ResponderState:
    """Authenticates the sender and yields its timestamp."""
    chaining_key, key = _kdf2(opened.chaining_key, static_static)
    timestamp = _open(key, message.timestamp, opened.hash)
    hash_ = _hash(opened.hash, message.timestamp)
    return ResponderState(opened.static, timestamp, message.ephemeral, hash_, chaining_key)


def create_response(
    state: ResponderState,
    preshared_key: bytes,
    sender: int,
    receiver: int,
    ephemeral: X25519PrivateKey,
) -> tuple[Response, TransportKeys]:
    """Second message; the responder's transport keys are final with it."""
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    chaining_key = _kdf1(state.chaining_key, ephemeral_public)
    hash_ = _hash(state.hash, ephemeral_public)
    chaining_key = _kdf1(chaining_key, diffie_hellman(ephemeral, state.ephemeral))
    chaining_key = _kdf1(chaining_key, diffie_hellman(ephemeral, state.static))
    chaining_key, tau, key = _kdf3(chaining_key, preshared_key)
    empty = _seal(key, b"", _hash(hash_, tau))
    receive, send = _kdf2(chaining_key, b"")
    return Response(sender, receiver, ephemeral_public, empty), TransportKeys(send, receive)


def consume_response(
    own: StaticKey, state: InitiatorState, preshared_key: bytes, message: Response
) -> TransportKeys:
    """The initiator's transport keys, if the response answers the initiation behind `state`."""
    chaining_key = _kdf1(state.chaining_key, message.ephemeral)
    hash_ = _hash(state.hash, message.ephemeral)
    chaining_key = _kdf1(chaining_key, diffie_hellman(state.ephemeral, message.ephemeral))
    chaining_key = _kdf1(chaining_key, diffie_hellman(own.private, message.ephemeral))
    chaining_key, tau, key = _kdf3(chaining_key, preshared_key)
    _open(key, message.empty, _hash(hash_, tau))
    send, receive = _kdf2(chaining_key, b"")
    return TransportKeys(send, receive)
