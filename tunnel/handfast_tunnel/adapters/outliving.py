"""What of a tunnel outlives its process, as the tunnel sees it: memory, configuration, descriptors."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ..continuity.layout import QUEUE_DROPS, write
from ..continuity.packed_configuration import PackedConfiguration, pack
from ..continuity.saved_configuration import SavedConfiguration
from ..continuity.state_file import StateFile
from ..core.device import Device
from .data_plane import PacketPlane
from .keeper import KeeperLine, NotHeldError
from .udp import UdpSockets

log = logging.getLogger(__name__)

_BYTES_PER_INTERFACE = 4096
_BYTES_PER_PEER = 192
_BYTES_PER_PREFIX = 64
"""At most, packed."""


def room_for(peers: int, allowed_ips: int) -> int:
    """Bytes that a configuration takes at most."""
    return _BYTES_PER_INTERFACE + peers * _BYTES_PER_PEER + allowed_ips * _BYTES_PER_PREFIX


class Outliving:
    """A state memory and a line to the keeper."""

    def __init__(self, state: StateFile, configuration: SavedConfiguration | None, line: KeeperLine) -> None:
        """Without a configuration to keep, its owner keeps one elsewhere."""
        self.state = state
        self._configuration = configuration
        self._line = line
        self._adopted: UdpSockets | None = None
        if not line.inherited:
            self.end()
            state.memory.drained = False
            write(state.queue_drops, 0, [0] * QUEUE_DROPS)

    def end(self) -> None:
        """The tunnel ends on purpose: sessions stay for the next process, the private key does not."""
        if self._configuration is not None:
            self._configuration.forget()

    @property
    def keeps_configuration(self) -> bool:
        return self._configuration is not None

    @property
    def is_successor(self) -> bool:
        """Whether a worker of the same keeper came before."""
        return bool(self._line.inherited)

    @property
    def drained(self) -> bool:
        """Whether a former worker of the same keeper was told to freeze."""
        return self.state.memory.drained

    def note_drained(self, drained: bool) -> None:
        self.state.memory.drained = drained

    @property
    def listen_port(self) -> int:
        """The UDP port that was last bound, by a former process at first; 0 for none."""
        return self.state.memory.listen_port

    def note_listen_port(self, port: int) -> None:
        self.state.memory.listen_port = port

    def lock_into_memory(self) -> Iterator[None]:
        """A job: from its end on no key of a session can be swapped to a disk."""
        return self.state.lock_into_memory()

    def read_ahead(self) -> Iterator[None]:
        """A job: what would take long when it is first needed."""
        return self.state.memory.read_ahead()

    def sweep(self) -> Iterator[None]:
        """A job: what nobody claimed by now has expired."""
        return self.state.memory.sweep()

    def load_configuration(self) -> PackedConfiguration | None:
        """None where nothing was ever accepted, and where its owner keeps it elsewhere."""
        saved = self._configuration.load() if self._configuration is not None else None
        try:
            return PackedConfiguration(saved) if saved else None
        except ValueError as error:
            log.error("the configuration of the former worker is lost: %s", error)  # noqa: TRY400
            return None

    def reserve(self, peers: int, allowed_ips: int) -> None:
        """Room for a configuration of that many; raises OSError where there is none."""
        if self._configuration is not None:
            self._configuration.reserve(room_for(peers, allowed_ips))

    def save_configuration(self, device: Device) -> Iterator[None]:
        """A job; a change is answered only when it is done."""
        if self._configuration is not None:
            yield from self._configuration.save(pack(device))

    def adopt_sockets(self, plane: PacketPlane) -> UdpSockets | None:
        """Those that a former worker bound, once."""
        inherited = self._line.inherited
        descriptors = [inherited.pop(name) for name in _SOCKETS if name in inherited]
        if not descriptors:
            return None
        self._adopted = sockets = UdpSockets(plane=plane)
        sockets.adopt(descriptors)
        return sockets

    def hold_sockets(self, sockets: UdpSockets) -> None:
        if sockets is self._adopted:
            return  # the keeper has had them all along
        try:
            for name, fd in zip(_SOCKETS, sockets.filenos, strict=False):
                self._line.hold(name, fd)
        except NotHeldError as error:
            self.release_sockets()  # all or none: the next worker binds them anew
            log.warning("packets that come while this process is replaced will be lost: %s", error)

    def release_sockets(self) -> None:
        for name in _SOCKETS:
            self._line.release(name)


_SOCKETS = ("udp0", "udp1")
