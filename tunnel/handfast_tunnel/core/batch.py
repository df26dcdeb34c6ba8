"""The seam of the data plane: seal and open many packets of one session in one call.

Nothing here decides anything: keys, counters, windows and peers are the callers'. A compiled version
replaces exactly these two functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from .constants import PADDING, REJECT_AFTER_MESSAGES
from .messages import TRANSPORT_HEADER_LENGTH, TYPE_TRANSPORT

_COUNTER: Final = Struct("<Q")
_NONCE_PREFIX: Final = bytes(4)
_ZEROS: Final = bytes(PADDING)


def seal_batch(
    sealer: ChaCha20Poly1305, receiver: int, base: int, packets: Sequence[bytes], mtu: int
) -> list[bytes]:
    """Transport messages around `packets`, with counters from `base` on.

    Each packet is padded with zeros to a multiple of 16, but not past `mtu`.
    """
    prefix = TYPE_TRANSPORT.to_bytes(4, "little") + receiver.to_bytes(4, "little")
    encrypt = sealer.encrypt
    pack = _COUNTER.pack
    datagrams = []
    for number, packet in enumerate(packets, base):
        counter = pack(number)
        missing = -len(packet) % PADDING
        padded = packet + _ZEROS[: max(0, min(missing, mtu - len(packet)))] if missing else packet
        datagrams.append(prefix + counter + encrypt(_NONCE_PREFIX + counter, padded, None))
    return datagrams


def open_batch(opener: ChaCha20Poly1305, datagrams: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
    """Counters and plaintexts (padding included) of the messages that authenticate, in order.

    A counter past the limit is refused before it is opened. Forgeries are left out.
    """
    decrypt = opener.decrypt
    unpack = _COUNTER.unpack_from
    counters: list[int] = []
    plaintexts: list[bytes] = []
    for datagram in datagrams:
        counter = unpack(datagram, 8)[0]
        if counter >= REJECT_AFTER_MESSAGES:
            continue
        nonce = _NONCE_PREFIX + datagram[8:TRANSPORT_HEADER_LENGTH]
        try:
            plaintexts.append(decrypt(nonce, datagram[TRANSPORT_HEADER_LENGTH:], None))
        except InvalidTag:
            continue
        counters.append(counter)
    return counters, plaintexts
