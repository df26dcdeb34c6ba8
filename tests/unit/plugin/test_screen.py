"""Tables: as wide as the terminal, or as wide as they are where a program reads them."""

from __future__ import annotations

import io
import os
import pty
from contextlib import closing

import pytest

from handfast_plugin.screen import Column, Screen, age, duration, table

COLUMNS = [
    Column("NAME", least=8, cut="start"),
    Column("READY", colours={"yes": "green"}),
    Column("COUNT", right=True),
    Column("ENDPOINT", least=10, optional=True),
]
ROWS = [["a-long-name-that-ends-differently", "yes", "7", "203.0.113.5:51820"], ["b", "no", "1000", "-"]]


def test_a_pipe_is_neither_cut_nor_coloured() -> None:
    assert table(COLUMNS, ROWS, Screen.of(io.StringIO(), {})) == [
        "NAME                               READY  COUNT  ENDPOINT",
        "a-long-name-that-ends-differently  yes        7  203.0.113.5:51820",
        "b                                  no      1000  -",
    ]


def test_a_narrow_terminal_cuts_what_may_be_cut() -> None:
    assert table(COLUMNS, ROWS, Screen(40)) == [
        "NAME          READY  COUNT  ENDPOINT",
        "…differently  yes        7  203.0.113.5…",
        "b             no      1000  -",
    ]


def test_and_then_leaves_out_what_may_be_left_out() -> None:
    lines = table(COLUMNS, ROWS, Screen(28))
    assert lines[0] == "NAME            READY  COUNT"
    assert max(map(len, lines)) <= 28


def test_what_cannot_be_cut_any_more_is_shown_all_the_same() -> None:
    assert table(COLUMNS, ROWS, Screen(10))[1] == "…erently  yes        7"


def test_colours_do_not_count_as_width() -> None:
    plain, coloured = table(COLUMNS, ROWS, Screen(80)), table(COLUMNS, ROWS, Screen(80, colour=True))
    assert coloured[1] == plain[1].replace("yes", "\x1b[32myes\x1b[0m")
    assert coloured[0] == plain[0]


@pytest.mark.parametrize(
    ("environment", "colour"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_a_terminal_says_how_wide_it_is(environment: dict[str, str], colour: bool) -> None:
    import fcntl
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 77, 0, 0))
    with closing(os.fdopen(theirs, "w")) as stream:
        assert Screen.of(stream, environment) == Screen(77, colour)
    os.close(ours)


def test_sentences_are_wrapped_on_a_terminal_only() -> None:
    text = "a sentence that is longer than this terminal is wide"
    assert Screen(30).wrap(text) == ["a sentence that is longer than", "  this terminal is wide"]
    assert Screen().wrap(text) == [text]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (-3, "0s"), (119, "119s"), (120, "2m"), (7199, "119m"), (7200, "2h"), (200_000, "2d")],
)
def test_ages(seconds: float | None, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0 ms"), (0.0414, "41 ms"), (0.9996, "1.0 s"), (9.94, "9.9 s"), (34.4, "34 s")],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
