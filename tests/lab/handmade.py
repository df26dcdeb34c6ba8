"""A WireGuard initiator made by hand, for what unmodified programs never send (paper, section 5.4).

It shares no code with Handfast, and it is as dishonest as a test wants it to be: a public key that hides the
result of every Diffie-Hellman, a counter past the limit, an inner packet that is shorter than it says.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import time
from dataclasses import dataclass
from hashlib import blake2s
from hmac import digest
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt

from .adversary import checksum, with_macs
from .peer import KeyPair

LOW_ORDER: Final = bytes(32)
"""The point whose product with any private key is zero."""
_TAI_OFFSET: Final = 2**62 + 10


def _hash(*parts: bytes) -> bytes:
    return blake2s(b"".join(parts)).digest()


def _kdf(key: bytes, data: bytes, count: int) -> list[bytes]:
    secret = digest(key, data, "blake2s")
    derived = [b""]
    for number in range(1, count + 1):
        derived.append(digest(secret, derived[-1] + bytes([number]), "blake2s"))
    return derived[1:]


def _seal(key: bytes, plaintext: bytes, hash_: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(bytes(12), plaintext, hash_)


def _private(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(base64.b64decode(text))


@dataclass
class Session:
    """Transport keys, as the initiator has them."""

    send_key: bytes
    receive_key: bytes
    local: bytes
    remote: bytes
    counter: int = 0

    def seal(self, packet: bytes, counter: int | None = None) -> bytes:
        """A transport message around exactly this, whatever it is."""
        if counter is None:
            counter, self.counter = self.counter, self.counter + 1
        nonce = counter.to_bytes(8, "little")
        sealed = ChaCha20Poly1305(self.send_key).encrypt(bytes(4) + nonce, packet, None)
        return b"\4\0\0\0" + self.remote + nonce + sealed


class Initiator:
    """One peer in the server's configuration that no program plays."""

    def __init__(self, server_public_key: str) -> None:
        self.keys = KeyPair.generate()
        self._server = base64.b64decode(server_public_key)
        self._server_text = server_public_key
        self._last_stamp = 0

    def initiation(self, *, low_order: bool = False, cookie: bytes = b"") -> bytes:
        """Each one is newer than those before; with `low_order` there is no secret in its ephemeral key."""
        static, server = _private(self.keys.private), X25519PublicKey.from_public_bytes(self._server)
        self._ephemeral = X25519PrivateKey.generate()
        public = LOW_ORDER if low_order else self._ephemeral.public_key().public_bytes_raw()
        shared = bytes(32) if low_order else self._ephemeral.exchange(server)
        self._local = os.urandom(4)

        chain = _hash(b"Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s")
        hash_ = _hash(_hash(chain, b"WireGuard v1 zx2c4 Jason@zx2c4.com"), self._server)
        hash_ = _hash(hash_, public)
        (chain,) = _kdf(chain, public, 1)
        chain, key = _kdf(chain, shared, 2)
        sealed_static = _seal(key, base64.b64decode(self.keys.public), hash_)
        hash_ = _hash(hash_, sealed_static)
        chain, key = _kdf(chain, static.exchange(server), 2)
        sealed_stamp = _seal(key, self._stamp(), hash_)
        self._chain, self._hash = chain, _hash(hash_, sealed_stamp)
        message = b"\1\0\0\0" + self._local + public + sealed_static + sealed_stamp
        message = with_macs(message, self._server_text)
        if cookie:
            message = message[:-16] + blake2s(message[:-16], digest_size=16, key=cookie).digest()
        return message

    def _stamp(self) -> bytes:
        self._last_stamp = max(time.time_ns(), self._last_stamp + 1)
        seconds, nanoseconds = divmod(self._last_stamp, 10**9)
        return struct.pack("!QI", _TAI_OFFSET + seconds, nanoseconds)

    def session(self, response: bytes) -> Session:
        """What the response to the last initiation yields."""
        assert response[:4] == b"\2\0\0\0"
        assert response[8:12] == self._local
        public = response[12:44]
        point = X25519PublicKey.from_public_bytes(public)
        hash_ = _hash(self._hash, public)
        (chain,) = _kdf(self._chain, public, 1)
        (chain,) = _kdf(chain, self._ephemeral.exchange(point), 1)
        (chain,) = _kdf(chain, _private(self.keys.private).exchange(point), 1)
        chain, tau, key = _kdf(chain, bytes(32), 3)
        ChaCha20Poly1305(key).decrypt(bytes(12), response[44:60], _hash(hash_, tau))
        send, receive = _kdf(chain, b"", 2)
        return Session(send, receive, self._local, response[4:8])

    def meet(self, line: socket.socket) -> Session:
        """A whole handshake over this connected socket, with the packet that confirms it."""
        line.send(self.initiation())
        session = self.session(line.recv(2048))
        line.send(session.seal(b""))
        return session


def cookie_of(reply: bytes, initiation: bytes, server_public_key: str) -> bytes:
    """The cookie in the reply to an initiation."""
    key = _hash(b"cookie--", base64.b64decode(server_public_key))
    return crypto_aead_xchacha20poly1305_ietf_decrypt(reply[32:64], initiation[-32:-16], reply[8:32], key)


def inner_packet(
    payload: bytes, source: str, destination: str, port: int, *, length: int | None = None
) -> bytes:
    """An IPv4 packet with a UDP datagram, to be sealed; `length` is a lie about its own."""
    length = 28 + len(payload) if length is None else length
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    header = header[:10] + checksum(header) + header[12:]
    return header + struct.pack("!HHHH", port, port, 8 + len(payload), 0) + payload
