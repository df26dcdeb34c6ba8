"""Where a peer is: its address and port, and the local address it last reached."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from .hashes import blake2s


class Endpoint(NamedTuple):
    """A UDP address of a peer.

    `host` is numeric; an IPv4 address is a dotted quad, never v4-mapped. `scope` is the zone of a
    link-local IPv6 address. `local` is the packed local address the peer's last packet came to and
    `interface` its index: replies leave from there on a multi-homed host. Both are empty when unknown.
    """

    host: str
    port: int
    scope: int = 0
    local: bytes = b""
    interface: int = 0

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    @property
    def address(self) -> tuple[str, int, int]:
        """What names the peer: the endpoint without our side of the path."""
        return self[:3]

    def same_path(self, other: Endpoint) -> bool:
        """Whether it is the same address, reached from the same of ours as far as both tell."""
        return self.address == other.address and (
            self.local == other.local or b"" in (self.local, other.local)
        )

    def without_local(self) -> Endpoint:
        return self._replace(local=b"", interface=0)

    def packed(self) -> bytes:
        """Address and port as bytes: what a cookie binds to (paper, section 5.4.7).

        An IPv4 address is 4 bytes, even if a socket of both families gave it v4-mapped.
        """
        if self.is_ipv6:
            ip = IPv6Address(self.host)
            packed = (ip.ipv4_mapped or ip).packed
        else:
            packed = IPv4Address(self.host).packed
        return packed + self.port.to_bytes(2, "big")

    def checksum(self) -> int:
        """Of the endpoint without our side of the path, in 64 bits; never 0."""
        digest = blake2s(self.packed() + self.scope.to_bytes(4, "big"), digest_size=8).digest()
        return int.from_bytes(digest, "little") or 1

    def __str__(self) -> str:
        host = f"[{self.host}{f'%{self.scope}' if self.scope else ''}]" if self.is_ipv6 else self.host
        return f"{host}:{self.port}"
