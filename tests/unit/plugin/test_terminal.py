"""Lines that are drawn over and over, as a terminal shows them."""

from __future__ import annotations

import re

import pytest

from handfast_plugin.screen import Screen
from handfast_plugin.terminal import Live


def shown(written: str, width: int = 40) -> list[str]:
    """What a terminal has, after it was told this; nothing beyond what `Live` uses."""
    rows, row = [""], 0
    for token in re.findall(r"\x1b\[(\d*)([A-Z])|(\r)|(\n)|([^\x1b\r\n]+)", written):
        number, code, _, newline, text = token
        if code == "A":
            row -= int(number)
        elif code == "K":
            pass  # what is written replaces its row
        elif code == "J":
            del rows[row:]
            rows.append("")
        elif newline:
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif text:
            rows[row] = text
    assert max(map(len, rows)) <= width
    return rows[:-1]


def test_what_is_said_stays_above_what_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(Screen(40))
    live.draw(["2 are dark", "alice", "bob"])
    live.say("alice is back")
    live.draw(["1 is dark", "bob"])
    live.draw(["1 is dark, and this line is longer than the screen is wide"])
    assert shown(capsys.readouterr().err) == [
        "alice is back",
        "1 is dark, and this line is longer than t"[:40],
    ]


def test_at_the_end_only_what_was_said_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(Screen(40))
    live.draw(["2 are dark", "alice", "bob"])
    live.say("alice is back")
    live.say("bob is back")
    live.draw(["0 are dark"])
    live.draw([])
    assert shown(capsys.readouterr().err) == ["alice is back", "bob is back"]


def test_elsewhere_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    live = Live(Screen())
    live.draw(["2 are dark"])
    live.say("alice is back")
    assert capsys.readouterr().err == "alice is back\n"
