"""What clients notice of a killed tunnel: every kind of client, behind NAT or not, through every event.

A client that sends asks an echo server 1,000 times a second; one that receives gets as many packets. A
quiet client is left alone for a second after the event, longer than its keepalive takes, and then asked:
its figure is what the first packet afterwards waits for an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, product
from statistics import median
from typing import Any, Final

from .commands import compile_tunnel
from .events import Event
from .results import TITLES, Kind
from .scene import ALL_CLIENTS, CLIENTS, Client, Scene


@dataclass(frozen=True, slots=True, order=True)
class Case:
    event: Event
    program: str
    kind: Kind
    nat: bool


CASES: Final = tuple(Case(*case) for case in product(Event, CLIENTS, Kind, (False, True)))


@dataclass(frozen=True, slots=True)
class Row:
    """One client through all events of one kind."""

    case: Case
    outages: tuple[float, ...]
    """Seconds."""
    lost: tuple[int, ...]
    """Packets, each time; of probed clients."""
    handshakes: int
    """Initiations that passed on its cable, either way, in all."""
    method: str


def run(
    rounds: int, peers: int, say: Callable[[str], None], events: Sequence[Event] = tuple(Event)
) -> tuple[list[Row], float | None]:
    """All rows of these events, and the median of the bulk traffic in Mbit/s."""
    compile_tunnel()
    rows: list[Row] = []
    bulk: list[float] = []
    for event, nat in product(events, (False, True)):
        with Scene(event, nat=nat, peers=peers) as scene:
            scene.settle()
            found = [scene.once() for _ in range(event.rounds(rounds))]
            rows += [_row(scene, event, client, found, nat=nat) for client in ALL_CLIENTS]
            bulk += scene.bulk_rates()
        for row in rows[-len(ALL_CLIENTS) :]:
            say("  " + ", ".join(_cells(row)))
    return rows, median(bulk) if bulk else None


def _row(
    scene: Scene, event: Event, client: Client, found: list[dict[Client, tuple[float, int]]], *, nat: bool
) -> Row:
    return Row(
        Case(event, client.program, client.kind, nat),
        tuple(once[client][0] for once in found),
        tuple(once[client][1] for once in found) if client.kind.probed else (),
        scene.handshakes(client),
        scene.method(client),
    )


def to_json(rows: Sequence[Row], peers: int, bulk: float | None) -> dict[str, Any]:
    return {
        "peers": peers,
        "bulk_mbit_per_second": bulk,
        "rows": [{**asdict(row), "case": asdict(row.case)} for row in rows],
    }


def from_json(data: dict[str, Any]) -> list[Row]:
    """Every row of CASES in its order; KeyError where one was not measured."""
    rows = {}
    for entry in data["rows"]:
        found = entry["case"]
        case = Case(Event(found["event"]), found["program"], Kind(found["kind"]), found["nat"])
        rows[case] = replace(Row(**{**entry, "case": case}), outages=tuple(entry["outages"]))
    return [rows[case] for case in CASES]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _cells(row: Row) -> list[str]:
    lost = f"{median(row.lost):g}, {max(row.lost)}" if row.lost else "-"
    return [
        row.case.event.value,
        TITLES[row.case.program],
        row.case.kind.value,
        "yes" if row.case.nat else "no",
        str(len(row.outages)),
        _milliseconds(median(row.outages)),
        _milliseconds(max(row.outages)),
        lost,
        str(row.handshakes),
        row.method,
    ]


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    columns = ["event", "client", "which is", "NAT", "n", "median", "max", "packets lost: median, max"]
    columns += ["handshakes in all", "method"]
    return columns, [_cells(row) for row in rows]


def summary(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """A line an event: of all its rows the extremes."""
    columns = ["event", "events", "medians of busy clients", "of quiet ones", "longest of all"]
    columns += ["handshakes of one client", "methods"]
    return columns, [_extremes(event, list(group)) for event, group in groupby(rows, lambda r: r.case.event)]


def _extremes(event: Event, rows: list[Row]) -> list[str]:
    def span(figures: list[float]) -> str:
        low, high = f"{min(figures) * 1000:,.0f}", f"{max(figures) * 1000:,.0f}"
        return f"{low} ms" if low == high else f"{low} to {high} ms"

    probed = [median(row.outages) for row in rows if row.case.kind.probed]
    quiet = [median(row.outages) for row in rows if not row.case.kind.probed]
    counts = [row.handshakes for row in rows]
    return [
        event.value,
        str(len(rows[0].outages)),
        span(probed),
        span(quiet),
        _milliseconds(max(max(row.outages) for row in rows)),
        str(max(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}",
        ", ".join(sorted({row.method for row in rows})),
    ]
