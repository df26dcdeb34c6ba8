"""What of a tunnel outlives its process, as the tunnel sees it: memory, configuration, descriptors."""

from __future__ import annotations

from collections.abc import Iterator

from ..continuity.layout import QUEUE_DROPS, write
from ..continuity.saved_configuration import SavedConfiguration
from ..continuity.state_file import StateFile
from ..core.device import Device
from .keeper import KeeperLine
from .uapi import format_set
from .udp import UdpSockets

_BYTES_PER_INTERFACE = 1024
_BYTES_PER_PEER = 384
_BYTES_PER_PREFIX = 64
"""At most, in the text of a `set`."""


class Outliving:
    """A state memory and a line to the keeper."""

    def __init__(self, state: StateFile, configuration: SavedConfiguration, line: KeeperLine) -> None:
        self.state = state
        self._configuration = configuration
        self._line = line
        self._adopted: UdpSockets | None = None
        if not line.inherited:
            configuration.forget()
            state.memory.drained = False
            write(state.queue_drops, 0, [0] * QUEUE_DROPS)

    def end(self) -> None:
        """The tunnel ends on purpose: sessions stay for the next process, the private key does not."""
        self._configuration.forget()

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

    def sweep(self) -> Iterator[None]:
        """A job: what nobody claimed by now has expired."""
        return self.state.memory.sweep()

    def load_configuration(self) -> bytes:
        return self._configuration.load()

    def reserve(self, peers: int, allowed_ips: int) -> None:
        """Room for a configuration of that many; raises OSError where there is none."""
        self._configuration.reserve(
            _BYTES_PER_INTERFACE + peers * _BYTES_PER_PEER + allowed_ips * _BYTES_PER_PREFIX
        )

    def save_configuration(self, device: Device) -> Iterator[None]:
        """A job; a change is answered only when it is done."""
        yield from self._configuration.save(format_set(device))

    def adopt_sockets(self) -> UdpSockets | None:
        """Those that a former worker bound, once."""
        inherited = self._line.inherited
        descriptors = [inherited.pop(name) for name in _SOCKETS if name in inherited]
        if not descriptors:
            return None
        self._adopted = sockets = UdpSockets()
        sockets.adopt(descriptors)
        return sockets

    def hold_sockets(self, sockets: UdpSockets) -> None:
        if sockets is self._adopted:
            return  # the keeper has had them all along
        for name, fd in zip(_SOCKETS, sockets.filenos, strict=False):
            self._line.hold(name, fd)

    def release_sockets(self) -> None:
        for name in _SOCKETS:
            self._line.release(name)


_SOCKETS = ("udp0", "udp1")
