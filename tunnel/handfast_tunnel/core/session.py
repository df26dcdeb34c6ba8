"""Transport keys of one finished handshake: counters, replay window, age (paper, section 5.4.6)."""

from __future__ import annotations

from itertools import compress
from typing import TYPE_CHECKING

from ..continuity.storage import KeypairFacts, KeypairNumbers, Position
from .constants import REJECT_AFTER_MESSAGES, REJECT_AFTER_TIME
from .replay import ReplayWindow

if TYPE_CHECKING:
    from .data_plane import Batch, DataPlane, Opener, Sealer
    from .endpoint import Endpoint
    from .peer import Peer


class Keypair:
    """One session. AEAD objects and window are made on first use: most of many peers are idle."""

    __slots__ = (
        "_facts",
        "_opener",
        "_plane",
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
        "response_path",
    )

    def __init__(self, peer: Peer, facts: KeypairFacts, numbers: KeypairNumbers, plane: DataPlane) -> None:
        """A new keypair, or one that outlived its process: `numbers` tells where it stopped."""
        self.peer = peer
        self._plane = plane
        self._facts: KeypairFacts | None = facts
        self.local_index = facts.local_index
        self.remote_index = facts.remote_index
        self.initiator = facts.initiator
        self.born = facts.born
        self.rekey_age = facts.rekey_age
        self.numbers = numbers
        self.counter = numbers.ceiling
        self.heard = numbers.heard
        """Whether the peer has sent anything under these keys, and so knows that we have them."""
        self.response_mac1: bytes | None = None
        """Of the response that offered these keys: a loaded initiator answers it with a cookie."""
        self.response_path: Endpoint | None = None
        self._sealer: Sealer | None = None
        self._opener: Opener | None = None
        self._window: ReplayWindow | None = None

    def _live_facts(self) -> KeypairFacts:
        if self._facts is None:
            raise AssertionError("a dead keypair was used")
        return self._facts

    def note_heard(self) -> None:
        self.heard = self.numbers.heard = True

    def place(self, position: Position) -> Keypair:
        """Keeps the keypair as what it is to its peer from here on."""
        self.numbers.place(position)
        return self

    @property
    def sealer(self) -> Sealer:
        if self._sealer is None:
            self._sealer = self._plane.sealer(self._live_facts().send_key)
        return self._sealer

    @property
    def opener(self) -> Opener:
        if self._opener is None:
            self._opener = self._plane.opener(self._live_facts().receive_key)
        return self._opener

    @property
    def window(self) -> ReplayWindow:
        if self._window is None:
            self._window = ReplayWindow(self.numbers.highest_received)
        return self._window

    def expired(self, now: float) -> bool:
        return now - self.born >= REJECT_AFTER_TIME

    def can_send(self, now: float) -> bool:
        return self.counter < REJECT_AFTER_MESSAGES and now - self.born < REJECT_AFTER_TIME

    def reserve(self, count: int) -> tuple[int, int]:
        """Takes up to `count` counters: (the first, how many). Stored before any of them is used."""
        base = self.counter
        count = min(count, REJECT_AFTER_MESSAGES - base)
        self.counter = self.numbers.ceiling = base + count
        return base, count

    def seal_batch(self, packets: Batch, mtu: int) -> Batch:
        """As many of the packets, sealed, as there are counters left."""
        base, count = self.reserve(len(packets))
        packets = packets if count == len(packets) else packets[:count]
        return (self._sealer or self.sealer).seal_batch(self.remote_index, base, packets, mtu)

    def open_batch(self, datagrams: Batch) -> tuple[int, Batch]:
        """How many authenticate, and the plaintexts of those that were not seen before.

        That they were seen is stored before anybody has them.
        """
        counters, plaintexts = (self._opener or self.opener).open_batch(datagrams)
        if not counters:
            return 0, plaintexts
        window, highest = self._window or self.window, max(counters)
        if highest > window.highest:
            self.numbers.highest_received = highest
        if len(counters) == 1:  # what a round trip waits for
            return 1, plaintexts if window.accept(highest) else []
        verdicts = window.accept_batch(counters)
        if verdicts is not None:
            plaintexts = list(compress(plaintexts, verdicts))
        return len(counters), plaintexts

    def forbid_sending(self) -> None:
        """Nothing is sealed under these keys any more; what arrives is still opened."""
        self.counter = self.numbers.ceiling = REJECT_AFTER_MESSAGES

    def erase(self) -> None:
        self._zero()
        self.numbers.erase()

    def lose(self) -> None:
        """The keys die; what the local index stands for is kept."""
        self._zero()
        self.numbers.lose()

    def _zero(self) -> None:
        self._facts = self._sealer = self._opener = self._window = None
