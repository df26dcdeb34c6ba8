"""Transport keys of one finished handshake: counters, replay window, age (paper, section 5.4.6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..continuity.storage import KeypairNumbers
from .constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME, REKEY_AFTER_TIME
from .noise import TransportKeys
from .replay import ReplayWindow

if TYPE_CHECKING:
    from .peer import Peer


class Keypair:
    """One session. AEAD objects and window are made on first use: most of many peers are idle."""

    __slots__ = (
        "_keys",
        "_opener",
        "_sealer",
        "_window",
        "born",
        "counter",
        "heard",
        "initiator",
        "local_index",
        "numbers",
        "peer",
        "rekey_age",
        "remote_index",
        "response_mac1",
    )

    def __init__(
        self,
        peer: Peer,
        keys: TransportKeys,
        local_index: int,
        remote_index: int,
        *,
        initiator: bool,
        born: float,
        numbers: KeypairNumbers,
    ) -> None:
        self.peer = peer
        self._keys: TransportKeys | None = keys
        self.local_index = local_index
        self.remote_index = remote_index
        self.initiator = initiator
        self.born = born
        self.numbers = numbers
        self.counter = numbers.ceiling
        self.heard = False
        """Whether the peer has sent anything under these keys, and so knows that we have them."""
        self.rekey_age = REKEY_AFTER_TIME
        self.response_mac1: bytes | None = None
        """Of the response that offered these keys: a loaded initiator answers it with a cookie."""
        self._sealer: ChaCha20Poly1305 | None = None
        self._opener: ChaCha20Poly1305 | None = None
        self._window: ReplayWindow | None = None

    def _live_keys(self) -> TransportKeys:
        if self._keys is None:
            raise AssertionError("a dead keypair was used")
        return self._keys

    @property
    def sealer(self) -> ChaCha20Poly1305:
        if self._sealer is None:
            self._sealer = ChaCha20Poly1305(self._live_keys().send)
        return self._sealer

    @property
    def opener(self) -> ChaCha20Poly1305:
        if self._opener is None:
            self._opener = ChaCha20Poly1305(self._live_keys().receive)
        return self._opener

    @property
    def window(self) -> ReplayWindow:
        if self._window is None:
            self._window = ReplayWindow(self.numbers.highest_received)
        return self._window

    def expired(self, now: float) -> bool:
        return now - self.born >= REJECT_AFTER_TIME

    def can_send(self, now: float) -> bool:
        return self.counter < REJECT_AFTER_MESSAGES and not self.expired(now)

    def reserve(self, count: int) -> tuple[int, int]:
        """Takes up to `count` counters: (the first, how many). Stored before any of them is used."""
        base = self.counter
        count = min(count, REJECT_AFTER_MESSAGES - base)
        self.counter = self.numbers.ceiling = base + count
        return base, count

    def forbid_sending(self) -> None:
        """Nothing is sealed under these keys any more; what arrives is still opened."""
        self.counter = self.numbers.ceiling = REJECT_AFTER_MESSAGES

    def erase(self) -> None:
        self._keys = self._sealer = self._opener = self._window = None
        self.numbers.erase()
