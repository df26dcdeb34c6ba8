"""The numbers that must outlive a process, behind one small interface (RECOVERY, sections 2 and 3).

The core stores through these records *before* it acts on what it stored. Plain memory serves where
nothing outlives the process; a mapped file gives the same attributes the other meaning.
"""

from __future__ import annotations

from typing import Protocol


class KeypairNumbers(Protocol):
    """Counters of one keypair. Each is written alone, and by one writer."""

    ceiling: int
    """No packet was ever sealed with this counter or a higher one."""
    highest_received: int
    """The highest authenticated counter; -1 before the first."""

    def erase(self) -> None:
        """The keypair is dead: zero what is kept of it."""


class PeerMarks(Protocol):
    """Timestamp marks of one peer."""

    outbound_stamp: int
    """TAI64N stamp of the last initiation sent, as `tai64n` counts; 0 before the first."""
    inbound_stamp: bytes
    """Stamp of the last initiation accepted, as on the wire; empty before the first."""
    inbound_exact: bool
    """Whether no initiation that the peer ever sent before can be newer than `inbound_stamp`. Until it
    has confirmed a session, one captured from an earlier process's life could be (RECOVERY, section 3)."""

    def erase(self) -> None:
        """The peer is gone."""


class Memory(Protocol):
    """Where records live."""

    def peer_marks(self, public_key: bytes) -> PeerMarks: ...

    def keypair_numbers(self, public_key: bytes) -> KeypairNumbers: ...


class PlainKeypairNumbers:
    """Counters that die with the process."""

    __slots__ = ("ceiling", "highest_received")

    def __init__(self) -> None:
        self.ceiling = 0
        self.highest_received = -1

    def erase(self) -> None:
        self.__init__()  # type: ignore[misc]


class PlainPeerMarks:
    """Marks that die with the process."""

    __slots__ = ("inbound_exact", "inbound_stamp", "outbound_stamp")

    def __init__(self) -> None:
        self.outbound_stamp = 0
        self.inbound_stamp = b""
        self.inbound_exact = False

    def erase(self) -> None:
        self.__init__()  # type: ignore[misc]


class PlainMemory:
    """A `Memory` for one process's life."""

    def peer_marks(self, public_key: bytes) -> PlainPeerMarks:
        return PlainPeerMarks()

    def keypair_numbers(self, public_key: bytes) -> PlainKeypairNumbers:
        return PlainKeypairNumbers()
