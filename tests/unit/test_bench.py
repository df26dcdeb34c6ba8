"""The tables of demo and benchmark: complete or an error, and plain about what did not come back."""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path

import pytest
from bench import changes, many_peers, start
from bench.probes import silence
from bench.results import CASES, Kind, Outage, RestartResults
from bench.tables import markdown, replace_section, restart_markdown, restart_text, seconds

SERVERS = ("wireguard-go (Debian)", "Handfast")


def results(**outages: float) -> RestartResults:
    """One client in every case of both servers; by default each is back after 0.1 s."""
    measured = [
        Outage(server, case, outages.get(case.kind.name.lower(), 0.1)) for server in SERVERS for case in CASES
    ]
    return RestartResults(150, SERVERS, tuple(measured))


def without(complete: RestartResults, server: str, kind: Kind) -> RestartResults:
    kept = [o for o in complete.outages if (o.server, o.case.kind) != (server, kind)]
    return RestartResults(complete.limit, complete.servers, tuple(kept))


def test_there_is_a_case_for_every_kind_of_client() -> None:
    base = {(c.kind, c.nat, c.endpoint) for c in CASES if not c.first_lost}
    lost = {(c.kind, c.nat) for c in CASES if c.first_lost}
    assert len(base) == len(Kind) * 2 * 2
    assert len(lost) == len(Kind) * 2
    assert len(CASES) == len(base) + len(lost)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("render", [restart_text, restart_markdown])
def test_a_missing_row_fails(server: str, kind: Kind, render: object) -> None:
    assert callable(render)
    with pytest.raises(KeyError, match=rf"no measurement for 6 rows.*{kind}"):
        render(without(results(), server, kind))


def test_the_json_needs_every_row_too() -> None:
    with pytest.raises(KeyError):
        without(results(), "Handfast", Kind.IDLE).to_json()


def test_clients_that_never_come_back_are_shown_as_not_recovered() -> None:
    table = restart_text(results(idle=math.inf))
    idle = [line for line in table.splitlines() if line.startswith("idle")]
    assert len(idle) == 6
    assert all(line.count("not recovered") == 2 and line.count("> 150 s") == 2 for line in idle)


def test_a_median_beyond_the_observation_says_so() -> None:
    complete = results()
    case = CASES[0]
    extra = (Outage("Handfast", case, math.inf), Outage("Handfast", case, math.inf))
    row = RestartResults(150, SERVERS, complete.outages + extra).rows()["Handfast", case]
    assert (row.median, row.maximum, row.recovered) == (math.inf, math.inf, 1)
    assert "> 150 s" in restart_text(RestartResults(150, SERVERS, complete.outages + extra))


def test_relapses_are_counted_in_the_table() -> None:
    complete = results()
    relapsed = Outage("Handfast", CASES[0], 0.2, relapse=15.0)
    table = restart_text(RestartResults(150, SERVERS, (*complete.outages, relapsed)))
    assert "0.20 s (1 relapsed)" in table


def test_json_and_back() -> None:
    complete = results(sending=15.234, idle=math.inf)
    again = RestartResults.from_json(json.loads(json.dumps(complete.to_json())))
    assert again.rows() == complete.rows()
    assert (again.limit, again.servers) == (complete.limit, complete.servers)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.053, "0.05 s"),
        (0.996, "1.0 s"),
        (5.14, "5.1 s"),
        (99.96, "100 s"),
        (121.4, "121 s"),
        (math.inf, "> 150 s"),
    ],
)
def test_seconds(value: float, text: str) -> None:
    assert seconds(value, 150) == text


KILLED, END = 10.0, 160.0


def every(step: float, start: float, end: float) -> list[float]:
    return [start + step * i for i in range(round((end - start) / step) + 1)]


@pytest.mark.parametrize(
    ("arrivals", "expected"),
    [
        pytest.param(every(0.05, 0, 9.95) + every(0.05, 25.2, END), (15.25, 0), id="stock"),
        pytest.param(every(0.05, 0, 10.02) + every(0.05, 10.27, END), (0.25, 0), id="in-flight"),
        pytest.param(every(0.05, 0, END), (0.05, 0), id="none"),
        pytest.param(every(0.05, 0, 10), (math.inf, 0), id="never"),
        pytest.param(every(0.05, 0, 10) + every(0.05, 200, 210), (math.inf, 0), id="after-the-limit"),
        pytest.param([*every(0.05, 0, 10), 10.2, 10.25, *every(0.05, 25.25, 160)], (0.2, 15), id="relapse"),
        pytest.param([*every(0.05, 0, 10), 10.2], (0.2, 149.8), id="relapse-for-ever"),
    ],
)
def test_silence(arrivals: list[float], expected: tuple[float, float]) -> None:
    assert silence(array("d", arrivals), KILLED, END - KILLED) == pytest.approx(expected, abs=0.06)


def test_markdown() -> None:
    assert markdown(["a", "b"], [["x", "1"]]) == "| a | b |\n| :-- | --: |\n| x | 1 |"


def test_a_section_of_a_document_is_replaced(tmp_path: Path) -> None:
    document = tmp_path / "page.md"
    document.write_text("before\n<!-- table -->\nold\n<!-- /table -->\nafter\n")
    replace_section(document, "table", r"new \1")
    assert document.read_text() == "before\n<!-- table -->\nnew \\1\n<!-- /table -->\nafter\n"
    with pytest.raises(ValueError, match="0 sections named picture"):
        replace_section(document, "picture", "")


STARTS = {case: [start.Start(0.2, 0.05, 0.15), start.Start(0.12, 0.01, 0.1)] for case in start.CASES} | {
    start.WG_QUICK: [start.Start(0.3)],
    start.POD: [start.Start(0.14, 0.02)],
}


def test_a_start_is_counted_without_its_wait_for_a_processor() -> None:
    _, lines = start.table(start.from_json(json.loads(json.dumps(start.to_json(STARTS)))))
    assert [line[1:] for line in lines[:2]] == [["2", "125", "160", "130", "120"]] * 2
    assert lines[2][1:] == ["1", "-", "300", "-", "300"]
    assert lines[3][1:] == ["1", "-", "140", "120", "140"]


def test_a_start_that_was_not_measured_fails() -> None:
    with pytest.raises(KeyError, match="wg-quick"):
        start.table(STARTS | {start.WG_QUICK: []})


def test_the_cost_of_a_change_has_a_line_for_each_number_of_peers() -> None:
    costs = [changes.Cost(100, 400, 0.0011, 0.004, 0.0009), changes.Cost(10_000, 400, 0.004, 0.12, 0.0035)]
    assert changes.from_json(json.loads(json.dumps(changes.to_json(costs)))) == costs
    columns, lines = changes.table(costs)
    assert lines == [
        ["100", "400", "1.1 ms", "4 ms", "0.9 ms"],
        ["10,000", "400", "4.0 ms", "120 ms", "3.5 ms"],
    ]
    assert all(len(line) == len(columns) for line in lines)


def test_what_peers_cost_has_a_line_for_each_number_of_them() -> None:
    costs = [
        {
            "count": count,
            "seconds": 2.345,
            "calls": 3 * count,
            "processor_seconds": 1.25,
            "megabytes": 123.4,
            "change_seconds": 0.251,
            "slowest_change_seconds": 0.5,
            "change_calls": 4.2,
            "change_processor_seconds": 0.0123,
        }
        for count in (100, 10_000)
    ]
    columns, lines = many_peers.table(costs)
    assert [line[0] for line in lines] == ["100", "10,000"]
    assert lines[0][1:] == ["2.3 s", "300", "1.2 s", "123 MB", "0.25 s", "0.50 s", "4.2", "12 ms"]
    assert all(len(line) == len(columns) for line in lines)
