"""The state document: what a new pod may know of peers when nothing hands over to it.

JSON Lines like the configuration; written by the operator from status, read by a sidecar at its start.
Its marks may be old: an inbound stamp is exact or lower, and an endpoint is where a peer once was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from .configuration import GENERATION_LIMIT, read_endpoint
from .errors import DocumentError
from .fields import Fields, line, pack, parse_json, read_lines

KIND: Final = "state"
TERM_LIMIT: Final = GENERATION_LIMIT


@dataclass(frozen=True, slots=True)
class PeerState:
    public_key: str
    endpoint: str | None = None
    inbound_stamp: str | None = None
    last_received: float | None = None
    """Unix seconds."""

    @classmethod
    def read(cls, value: object, where: str = "peer") -> PeerState:
        fields = Fields(value, where)
        peer = cls(
            fields.key("publicKey"),
            read_endpoint(fields),
            fields.stamp("inboundStamp"),
            fields.seconds("lastReceived"),
        )
        fields.end()
        return peer

    def to_json(self) -> dict[str, Any]:
        return {
            "publicKey": self.public_key,
            "endpoint": self.endpoint,
            "inboundStamp": self.inbound_stamp,
            "lastReceived": self.last_received,
        }


@dataclass(frozen=True, slots=True)
class State:
    created: float
    term: int
    outbound_timestamp_ceiling: str | None
    """No pod has sent an initiation with a higher stamp; base64 of TAI64N."""
    peers: Mapping[str, PeerState]

    @classmethod
    def of(
        cls, created: float, term: int, outbound_timestamp_ceiling: str | None, peers: Iterable[PeerState]
    ) -> State:
        by_key = {peer.public_key: peer for peer in sorted(peers, key=lambda p: p.public_key)}
        return cls(created, term, outbound_timestamp_ceiling, by_key)

    @classmethod
    def parse(cls, data: bytes) -> State:
        """Packed or not; raises DocumentError."""
        head, lines = read_lines(data, KIND)
        created = head.seconds("created")
        if created is None:
            raise head.wrong("created", "it is missing")
        term = head.number("term", 0, TERM_LIMIT)
        ceiling = head.stamp("outboundTimestampCeiling")
        head.end()
        peers = [PeerState.read(parse_json(text, f"line {n}"), f"line {n}") for n, text in lines]
        state = cls.of(created, term, ceiling, peers)
        if len(state.peers) != len(peers):
            raise DocumentError(KIND, "a public key comes twice")
        return state

    def dump(self, *, compressed: bool = True) -> bytes:
        head = {
            "kind": KIND,
            "version": 1,
            "created": self.created,
            "term": self.term,
            "outboundTimestampCeiling": self.outbound_timestamp_ceiling,
        }
        lines = [line(head), *(line(peer.to_json()) for peer in self.peers.values())]
        return pack(lines) if compressed else "".join(lines).encode()
