"""What every event cost every client: the cases, the figures, and their JSON.

A table is only made of complete results: a case without its clients is an error, never a gap.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from statistics import median
from typing import Any, Final

from bench.results import TITLES, Kind

HANDFAST: Final = TITLES["handfast"]
STOCK: Final = TITLES["wireguard-go"]
GATEWAYS: Final = (STOCK, HANDFAST)
"""The baseline first."""


class Exposure(StrEnum):
    """How a client reaches its gateway."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Event(StrEnum):
    ROLLOUT = "rollout restart"
    IMAGE = "image changed"
    DELETION = "pod deleted"
    EVICTION = "pod evicted"
    DRAIN = "node drained, operator on it"
    WORKER = "kill -9 of the worker"
    CONTAINER = "kill -9 of the container"
    NODE_PODS = "kill -9 of all pods of the node"
    PARTITION = "node cut off"
    SCALE = "scaled 1, 2, 1"
    OPERATOR = "operator deleted in a handover"
    API_SERVER = "API server restarted"

    @property
    def gateways(self) -> tuple[str, ...]:
        """Those that it may befall: a plain Deployment has neither worker nor operator."""
        return (HANDFAST,) if self in {Event.WORKER, Event.OPERATOR} else GATEWAYS


@dataclass(frozen=True, slots=True, order=True)
class Case:
    event: Event
    gateway: str
    exposure: Exposure
    kind: Kind

    def __str__(self) -> str:
        return f"{self.event}, {self.gateway}, {self.exposure}, {self.kind}"


CASES: Final = tuple(
    Case(event, gateway, exposure, kind)
    for event, exposure, kind in product(Event, Exposure, Kind)
    for gateway in event.gateways
)


@dataclass(frozen=True, slots=True)
class Outage:
    """One client in one event. `seconds` is infinite when it was not back within the limit."""

    case: Case
    nat: bool
    seconds: float
    method: str = ""
    """How it came back; empty when it did not."""
    next_packet: float | None = None
    """Of a quiet client that could not be reached: what its next packet then waited, if it was answered."""


@dataclass(frozen=True, slots=True)
class Row:
    """All clients of one case, the fastest first."""

    case: Case
    outages: tuple[Outage, ...]

    @property
    def median(self) -> float:
        return median(outage.seconds for outage in self.outages)

    @property
    def maximum(self) -> float:
        return self.outages[-1].seconds

    @property
    def method(self) -> str:
        found = Counter(outage.method for outage in self.outages if outage.method)
        return ", ".join(method for method, _ in found.most_common()) or "-"

    @property
    def next_packet(self) -> float | None:
        """The median, where there was none to be reached."""
        waited = [o.next_packet for o in self.outages if o.next_packet is not None]
        return median(waited) if waited else None


@dataclass(frozen=True, slots=True)
class Results:
    limit: float
    """How long a client was watched after the event was over, in seconds."""
    outages: tuple[Outage, ...]

    def rows(self, cases: Sequence[Case] = CASES) -> dict[Case, Row]:
        """A row for every case; KeyError when one was not measured."""
        measured: dict[Case, list[Outage]] = defaultdict(list)
        for outage in self.outages:
            measured[outage.case].append(outage)
        if missing := [case for case in cases if case not in measured]:
            raise KeyError(f"no measurement for {len(missing)} rows: {'; '.join(map(str, missing))}")
        return {case: Row(case, tuple(sorted(measured[case], key=lambda o: o.seconds))) for case in cases}

    def measured(self) -> tuple[Case, ...]:
        """The cases that there are, in the table's order."""
        found = {outage.case for outage in self.outages}
        return tuple(case for case in CASES if case in found)

    def to_json(self) -> dict[str, Any]:
        return {"limit_seconds": self.limit, "rows": [_row_json(row) for row in self.rows().values()]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Results:
        outages = tuple(outage for row in data["rows"] for outage in _outages(row))
        return cls(data["limit_seconds"], outages)


def _row_json(row: Row) -> dict[str, Any]:
    case = row.case
    return {
        "event": case.event,
        "gateway": case.gateway,
        "exposure": case.exposure,
        "kind": case.kind,
        "n": len(row.outages),
        "median_seconds": _finite_or_none(row.median),
        "max_seconds": _finite_or_none(row.maximum),
        "method": row.method,
        "clients": [
            {
                "nat": outage.nat,
                "seconds": _finite_or_none(outage.seconds),
                "method": outage.method,
                "next_packet_seconds": _finite_or_none(outage.next_packet),
            }
            for outage in row.outages
        ],
    }


def _outages(row: dict[str, Any]) -> list[Outage]:
    case = Case(Event(row["event"]), row["gateway"], Exposure(row["exposure"]), Kind(row["kind"]))
    return [
        Outage(
            case,
            client["nat"],
            math.inf if client["seconds"] is None else client["seconds"],
            client["method"],
            client["next_packet_seconds"],
        )
        for client in row["clients"]
    ]


def _finite_or_none(seconds: float | None) -> float | None:
    return None if seconds is None or math.isinf(seconds) else round(seconds, 3)
