"""What a sidecar says of itself: `GET /v1/status`. No secret is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, Self

from .errors import DocumentError
from .roles import Role

Listed = Literal["all", "heard", "none"]
"""Of the peers, which a status lists. `heard`: those that the pod knows anything of, besides how they are
configured. Of ten thousand that may be a handful."""

_WORDS: Final = {"uid": "UID", "ips": "IPs"}


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join([_WORDS.get(word, word.capitalize()) for word in rest])


class _Plain:
    """A dataclass that is a JSON object with the names of its fields in camelCase."""

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        return {json: _to_json(getattr(self, name)) for name, json in _names(type(self))}

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Passes over what it does not know: an older operator reads a newer sidecar."""
        if not isinstance(value, Mapping):
            raise DocumentError("status", "it is not a JSON object")
        try:
            return cls(**{name: cls._read(name, value[json]) for name, json in _names(cls) if json in value})
        except (TypeError, ValueError) as error:
            raise DocumentError("status", str(error)) from None

    @classmethod
    def _read(cls, _name: str, value: Any, /) -> Any:
        return value


_known: Final[dict[type, list[tuple[str, str]]]] = {}


def _names(kind: type[Any]) -> list[tuple[str, str]]:
    """Of the fields, in Python and in JSON."""
    if kind not in _known:
        _known[kind] = [(field.name, _camel(field.name)) for field in fields(kind)]
    return _known[kind]


def _to_json(value: object) -> Any:
    if isinstance(value, _Plain):
        return value.to_json()
    return [_to_json(each) for each in value] if isinstance(value, tuple) else value


@dataclass(frozen=True, slots=True)
class FamilyStatus(_Plain):
    """Whether packets of one address family are forwarded."""

    ready: bool = False
    reason: str = ""
    """Why not, in one word."""


@dataclass(frozen=True, slots=True)
class ForwardingStatus(_Plain):
    ipv4: FamilyStatus = FamilyStatus()
    ipv6: FamilyStatus = FamilyStatus()

    @classmethod
    def _read(cls, _name: str, value: Any, /) -> Any:
        return FamilyStatus.from_json(value)


@dataclass(frozen=True, slots=True)
class RecoveryProgress(_Plain):
    """How many peers of a recovery are still being greeted, left to come by themselves, or back."""

    pending: int = 0
    waiting: int = 0
    recovered: int = 0


@dataclass(frozen=True, slots=True)
class PeerStatus(_Plain):
    public_key: str
    name: str = ""
    endpoint: str | None = None
    last_handshake: float | None = None
    """Unix seconds, like all times here."""
    last_received: float | None = None
    inbound_stamp: str | None = None
    connected: bool = False
    """A session younger than 180 s."""
    method: str | None = None
    """By which rung of the ladder it came back after the last interruption,"""
    latency: float | None = None
    """and how long after its first packet for a lost session, or the first initiation to it."""
    received_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class DrainingStatus(_Plain):
    seconds_left: float
    successor_uid: str = ""


@dataclass(frozen=True, slots=True)
class Status(_Plain):
    role: Role
    term: int
    heard: int
    """The highest term that the pod was ever told."""
    generation: int
    incarnation: int
    offering: bool
    draining: DrainingStatus | None
    pod_uid: str
    uid: str
    """Of the tunnel."""
    public_key: str
    interface: str
    listen_port: int
    mtu: int
    forwarding: ForwardingStatus
    recovery: RecoveryProgress
    connected: int
    """How many peers are."""
    max_received_age: float | None
    """Seconds since any peer was last heard; None for never."""
    control_age: float | None
    """Seconds since the last call before this one that came with the operator's certificate."""
    outbound_stamp: str | None
    """The highest stamp of an initiation of this pod's, base64 of TAI64N."""
    known_sessions: int = 0
    """Of other pods, or lost: their keys are not here, but a packet on one is answered with a handshake."""
    peers: tuple[PeerStatus, ...] | None = None
    """None where they were not asked for."""

    @classmethod
    def _read(cls, name: str, value: Any, /) -> Any:
        match name:
            case "role":
                return Role(value)
            case "draining":
                return None if value is None else DrainingStatus.from_json(value)
            case "forwarding":
                return ForwardingStatus.from_json(value)
            case "recovery":
                return RecoveryProgress.from_json(value)
            case "peers":
                return None if value is None else tuple(map(PeerStatus.from_json, value))
        return value
