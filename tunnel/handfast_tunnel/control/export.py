"""What a draining pod hands to its successor, authenticated (RECOVERY, section 7).

The operator carries it unread. Only pods that hold the tunnel's private key can make or open one:

    K = BLAKE2s(tunnel UID; key = private key, person = "handover")
    mac = BLAKE2s(body; key = K)

The body names both pods, term, generation and when it was made, so that it fits one handover only. This
version carries no keys; a later one adds them sealed, in fields of their own.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import blake2s
from hmac import compare_digest
from typing import Any, Final

from .configuration import GENERATION_LIMIT, read_endpoint
from .errors import CONFLICT, DocumentError, Refused
from .fields import Fields, line, pack, parse_json, read_lines
from .roles import EXPORT_AGE_LIMIT

KIND: Final = "export"
_SESSIONS: Final = 4
_INDEX_LIMIT: Final = 2**32 - 1
_COUNTER_LIMIT: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class ExportedSession:
    """A session whose keys stay behind: what its index stands for."""

    index: int
    born: float
    """Unix seconds."""
    highest_received: int
    """-1 for none."""


@dataclass(frozen=True, slots=True)
class ExportedPeer:
    public_key: str
    endpoint: str | None
    inbound_stamp: str | None
    outbound_stamp: str | None
    last_received: float | None
    sessions: tuple[ExportedSession, ...]

    @classmethod
    def read(cls, value: object, where: str) -> ExportedPeer:
        fields = Fields(value, where)
        peer = cls(
            fields.key("publicKey"),
            read_endpoint(fields),
            fields.stamp("inboundStamp"),
            fields.stamp("outboundStamp"),
            fields.seconds("lastReceived"),
            _sessions(fields),
        )
        fields.end()
        return peer

    def to_json(self) -> dict[str, Any]:
        sessions = [[each.index, each.born, each.highest_received] for each in self.sessions]
        return {
            "publicKey": self.public_key,
            "endpoint": self.endpoint,
            "inboundStamp": self.inbound_stamp,
            "outboundStamp": self.outbound_stamp,
            "lastReceived": self.last_received,
            "sessions": sessions,
        }


def _sessions(fields: Fields) -> tuple[ExportedSession, ...]:
    value = fields.take("sessions", [])
    if not isinstance(value, list) or len(value) > _SESSIONS or not all(map(_is_session, value)):
        raise fields.wrong("sessions", f"they are not at most {_SESSIONS} of index, birth, counter")
    return tuple([ExportedSession(*each) for each in value])


def _is_session(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 3:
        return False
    index, born, highest = value
    numbers = type(index) is int and type(highest) is int and type(born) in {int, float}
    return numbers and 0 <= index <= _INDEX_LIMIT and -1 <= highest <= _COUNTER_LIMIT and 0 <= born < 2**40


@dataclass(frozen=True, slots=True)
class Handover:
    """From which pod to which, when: what an export is good for."""

    source: str
    successor: str
    """Pod UIDs."""
    term: int
    generation: int
    created: float
    """Unix seconds, of the source's clock."""
    peers: tuple[ExportedPeer, ...] = ()
    outbound_ceiling: str | None = None
    """No pod before the source sent a higher stamp to peers that are not listed."""


@dataclass(frozen=True, slots=True)
class Export:
    """A sealed handover, as it travels."""

    body: bytes
    mac: bytes

    @classmethod
    def seal(cls, handover: Handover, private_key: bytes, tunnel_uid: str) -> Export:
        body = pack(_lines(handover))
        return cls(body, _mac(body, private_key, tunnel_uid))

    def open(self, private_key: bytes, tunnel_uid: str) -> Handover:
        """Raises Refused; nothing of the body is read before it is authenticated."""
        if not compare_digest(self.mac, _mac(self.body, private_key, tunnel_uid)):
            why = "it was not made by a pod of this tunnel, or was changed on its way"
            raise Refused(CONFLICT, "export", why, remedy="activate without an export")
        return _parse(self.body)

    @classmethod
    def from_json(cls, value: object, where: str = "export") -> Export:
        fields = Fields(value, where)
        export = cls(_bytes(fields, "body"), _bytes(fields, "mac"))
        fields.end()
        return export

    def to_json(self) -> dict[str, str]:
        return {"body": b64encode(self.body).decode(), "mac": b64encode(self.mac).decode()}


def check(handover: Handover, *, pod_uid: str, term: int, wall: float) -> None:
    """Whether the handover is one to this pod, at this term, and fresh; raises Refused. (That it comes once
    follows from its term: an accepted one is never new again.)"""
    reasons = [
        (handover.successor != pod_uid, "it is for another pod"),
        (handover.source == pod_uid, "it is this pod's own"),
        (handover.term != term, f"it is of term {handover.term}"),
        (abs(wall - handover.created) >= EXPORT_AGE_LIMIT, f"it is not younger than {EXPORT_AGE_LIMIT:g} s"),
    ]
    for wrong, why in reasons:
        if wrong:
            raise Refused(CONFLICT, "export", why, remedy="drain again, or activate without an export")


def _mac(body: bytes, private_key: bytes, tunnel_uid: str) -> bytes:
    key = blake2s(tunnel_uid.encode(), key=private_key, person=b"handover").digest()
    return blake2s(body, key=key).digest()


def _lines(handover: Handover) -> Iterable[str]:
    yield line(
        {
            "kind": KIND,
            "version": 1,
            "source": handover.source,
            "successor": handover.successor,
            "term": handover.term,
            "generation": handover.generation,
            "created": handover.created,
            "outboundCeiling": handover.outbound_ceiling,
        }
    )
    for peer in handover.peers:
        yield line(peer.to_json())


def _parse(body: bytes) -> Handover:
    head, lines = read_lines(body, KIND)
    created = head.seconds("created")
    handover = Handover(
        head.text("source"),
        head.text("successor"),
        head.number("term", 0, GENERATION_LIMIT),
        head.number("generation", 0, GENERATION_LIMIT),
        0.0 if created is None else created,
        outbound_ceiling=head.stamp("outboundCeiling"),
    )
    head.end()
    peers = tuple([ExportedPeer.read(parse_json(text, f"line {n}"), f"line {n}") for n, text in lines])
    return replace(handover, peers=peers)


def _bytes(fields: Fields, name: str) -> bytes:
    value = fields.take(name)
    try:
        if type(value) is str:
            return b64decode(value, validate=True)
    except ValueError:
        pass
    raise DocumentError(f"{name} of {fields.where}", "it is not base64")
