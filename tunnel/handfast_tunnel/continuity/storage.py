"""The numbers that must outlive a process, behind one small interface (RECOVERY, sections 2 and 3).

The core stores through these records *before* it acts on what it stored. Plain memory serves where
nothing outlives the process; `state_memory` gives the same attributes the other meaning.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple, Protocol

from ..core.endpoint import Endpoint


class Position(IntEnum):
    """What a keypair is to its peer."""

    FREE = 0
    PREVIOUS = 1
    CURRENT = 2
    NEXT = 3
    LOST = 4
    """Its keys are gone; only what its local index stands for is kept."""


class KeypairFacts(NamedTuple):
    """What never changes of a keypair."""

    send_key: bytes
    receive_key: bytes
    local_index: int
    remote_index: int
    initiator: bool
    born: float
    """Seconds of CLOCK_BOOTTIME."""
    rekey_age: float


class KeypairNumbers(Protocol):
    """What changes of one keypair. Each number is written alone, and by one writer."""

    ceiling: int
    """No packet was ever sealed with this counter or a higher one."""
    highest_received: int
    """The highest authenticated counter; -1 before the first."""
    heard: bool
    """Whether the peer has sent anything under these keys."""

    def place(self, position: Position) -> None:
        """From here on the keypair is kept, as this."""

    def lose(self) -> None:
        """Zeroes the keys and keeps the rest, until the room is needed."""

    def erase(self) -> None:
        """The keypair is dead: zero what is kept of it."""


class PeerMarks(Protocol):
    """What is kept of one peer."""

    outbound_stamp: int
    """TAI64N stamp of the last initiation sent, as `tai64n` counts; 0 before the first."""
    answered_stamp: int
    """Stamp of the newest initiation that was answered; 0 before the first."""
    inbound_stamp: bytes
    """Stamp of the last initiation accepted, as on the wire; empty before the first."""
    endpoint: Endpoint | None
    """Where it was last heard, or where a person said it is since."""
    configured_endpoint: int
    """Checksum of the endpoint that the configuration last named; 0 if it never named one."""
    last_sent: float
    """When a packet last left for it, in seconds of CLOCK_BOOTTIME; 0 for never."""
    last_received: float
    data_sent: float
    """When the oldest data left that nothing has come in after, if that is later than `last_received`."""
    data_received: float
    """When the oldest data came in that nothing has been sent after, if that is later than `last_sent`."""
    inbound_exact: bool
    """Whether no initiation that the peer ever sent before can be newer than `inbound_stamp`. Until it
    has confirmed a session, one captured from an earlier process's life could be (RECOVERY, section 3)."""

    def erase(self) -> None:
        """The peer is gone."""


class RecalledKeypair(NamedTuple):
    """A session that outlived its process."""

    position: Position
    facts: KeypairFacts
    numbers: KeypairNumbers


class Memory(Protocol):
    """Where records live. `context` names what a session's keys came from besides the peer: the interface's
    key and the pre-shared key. Under another context a session is not recalled but zeroed."""

    last_alive: float
    """When the former owner last sent or received anything, in seconds of CLOCK_BOOTTIME; 0 for never."""
    wall_offset: float
    """Unix time minus CLOCK_BOOTTIME as the interface's owner last knew it; 0 for never."""
    committed_term: int
    """The term at which another took over for good; 0 for never. From then on nothing is recalled."""

    def peer_marks(self, public_key: bytes) -> PeerMarks:
        """The peer's record, as it was kept or new."""

    def keypair_numbers(self, public_key: bytes, facts: KeypairFacts, context: bytes) -> KeypairNumbers:
        """A record for a new keypair of a peer that has marks; kept once it is placed."""

    def recall(self, public_key: bytes, context: bytes) -> list[RecalledKeypair]:
        """The sessions that are kept of a peer."""

    def knows(self, public_key: bytes) -> bool:
        """Whether anything is kept of the peer."""

    def peer_of(self, index: int) -> bytes | None:
        """Whose session had this receiver index when the former owner died; None if nobody's."""

    def forget_others(self, public_keys: Collection[bytes]) -> None:
        """These are all peers there are: zeroes what is kept of any other."""


class PlainKeypairNumbers:
    """Counters that die with the process."""

    __slots__ = ("ceiling", "heard", "highest_received")

    def __init__(self) -> None:
        self.ceiling = 0
        self.highest_received = -1
        self.heard = False

    def place(self, position: Position) -> None:
        pass

    def lose(self) -> None:
        self.erase()

    def erase(self) -> None:
        self.__init__()  # type: ignore[misc]


class PlainPeerMarks:
    """Marks that die with the process."""

    __slots__ = (
        "answered_stamp",
        "configured_endpoint",
        "data_received",
        "data_sent",
        "endpoint",
        "inbound_exact",
        "inbound_stamp",
        "last_received",
        "last_sent",
        "outbound_stamp",
    )

    def __init__(self) -> None:
        self.outbound_stamp = self.answered_stamp = 0
        self.inbound_stamp = b""
        self.inbound_exact = False
        self.endpoint: Endpoint | None = None
        self.configured_endpoint = 0
        self.last_sent = self.last_received = self.data_sent = self.data_received = 0.0

    def erase(self) -> None:
        self.__init__()  # type: ignore[misc]


class PlainMemory:
    """A `Memory` for one process's life."""

    last_alive = 0.0
    wall_offset = 0.0
    committed_term = 0

    def peer_marks(self, public_key: bytes) -> PlainPeerMarks:
        return PlainPeerMarks()

    def keypair_numbers(self, public_key: bytes, facts: KeypairFacts, context: bytes) -> PlainKeypairNumbers:
        return PlainKeypairNumbers()

    def recall(self, public_key: bytes, context: bytes) -> list[RecalledKeypair]:
        return []

    def knows(self, public_key: bytes) -> bool:
        return False

    def peer_of(self, index: int) -> bytes | None:
        return None

    def forget_others(self, public_keys: Collection[bytes]) -> None:
        pass
