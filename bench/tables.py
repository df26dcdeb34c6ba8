"""Tables for a terminal and for Markdown, from the same rows."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from .results import CASES, Case, RestartResults, Row

HEADINGS = ("client", "NAT")
NOT_RECOVERED = "not recovered"


def seconds(value: float, limit: float) -> str:
    """Three digits at most; what lies beyond the observation says so."""
    if math.isinf(value):
        return f"> {limit:.0f} s"
    if round(value, 2) < 1:
        return f"{value:.2f} s"
    return f"{value:.1f} s" if round(value, 1) < 100 else f"{value:.0f} s"


def cells(row: Row, limit: float) -> tuple[str, str, str]:
    """n, median and maximum. `not recovered` says that none of the clients came back."""
    count = str(len(row.outages))
    if not row.recovered:
        return count, NOT_RECOVERED, f"> {limit:.0f} s"
    maximum = seconds(row.maximum, limit) + (f" ({row.relapses} relapsed)" if row.relapses else "")
    return count, seconds(row.median, limit), maximum


def restart_lines(
    results: RestartResults, cases: Sequence[Case] = CASES
) -> list[tuple[str, list[list[str]]]]:
    """The body of the restart table: per scenario its lines, each client beside every server."""
    rows = results.rows(cases)
    return [
        (
            scenario,
            [
                [case.kind.value, "yes" if case.nat else "no"]
                + [cell for server in results.servers for cell in cells(rows[server, case], results.limit)]
                for case in group
            ],
        )
        for scenario, group in groupby(cases, lambda case: case.scenario)
    ]


def restart_text(results: RestartResults, cases: Sequence[Case] = CASES) -> str:
    """The table as the demo prints it."""
    body = restart_lines(results, cases)
    columns = [*HEADINGS, *("n", "median", "max") * len(results.servers)]
    grid = [columns, *(line for _, lines in body for line in lines)]
    widths = [max(len(line[i]) for line in grid) for i in range(len(columns))]

    def render(line: list[str]) -> str:
        return "  ".join(
            cell.ljust(width) if i < len(HEADINGS) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )

    offset = sum(widths[: len(HEADINGS)]) + 2 * len(HEADINGS)
    titles = " " * offset + "  ".join(
        server.center(sum(widths[start : start + 3]) + 4)
        for server, start in zip(results.servers, range(len(HEADINGS), len(columns), 3), strict=True)
    )
    text = [titles.rstrip(), render(columns)]
    for scenario, lines in body:
        text += ["", f"{scenario}:", *map(render, lines)]
    return "\n".join(text)


def markdown(columns: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table whose first `left` columns are text, the others figures."""
    rule = [":--" if i < left else "--:" for i in range(len(columns))]
    return "\n".join("| " + " | ".join(line) + " |" for line in (columns, rule, *lines))


def restart_markdown(results: RestartResults, cases: Sequence[Case] = CASES) -> str:
    rows = results.rows(cases)
    columns = ["after the restart", *HEADINGS, "n", *(f"{server}: median, max" for server in results.servers)]
    lines = []
    for case in cases:
        found = [cells(rows[server, case], results.limit) for server in results.servers]
        counts = "/".join(dict.fromkeys(count for count, _, _ in found))
        times = [
            middle if middle == NOT_RECOVERED else f"{middle}, {maximum}" for _, middle, maximum in found
        ]
        lines.append([case.scenario, case.kind.value, "yes" if case.nat else "no", counts, *times])
    return markdown(columns, lines, left=3)


def replace_section(document: Path, name: str, text: str) -> None:
    """Put `text` between `<!-- name -->` and `<!-- /name -->` of a document."""
    old = document.read_text()
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    new, found = pattern.subn(lambda match: f"{match[1]}{text}\n{match[2]}", old)
    if found != 1:
        raise ValueError(f"{document} has {found} sections named {name}, not one")
    document.write_text(new)
