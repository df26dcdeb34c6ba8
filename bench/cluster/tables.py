"""Tables of the outages: a line an event, and a row for every client kind, exposure and event."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from statistics import median

from bench.results import Kind
from bench.tables import NOT_RECOVERED, markdown, seconds

from .results import CASES, GATEWAYS, Case, Event, Results, Row


def _figures(row: Row | None, limit: float) -> list[str]:
    """n, median, max and method."""
    if row is None:
        return ["", "", "", ""]
    count = str(len(row.outages))
    after = "" if row.next_packet is None else f"; its next packet: {seconds(row.next_packet, limit)}"
    if math.isinf(row.outages[0].seconds):
        return [count, NOT_RECOVERED, f"> {limit:.0f} s", f"-{after}"]
    return [count, seconds(row.median, limit), seconds(row.maximum, limit), f"{row.method}{after}"]


def full(results: Results, cases: Sequence[Case] = CASES) -> tuple[list[str], list[list[str]]]:
    """Columns and lines; each client of a plain Deployment beside Handfast's."""
    rows = results.rows(cases)
    columns = ["event", "by", "client"]
    columns += [f"{gateway}: {what}" for gateway in GATEWAYS for what in ("n", "median", "max", "method")]
    lines = []
    for (event, exposure, kind), group in groupby(cases, lambda c: (c.event, c.exposure, c.kind)):
        of = {case.gateway: rows[case] for case in group}
        figures = [cell for gateway in GATEWAYS for cell in _figures(of.get(gateway), results.limit)]
        lines.append([event.value, exposure.value, kind.value, *figures])
    return columns, lines


def summary(results: Results, cases: Sequence[Case] = CASES) -> tuple[list[str], list[list[str]]]:
    """A line an event: the median of all clients of a kind, whatever their exposure."""
    rows = results.rows(cases)
    events = list(dict.fromkeys(case.event for case in cases))
    columns = ["event", *(f"{kind}: {gateway}" for kind in Kind for gateway in GATEWAYS)]

    def middle(event: Event, kind: Kind, gateway: str) -> str:
        found = [
            outage.seconds
            for case, row in rows.items()
            if (case.event, case.kind, case.gateway) == (event, kind, gateway)
            for outage in row.outages
        ]
        if not found:
            return ""
        if math.isinf(min(found)):
            return NOT_RECOVERED
        return seconds(median(found), results.limit)

    lines = [[e.value, *(middle(e, kind, gateway) for kind in Kind for gateway in GATEWAYS)] for e in events]
    return columns, lines


def text(results: Results) -> str:
    """The summary of what there is, for a terminal."""
    return _grid(*summary(results, results.measured()))


def by_kind(results: Results) -> str:
    """Of one event and exposure, for a terminal: a line for each kind of client at each gateway."""
    rows = results.rows(results.measured())
    lines = [[c.kind.value, c.gateway, *_figures(row, results.limit)] for c, row in rows.items()]
    return _grid(["client", "gateway", "n", "median", "max", "method"], lines)


def _grid(columns: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in [columns, *lines]) for i in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [columns, *lines]
    )


def document(results: Results) -> str:
    """The picture and both tables, in Markdown."""
    picture = "![how long clients outside of a cluster stay dark](images/cluster.png)"
    return f"{picture}\n\n{markdown(*summary(results))}\n\n{markdown(*full(results), left=3)}"
