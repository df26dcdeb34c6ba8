"""A dashboard as a picture: every panel is drawn, of whatever its queries answered."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench.dashboard import picture
from bench.dashboard.results import Line, Mark, Seen
from dashboards.queries import dashboards

STEPS = 13
BOUNDS = ("0.005", "0.1", "1.0", "+Inf")


def answers(panel: str, kind: str) -> list[Line]:
    match kind:
        case "stat":
            return [Line("", (0.5,))]
        case "heatmap":
            return [
                Line(bound, (None, *[float(number)] * (STEPS - 1))) for number, bound in enumerate(BOUNDS)
            ]
        case "state-timeline":
            return [Line(pod, (0.0,) * 6 + (1.0,) * 7) for pod in ("a", "b")]
        case _:
            return [Line(f"{panel} {number}", (None, *[0.2 * number] * (STEPS - 1))) for number in range(3)]


def seen(name: str = "recovery") -> Seen:
    dashboard = dashboards()[name]
    panels = {each["title"]: answers(each["title"], each["type"]) for each in dashboard["panels"]}
    events = {each["name"]: [Mark(10, "x")] for each in dashboard["annotations"]["list"]}
    return Seen(5, 60, panels, events, [Mark(10.4, "rollout")])


def test_what_is_kept_is_what_was_seen() -> None:
    assert Seen.from_json(seen().to_json()) == seen()
    assert seen().table().splitlines()[-1] == "| 0.2 | rollout |"


def test_a_panel_without_data_is_named() -> None:
    whole = seen()
    assert not whole.empty()
    whole.panels["Outages"] = [Line("1.0", (None, None))]
    whole.panels["Traffic"] = []
    assert whole.empty() == ["Outages", "Traffic"]


@pytest.mark.parametrize("name", dashboards())
def test_every_panel_is_drawn(name: str, tmp_path: Path) -> None:
    picture.draw(seen(name), dashboards()[name], tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 20_000


def test_before_there_is_any_data_it_is_drawn_all_the_same(tmp_path: Path) -> None:
    nothing: dict[str, list[Line]] = {title: [] for title in seen().panels}
    picture.draw(Seen(5, 5, nothing, seen().events, []), dashboards()["recovery"], tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


def test_a_panel_that_was_not_asked_for_is_an_error(tmp_path: Path) -> None:
    partial = seen()
    del partial.panels["Handshakes"]
    with pytest.raises(KeyError, match="Handshakes"):
        picture.draw(partial, dashboards()["recovery"], tmp_path / "drawn.png")


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.25, "s", "250 ms"),
        (15, "s", "15 s"),
        (0.995, "percentunit", "99.5 %"),
        (-39.3, "percentunit", "-3,930 %"),
        (2000, "short", "2,000"),
        (2_500_000, "bytes", "2.5 MB"),
        (1500, "Bps", "1.5 kB/s"),
        (3, "short", "3"),
    ],
)
def test_values_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    assert picture.formatted(value, unit) == text
