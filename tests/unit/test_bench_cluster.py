"""The outages of a cluster's clients: every row is there, or there is no table."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from bench import report
from bench.cluster import picture, tables
from bench.cluster.results import (
    CASES,
    HANDFAST,
    STOCK,
    Case,
    Event,
    Exposure,
    Outage,
    Results,
)
from bench.results import Kind


def results(**seconds: float) -> Results:
    """Two clients in every case; by default back after 0.1 s and 0.3 s."""
    outages = [
        Outage(case, nat, seconds.get(case.kind.name.lower(), 0.1 + 0.2 * nat), "answered")
        for case in CASES
        for nat in (False, True)
    ]
    return Results(32, tuple(outages))


def without(complete: Results, left_out: Case) -> Results:
    return Results(complete.limit, tuple(o for o in complete.outages if o.case != left_out))


def test_there_is_a_row_for_every_event_exposure_and_kind() -> None:
    columns, lines = tables.full(results())
    assert [line[:3] for line in lines] == [
        [event, exposure, kind] for event in Event for exposure in Exposure for kind in Kind
    ]
    assert {len(line) for line in lines} == {len(columns)}
    assert lines[0][3:7] == ["2", "0.20 s", "0.30 s", "answered"]


def test_what_cannot_befall_a_plain_deployment_is_left_empty() -> None:
    assert {(c.event, c.gateway) for c in CASES} == {(e, g) for e in Event for g in e.gateways}
    _, lines = tables.full(results())
    empty = {line[0] for line in lines if line[3:7] == [""] * 4}
    assert empty == {Event.WORKER, Event.OPERATOR}


@pytest.mark.parametrize("left_out", [CASES[0], CASES[-1]])
def test_a_missing_row_fails(left_out: Case) -> None:
    gap = without(results(), left_out)
    for render in (Results.to_json, tables.document, tables.full, tables.summary):
        with pytest.raises(KeyError, match=re.escape(f"no measurement for 1 rows: {left_out}")):
            render(gap)


def test_who_is_not_back_is_not_recovered() -> None:
    columns, lines = tables.full(results(idle=math.inf))
    idle = [line for line in lines if line[2] == Kind.IDLE]
    median, maximum = columns.index(f"{HANDFAST}: median"), columns.index(f"{HANDFAST}: max")
    assert {(line[median], line[maximum]) for line in idle} == {("not recovered", "> 32 s")}
    columns, lines = tables.summary(results(idle=math.inf))
    assert {line[columns.index(f"{Kind.IDLE}: {HANDFAST}")] for line in lines} == {"not recovered"}


def test_the_next_packet_of_who_was_not_reached_is_told() -> None:
    case = Case(Event.ROLLOUT, STOCK, Exposure.NODE_PORT, Kind.IDLE)
    lost = [Outage(case, nat, math.inf, next_packet=waited) for nat, waited in ((False, 0.4), (True, 0.2))]
    _, lines = tables.full(Results(32, tuple(lost)), [case])
    assert lines[0][3:7] == ["2", "not recovered", "> 32 s", "-; its next packet: 0.30 s"]


def test_figures_survive_their_file() -> None:
    complete = results(idle=math.inf)
    again = Results.from_json(json.loads(json.dumps(complete.to_json())))
    assert again.limit == complete.limit
    assert again.rows().keys() == complete.rows().keys()
    assert tables.document(again) == tables.document(complete)


def test_a_part_is_shown_on_a_terminal() -> None:
    part = Results(32, tuple(o for o in results().outages if o.case.event is Event.DRAIN))
    heading, *lines = tables.text(part).splitlines()
    assert heading.startswith("event")
    assert [line.startswith(Event.DRAIN) for line in lines] == [True]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    picture.draw(results(idle=math.inf), tmp_path / "cluster.png")
    assert (tmp_path / "cluster.png").stat().st_size > 10_000


def test_the_page_is_made_of_the_committed_figures() -> None:
    """With every row, or KeyError; without figures the page shows none."""
    places = report.Places.of(None)
    _, _, section = report.OUTAGES.read_text().partition("<!-- cluster -->\n")
    shown, _, _ = section.partition("<!-- /cluster -->")
    measured = (places.figures / "cluster.json").exists()
    made = tables.document(Results.from_json(places.load("cluster"))) if measured else ""
    assert shown.strip().endswith(made)
    assert measured or not shown.strip()
