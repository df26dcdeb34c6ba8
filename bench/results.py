"""What a restart cost each client: cases, one measurement, one row of the table, and the JSON of all.

A table is only made of complete results: a case without its clients is an error, never a gap.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import product
from statistics import median
from typing import Any, Final

TITLES: Final = {
    "wireguard-go": "wireguard-go (Debian)",
    "wireguard-go-modern": "wireguard-go (modern)",
    "handfast": "Handfast",
    "handfast-native": "Handfast, native",
    "handfast-forgetful": "Handfast, nothing kept",
}


class Kind(StrEnum):
    """What a client does around the restart."""

    SENDING = "sending"
    """A 20 Hz probe that the server's side answers."""
    RECEIVING = "receiving"
    """The server's side sends it 20 packets a second; it answers nothing."""
    KEEPALIVES = "only keepalives"
    """`PersistentKeepalive = 25`, no data."""
    IDLE = "idle"
    """No data and no keepalives."""

    @property
    def probed(self) -> bool:
        return self in {Kind.SENDING, Kind.RECEIVING}


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """One kind of client, where it is, and what the restarted server knows and meets."""

    first_lost: bool
    """The first handshake initiation after the kill is lost, whichever side sends it."""
    endpoint: bool
    """The restarted server has an endpoint for this peer."""
    kind: Kind
    nat: bool

    @property
    def scenario(self) -> str:
        if self.first_lost:
            return "endpoint known, first initiation lost"
        return "endpoint known" if self.endpoint else "endpoint not known"


CASES: tuple[Case, ...] = tuple(
    Case(lost, endpoint, kind, nat)
    for (lost, endpoint), kind, nat in product(
        ((False, True), (True, True), (False, False)), Kind, (False, True)
    )
)
"""Every row of the table, in its order. A loss changes nothing where no endpoint is known."""


@dataclass(frozen=True, slots=True)
class Outage:
    """One client in one restart. `seconds` is infinite when it was not back within the limit."""

    server: str
    case: Case
    seconds: float
    relapse: float = 0.0
    """The longest silence after the first answer, where it is longer than RELAPSE."""


@dataclass(frozen=True, slots=True)
class Row:
    """All clients of one case at one server, the fastest first."""

    server: str
    case: Case
    outages: tuple[Outage, ...]

    @property
    def median(self) -> float:
        return median(outage.seconds for outage in self.outages)

    @property
    def maximum(self) -> float:
        return self.outages[-1].seconds

    @property
    def recovered(self) -> int:
        return sum(math.isfinite(outage.seconds) for outage in self.outages)

    @property
    def relapses(self) -> int:
        return sum(outage.relapse > 0 for outage in self.outages)

    def to_json(self) -> dict[str, Any]:
        return {
            "server": self.server,
            **asdict(self.case),
            "n": len(self.outages),
            "median_seconds": _finite_or_none(self.median),
            "max_seconds": _finite_or_none(self.maximum),
            "recovered": self.recovered,
            "seconds": [_finite_or_none(outage.seconds) for outage in self.outages],
            "relapses": [outage.relapse for outage in self.outages],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Row:
        case = Case(data["first_lost"], data["endpoint"], Kind(data["kind"]), data["nat"])
        pairs = zip(data["seconds"], data["relapses"], strict=True)
        outages = (
            Outage(data["server"], case, math.inf if seconds is None else seconds, relapse)
            for seconds, relapse in pairs
        )
        return cls(data["server"], case, tuple(outages))


@dataclass(frozen=True, slots=True)
class RestartResults:
    """All that one run measured."""

    limit: float
    """How long a client was given to come back, in seconds."""
    servers: tuple[str, ...]
    """The server implementations compared, the baseline first."""
    outages: tuple[Outage, ...]

    def rows(self, cases: Sequence[Case] = CASES) -> dict[tuple[str, Case], Row]:
        """A row for every case at every server; KeyError when one was not measured."""
        measured: dict[tuple[str, Case], list[Outage]] = defaultdict(list)
        for outage in self.outages:
            measured[outage.server, outage.case].append(outage)
        wanted = [(server, case) for case in cases for server in self.servers]
        if missing := [key for key in wanted if key not in measured]:
            names = "; ".join(
                f"{server}: {case.kind}, {'NAT' if case.nat else 'no NAT'}, {case.scenario}"
                for server, case in missing
            )
            raise KeyError(f"no measurement for {len(missing)} rows: {names}")
        return {
            key: Row(*key, tuple(sorted(measured[key], key=lambda outage: outage.seconds))) for key in wanted
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "limit_seconds": self.limit,
            "servers": list(self.servers),
            "rows": [row.to_json() for row in self.rows().values()],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RestartResults:
        rows = map(Row.from_json, data["rows"])
        outages = tuple(outage for row in rows for outage in row.outages)
        return cls(data["limit_seconds"], tuple(data["servers"]), outages)


def scenario_median(results: RestartResults, server: str, scenario: str) -> float:
    """Over the clients of all kinds: what a summary quotes."""
    return median(o.seconds for o in results.outages if o.server == server and o.case.scenario == scenario)


def _finite_or_none(seconds: float) -> float | None:
    return round(seconds, 3) if math.isfinite(seconds) else None
