"""The data plane between kernel and core: in Python, always there, or compiled, where it is installed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Final, Literal, NamedTuple, Protocol

from ..core.batch import PureBatches
from ..core.data_plane import Batch, DataPlane
from ..errors import StartError
from .checksum import Buffer
from .offload import PLAIN_VNET_HEADER, VNET_HEADER, MalformedPacketError, coalesce, joined, split

Choice = Literal["auto", "pure", "native"]
CHOICES: Final[Mapping[str, Choice]] = {"auto": "auto", "pure": "pure", "native": "native"}

SEAM: Final = 2
"""Of the compiled module: another number means another release's, which is not used."""

MAX_SEGMENTS: Final = 64
MAX_SEGMENTED_BYTES: Final = 65507


class Run(NamedTuple):
    """Datagrams that one UDP_SEGMENT send may carry: equal sizes, only the last one shorter."""

    buffers: Sequence[bytes]
    """One for each datagram, or one for all."""
    size: int
    """Of each datagram but the last."""
    datagrams: int

    def single(self) -> list[Run]:
        """Each datagram alone."""
        whole, size = b"".join(self.buffers), self.size
        parts = [whole[at : at + size] for at in range(0, len(whole), size)] if size else [whole]
        return [Run((part,), len(part), 1) for part in parts]


Frame = tuple[Sequence[Buffer], Batch]
"""What one write to the TUN device carries, its virtio-net header first, and the packets it stands for."""


class PacketPlane(DataPlane, Protocol):
    """What the adapters need of it besides what the core does."""

    name: str
    """`pure` or `native`."""
    takes_large_reads: bool
    """Whether it cuts unsegmented packets faster than the kernel hands over single ones."""

    def datagrams(self, data: bytes, size: int) -> Batch:
        """What one read of a socket gave: datagrams of `size` bytes, the last may be shorter; 0 for one."""

    def runs(self, datagrams: Batch) -> Iterable[Run]:
        """The same datagrams in the fewest sends."""

    def split(self, frames: Sequence[bytes]) -> tuple[Batch, int]:
        """The packets that reads of the TUN device stand for, and how many reads were malformed."""

    def frames(self, packets: Batch, *, tcp: bool, udp: bool) -> Iterable[Frame]:
        """The same packets in the fewest writes, as far as the kernel takes joined ones."""


class Pure(PureBatches):
    """A `PacketPlane`, the one in Python."""

    name = "pure"
    takes_large_reads = False

    def datagrams(self, data: bytes, size: int) -> list[bytes]:
        if 0 < size < len(data):
            return [data[start : start + size] for start in range(0, len(data), size)]
        return [data]

    def runs(self, datagrams: Batch) -> Iterator[Run]:
        start = 0
        while start < len(datagrams):
            size = len(datagrams[start])
            end = start + 1
            longest = min(MAX_SEGMENTS, MAX_SEGMENTED_BYTES // size) if size else 1
            limit = min(len(datagrams), start + longest)
            while end < limit and len(datagrams[end]) == size:
                end += 1
            if end < limit and 0 < len(datagrams[end]) < size:
                end += 1
            yield Run(datagrams[start:end], size, end - start)
            start = end

    def split(self, frames: Sequence[bytes]) -> tuple[list[bytes], int]:
        packets: list[bytes] = []
        malformed = 0
        for frame in frames:
            if frame.startswith(PLAIN_VNET_HEADER):
                packets.append(frame[VNET_HEADER.size :])
                continue
            try:
                packets += split(frame, memoryview(frame)[VNET_HEADER.size :])
            except MalformedPacketError:
                malformed += 1
        return packets, malformed

    def frames(self, packets: Batch, *, tcp: bool, udp: bool) -> Iterator[Frame]:
        groups = coalesce(packets, tcp=tcp, udp=udp) if tcp or udp else zip(packets)
        for group in groups:
            if len(group) == 1:
                yield (PLAIN_VNET_HEADER + group[0],), group
            else:
                yield joined(group), group


PURE: Final = Pure()


def choose(choice: Choice) -> PacketPlane:
    """Raises StartError where the compiled one is asked for and cannot be had."""
    if choice == "pure":
        return PURE
    try:
        module = import_module("handfast_native")
    except ImportError as error:
        if choice == "auto":
            return PURE
        raise StartError(f"--data-plane=native: {error}; install handfast[native]") from error
    if module.SEAM != SEAM:
        if choice == "auto":
            return PURE
        raise StartError(
            "--data-plane=native: handfast-native is another release's: install handfast[native]"
        )
    from .native import Native

    return Native()
