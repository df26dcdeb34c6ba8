"""What a caller may ask of an interface: frozen values, parsed and checked before anything changes.

Named tuples, because a start has no time for `dataclasses`: that imports a parser of Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from .constants import BURST_PER_SECOND
from .endpoint import Endpoint


class Prefix(NamedTuple):
    """An allowed IP: `network` is 4 or 16 packed bytes with the host bits zero."""

    network: bytes
    length: int


class PeerChange(NamedTuple):
    """One peer's part of a `set`. None leaves a value as it is."""

    public_key: bytes
    remove: bool = False
    update_only: bool = False
    preshared_key: bytes | None = None
    """32 bytes; all zero means none."""
    endpoint: Endpoint | None = None
    persistent_keepalive: int | None = None
    """Seconds; 0 switches it off."""
    replace_allowed_ips: bool = False
    allowed_ips: tuple[Prefix, ...] = ()
    removed_allowed_ips: tuple[Prefix, ...] = ()

    def pieces(self, size: int) -> Iterator[PeerChange]:
        """The same as changes of at most `size` allowed IPs each, to be staged one after the other."""
        if len(self.allowed_ips) <= size:
            yield self
            return
        yield self._replace(allowed_ips=self.allowed_ips[:size])
        for start in range(size, len(self.allowed_ips), size):
            more = self.allowed_ips[start : start + size]
            yield PeerChange(self.public_key, update_only=True, allowed_ips=more)


class InterfaceChange(NamedTuple):
    """A whole `set`, applied in one step or refused whole. None leaves a value as it is."""

    private_key: bytes | None = None
    """32 bytes; all zero removes the key."""
    listen_port: int | None = None
    fwmark: int | None = None
    """0 removes the mark."""
    replace_peers: bool = False
    drain: bool | None = None
    peers: tuple[PeerChange, ...] = ()


class Settings(NamedTuple):
    """What stays the same while the process lives."""

    timers: Literal["recovery", "strict"] = "recovery"
    """`strict` restores the whitepaper's timers: no cadence, no repeated confirmations."""
    announce: bool = True
    """Initiate handshakes to every known endpoint at start (RECOVERY, sections 4 and 5)."""
    burst_per_second: float = BURST_PER_SECOND
    """How many initiations of a recovery leave per second, over all peers."""
    shared_networks: tuple[Prefix, ...] = ()
    """The cluster's own addresses, each of which all clients may share: strays from there are spared the
    limits of a network and of all, and share `burst_per_second` (RECOVERY, section 6)."""
    mtu: int = 1420
