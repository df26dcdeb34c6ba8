"""The table of what clients notice: every row is there, or there is no table."""

from __future__ import annotations

import json

import pytest
from bench import continuity, kills, scene
from bench.continuity import CASES, Row
from bench.events import Event

from tests.lab.probes import Log


def rows() -> list[Row]:
    return [
        Row(case, (0.012, 0.010, 0.5), (0, 1, 3) if case.kind.probed else (), 2, "resumed") for case in CASES
    ]


def test_there_is_a_row_for_every_event_and_client() -> None:
    columns, lines = continuity.table(rows())
    assert len(lines) == 10 * 2 * 4 * 2
    assert {len(line) for line in lines} == {len(columns)}
    assert lines[0][4:] == ["3", "12 ms", "500 ms", "1, 3", "2", "resumed"]


def test_the_summary_has_a_line_for_every_event() -> None:
    columns, lines = continuity.summary(rows())
    assert [line[0] for line in lines] == [event.value for event in Event]
    assert lines[0][1:] == ["3", "12 ms", "12 ms", "500 ms", "2", "resumed"]
    assert len(columns) == len(lines[0])


def test_figures_survive_their_file() -> None:
    data = json.loads(json.dumps(continuity.to_json(rows(), 10, 800.0)))
    assert continuity.table(continuity.from_json(data)) == continuity.table(rows())


def test_a_missing_row_is_an_error() -> None:
    data = continuity.to_json(rows()[1:], 10, 800.0)
    with pytest.raises(KeyError):
        continuity.from_json(data)


def test_lost_are_probes_that_left_and_never_came() -> None:
    log = Log(sent=[1.0, 1.1, 1.2, 1.3], arrived=[1.05, 1.35], latency=[0.05, 0.05])
    assert scene.lost_between(log, 0.9, 1.4) == 2
    assert scene.lost_between(log, 1.25, 1.4) == 0
    assert scene.lost_between(log, 0.9, 1.05) == 0


def test_the_share_of_kills_that_lost_anything() -> None:
    _, lines = kills.table(kills.to_json([0, 0, 0, 1]))
    assert lines == [["4", "100", "1 (25.0%)", "1"]]


@pytest.mark.parametrize("fault", ["repeated_counters", "twice_at_server", "twice_at_client", "unseen"])
def test_a_soak_with_a_fault_is_not_clean(fault: str) -> None:
    good = kills.Soak(kills=1, asked=10, answered=9)
    assert good.clean
    setattr(good, fault, 1)
    assert not good.clean
