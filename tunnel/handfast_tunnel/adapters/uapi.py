"""The cross-platform configuration protocol of WireGuard's userspace implementations, as text.

https://www.wireguard.com/xplatform/ defines it; where that page is silent wireguard-go's
device/uapi.go decides. This project adds one key: `drain=true|false`. A `set` is parsed whole before
anything changes, so unlike there one bad value refuses all of it.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from ..core.configuration import InterfaceChange, PeerChange, Prefix
from ..errors import ConfigurationError
from .text import format_key, format_prefix, parse_endpoint, parse_hex_key, parse_number, parse_prefix

if TYPE_CHECKING:
    from ..core.device import Device
    from ..core.peer import Peer

PEERS_A_PIECE: Final = 32
"""How many peers one piece of a `get` holds: well below a millisecond of formatting."""
LINE_LIMIT: Final = 64 * 1024
_KEY_NAME: Final = re.compile("[a-z_]{1,32}")
"""What may stand in a log; anything else could be a secret in the wrong place."""
SET_LIMIT: Final = 64 * 1024 * 1024
"""No honest configuration is longer; it bounds what one client can make the process hold."""


class SetParser:
    """Turns one `set` into an `InterfaceChange`, fed piece by piece, so that packets run in between.

    After an error the rest is read and thrown away: the client is still sending, and what follows the
    blank line is its next operation.
    """

    def __init__(self) -> None:
        self.finished = False
        self.remainder = b""
        """What came after the blank line that ended the set."""
        self._size = 0
        self._partial = b""
        self._error: ConfigurationError | None = None
        self._interface: dict[str, Any] = {}
        self._peers: list[PeerChange] = []
        self._peer: _PeerDraft | None = None

    def feed(self, data: bytes) -> None:
        lines = (self._partial + data).split(b"\n")
        self._partial = lines.pop()
        self._size += len(data)
        for number, line in enumerate(lines, 1):
            if not line:
                self.remainder = b"\n".join([*lines[number:], self._partial])
                self.finished = True
                return
            if self._error is None:
                self._parse_line(line.decode("ascii", "backslashreplace"))
        if len(self._partial) > LINE_LIMIT:
            self._partial = b"?"
            self._refuse(f"a line is longer than {LINE_LIMIT} bytes", errno.EIO)
        if self._size > SET_LIMIT:
            self._refuse(f"the set is longer than {SET_LIMIT} bytes", errno.E2BIG)

    def result(self) -> InterfaceChange:
        """The whole set; raises ConfigurationError for its first mistake."""
        if self._error is not None:
            raise self._error
        self._end_peer()
        return InterfaceChange(**self._interface, peers=tuple(self._peers))

    def _parse_line(self, line: str) -> None:
        key, equals, value = line.partition("=")
        try:
            if not equals:
                self._refuse(f"a line of {self._section()} is not key=value", errno.EPROTO)
            elif key == "public_key":
                self._end_peer()
                self._peer = _PeerDraft(parse_hex_key(value))
            elif self._peer is None:
                field, parse = _INTERFACE_KEYS[key]
                self._interface[field] = parse(value)
            else:
                _PEER_KEYS[key](self._peer, value)
        except KeyError:
            name = repr(key) if _KEY_NAME.fullmatch(key) else "as in this line"
            self._refuse(f"{self._section()} has no key {name}")
        except ValueError as reason:
            self._refuse(f"{key} of {self._section()}: {reason}")

    def _section(self) -> str:
        return "the interface" if self._peer is None else f"peer {format_key(self._peer.public_key)}"

    def _end_peer(self) -> None:
        if self._peer is not None:
            self._peers.append(self._peer.freeze())
            self._peer = None

    def _refuse(self, message: str, code: int = errno.EINVAL) -> None:
        if self._error is None:
            self._error = ConfigurationError(f"configuration refused, nothing changed: {message}", code)
            self._peers.clear()


class _PeerDraft:
    """A peer's section while its lines come in; lines act in their order, as in wireguard-go."""

    __slots__ = ("fields", "prefixes", "public_key", "replace_allowed_ips")

    def __init__(self, public_key: bytes) -> None:
        self.public_key = public_key
        self.fields: dict[str, Any] = {}
        self.replace_allowed_ips = False
        self.prefixes: dict[Prefix, bool] = {}
        """True: to add, False: to remove."""

    def set_allowed_ip(self, value: str) -> None:
        self.prefixes[parse_prefix(value.removeprefix("-"))] = not value.startswith("-")

    def set_replace_allowed_ips(self, value: str) -> None:
        self.replace_allowed_ips = _parse_true(value)
        self.prefixes.clear()

    def freeze(self) -> PeerChange:
        return PeerChange(
            self.public_key,
            **self.fields,
            replace_allowed_ips=self.replace_allowed_ips,
            allowed_ips=tuple([prefix for prefix, add in self.prefixes.items() if add]),
            removed_allowed_ips=tuple([prefix for prefix, add in self.prefixes.items() if not add]),
        )


def _parse_true(value: str) -> bool:
    if value != "true":
        msg = f"{value!r} is not 'true'"
        raise ValueError(msg)
    return True


def _parse_boolean(value: str) -> bool:
    if value not in {"true", "false"}:
        msg = f"{value!r} is neither 'true' nor 'false'"
        raise ValueError(msg)
    return value == "true"


def _parse_version(value: str) -> None:
    if value != "1":
        msg = f"{value!r} is not a known version; this is version 1"
        raise ValueError(msg)


_INTERFACE_KEYS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "private_key": ("private_key", parse_hex_key),
    "listen_port": ("listen_port", lambda value: parse_number(value, 2**16 - 1)),
    "fwmark": ("fwmark", lambda value: parse_number(value, 2**32 - 1)),
    "replace_peers": ("replace_peers", _parse_true),
    "drain": ("drain", _parse_boolean),
}


def _field(name: str, parse: Callable[[str], object]) -> Callable[[_PeerDraft, str], None]:
    def store(draft: _PeerDraft, value: str) -> None:
        draft.fields[name] = parse(value)

    return store


_PEER_KEYS: Final[dict[str, Callable[[_PeerDraft, str], None]]] = {
    "remove": _field("remove", _parse_true),
    "update_only": _field("update_only", _parse_true),
    "preshared_key": _field("preshared_key", parse_hex_key),
    "endpoint": _field("endpoint", parse_endpoint),
    "persistent_keepalive_interval": _field(
        "persistent_keepalive", lambda value: parse_number(value, 2**16 - 1)
    ),
    "replace_allowed_ips": _PeerDraft.set_replace_allowed_ips,
    "allowed_ip": _PeerDraft.set_allowed_ip,
    "protocol_version": lambda _, value: _parse_version(value),
}


def format_get(device: Device) -> Iterator[str]:
    """The answer to a `get`, in pieces that each take less than a millisecond."""
    yield _format_interface(device)
    peers = list(device.peers.values())
    for start in range(0, len(peers), PEERS_A_PIECE):
        yield "".join([_format_peer(peer) for peer in peers[start : start + PEERS_A_PIECE]])


def format_status(code: int) -> str:
    """What ends an answer. `code` is a positive errno or 0; like wireguard-go's it goes out negated."""
    return f"errno={-code}\n\n"


def _format_interface(device: Device) -> str:
    lines = []
    if device.private_key is not None:
        lines.append(f"private_key={device.private_key.hex()}\n")
    if device.listen_port:
        lines.append(f"listen_port={device.listen_port}\n")
    if device.fwmark:
        lines.append(f"fwmark={device.fwmark}\n")
    return "".join(lines)


def _format_peer(peer: Peer) -> str:
    """The order of the lines is wireguard-go's."""
    endpoint = "" if peer.endpoint is None else f"endpoint={peer.endpoint}\n"
    seconds, nanoseconds = divmod(peer.last_handshake_wall, 10**9)
    allowed_ips = "".join([f"allowed_ip={format_prefix(prefix)}\n" for prefix in peer.allowed_ips])
    return (
        f"public_key={peer.public_key.hex()}\npreshared_key={peer.preshared_key.hex()}\n"
        f"protocol_version=1\n{endpoint}"
        f"last_handshake_time_sec={seconds}\n"
        f"last_handshake_time_nsec={nanoseconds}\n"
        f"tx_bytes={peer.sent_bytes}\n"
        f"rx_bytes={peer.received_bytes}\n"
        f"persistent_keepalive_interval={peer.persistent_keepalive}\n{allowed_ips}"
    )
