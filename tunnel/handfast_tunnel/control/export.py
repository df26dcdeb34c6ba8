"""What a draining pod hands to its successor, authenticated (RECOVERY, section 7).

The body names both pods, term, generation and when it was made, so that it fits one handover only. This
version carries no keys; a later one adds them sealed, in fields of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from .configuration import GENERATION_LIMIT, read_endpoint
from .fields import Fields, line, pack, parse_json, read_lines
from .roles import EXPORT_AGE_LIMIT
from .sealed import Sealed

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


class Export(Sealed):
    """A sealed handover."""

    __slots__ = ()

    what: ClassVar[str] = KIND
    remedy: ClassVar[str] = "activate without an export"

    @classmethod
    def seal(cls, handover: Handover, private_key: bytes, tunnel_uid: str) -> Export:
        return cls.of(pack(_lines(handover)), private_key, tunnel_uid)

    def open(self, private_key: bytes, tunnel_uid: str) -> Handover:
        """Raises Refused."""
        self.check(private_key, tunnel_uid)
        return _parse(self.body)


def check(handover: Handover, *, pod_uid: str, term: int, wall: float) -> None:
    """Whether the handover is one to this pod, at this term, and fresh; raises Refused. (That it comes once
    follows from its term: an accepted one is never new again.)"""
    reasons = [
        (handover.successor != pod_uid, "it is for another pod"),
        (handover.source == pod_uid, "it is this pod's own"),
        (handover.term != term, f"it is of term {handover.term}"),
        (abs(wall - handover.created) >= EXPORT_AGE_LIMIT, f"it is not younger than {EXPORT_AGE_LIMIT:g} s"),
    ]
    Export.refuse_if(reasons, "drain again, or activate without an export")


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
    return replace(handover, peers=read_peers(lines))


def read_peers(lines: Iterable[tuple[int, bytes]]) -> tuple[ExportedPeer, ...]:
    """Of a document's further lines."""
    return tuple([ExportedPeer.read(parse_json(text, f"line {n}"), f"line {n}") for n, text in lines])
