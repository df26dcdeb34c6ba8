"""Everything that passes on a cable, through a ring shared with the kernel: a reader may pause for seconds.

packet(7), PACKET_RX_RING; the layout is `struct tpacket_hdr` of <linux/if_packet.h>, version 1.
"""

from __future__ import annotations

import mmap
import socket
import struct
from collections.abc import Iterator
from typing import Final, Self

from tests.lab.namespaces import Node

_ETH_P_ALL: Final = 3
"""What leaves the interface is seen only by those who ask for everything."""
_SOL_PACKET: Final = 263
_PACKET_RX_RING: Final = 5
_PACKET_STATISTICS: Final = 6
_FRAME: Final = 8192
_FRAMES: Final = 1 << 12
_BLOCK: Final = 1 << 16
_STATUS: Final = struct.Struct("@L")
_LENGTHS: Final = struct.Struct("@IIHH")
"""Length on the wire, length here, offsets of the link's and the network's header."""
_OF_KERNEL: Final = 0


class Ring:
    """The first bytes of each packet on one interface, both ways; a context manager."""

    def __init__(self, node: Node, interface: str) -> None:
        self._socket = node.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
        blocks = _FRAMES * _FRAME // _BLOCK
        self._socket.setsockopt(
            _SOL_PACKET, _PACKET_RX_RING, struct.pack("@IIII", _BLOCK, blocks, _FRAME, _FRAMES)
        )
        self._memory = mmap.mmap(self._socket.fileno(), _BLOCK * blocks)
        self._socket.bind((interface, _ETH_P_ALL))
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()
        self._socket.close()

    def packets(self) -> Iterator[bytes]:
        """What has come since the last call, in order."""
        memory = self._memory
        while True:
            frame = self._next * _FRAME
            if _STATUS.unpack_from(memory, frame)[0] == _OF_KERNEL:
                return
            _, here, _, network = _LENGTHS.unpack_from(memory, frame + _STATUS.size)
            yield memory[frame + network : frame + network + here]
            _STATUS.pack_into(memory, frame, _OF_KERNEL)
            self._next = (self._next + 1) % _FRAMES

    def missed(self) -> int:
        """How many packets found no room since the last call."""
        _, dropped = struct.unpack("@II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        return int(dropped)
