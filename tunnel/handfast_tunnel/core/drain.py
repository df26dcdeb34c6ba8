"""Drain: stop owning the sessions without harming them (RECOVERY, section 7).

Freezing stops sealing, opening and handshakes in one step; packets wait in the kernel's queues.
Nothing is expired: a peer whose keys we expired would stay dark for longer, not shorter.
"""

from __future__ import annotations

from typing import Final

from .interface import Interface

RECENTLY: Final = 2.0
"""A peer heard within this many seconds before an interruption was sending (KUBERNETES, section 8)."""


def note_interruption(interface: Interface, now: float) -> None:
    """Remembers when the peers that were sending were last heard, to measure their outage."""
    for peer in interface.peers.values():
        if peer.interrupted_at is None and 0.0 < peer.last_received >= now - RECENTLY:
            peer.interrupted_at = peer.last_received


class Drain:
    """Whether an interface is frozen."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self.frozen = self.committed

    @property
    def committed(self) -> bool:
        """Whether another took over for good: nothing is sealed, opened or answered here ever again."""
        return self._interface.memory.committed_term > 0

    def freeze(self, now: float) -> None:
        if not self.frozen:
            self.frozen = True
            self._interface.outbox.clear()
            note_interruption(self._interface, now)

    def thaw(self) -> None:
        self.frozen = self.committed
