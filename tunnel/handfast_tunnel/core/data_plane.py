"""The seam of the data plane: what is done to every packet, for many at a time.

Nothing behind it decides anything: keys, counters, windows and peers are the callers'. `batch` is the
implementation in Python; a compiled one does the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

Batch = Sequence[bytes]
"""Packets or datagrams, in order. A compiled one makes `bytes` of them only where they are asked for."""


class Sealer(Protocol):
    """Seals under one session's key."""

    def seal_batch(self, receiver: int, base: int, packets: Batch, mtu: int, /) -> Batch:
        """Transport messages around `packets`, with counters from `base` on, which the caller has reserved.

        Each packet is padded with zeros to a multiple of 16, but not past `mtu`.
        """

    def seal(self, receiver: int, counter: int, packet: bytes, mtu: int, /) -> bytes:
        """The same of a packet that comes alone."""


class Opener(Protocol):
    """Opens under one session's key."""

    def open_batch(self, datagrams: Batch, /) -> tuple[list[int], Batch]:
        """Counters and plaintexts (padding included) of the messages that authenticate, in order.

        A counter past the limit is refused before it is opened. Forgeries are left out.
        """

    def open(self, datagram: bytes, /) -> tuple[int, bytes] | None:
        """The same of a message that comes alone."""


class DataPlane(Protocol):
    """What the core needs of it."""

    def sealer(self, key: bytes) -> Sealer: ...

    def opener(self, key: bytes) -> Opener: ...

    def by_receiver(self, datagrams: Batch) -> Iterable[tuple[int | None, Batch]]:
        """Runs of transport messages to one receiver index; None for everything else."""

    def by_destination(self, packets: Batch) -> Iterable[tuple[bytes | None, int, Batch]]:
        """Runs of packets with equal destination and ECN bits; no destination for what is no IP packet."""

    def by_source(self, plaintexts: Batch) -> Iterable[tuple[bytes | None, Batch]]:
        """Runs of IP packets with an equal source, without padding; None for what is no IP packet.

        Keepalives, which are empty, are left out.
        """

    def size(self, batch: Batch) -> int:
        """Bytes of all together."""

    def join(self, batches: Sequence[Batch]) -> Batch:
        """One batch of at least one."""
