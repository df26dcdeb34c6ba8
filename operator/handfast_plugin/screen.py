"""Where the output goes, and tables that fit there."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TextIO

Colour = Literal["red", "green", "yellow", "bold"]
_CODES: Final[Mapping[str, str]] = {"red": "31", "green": "32", "yellow": "33", "bold": "1"}
GAP: Final = "  "
NOTHING: Final = "-"


@dataclass(frozen=True, slots=True)
class Screen:
    """A terminal, or what a program reads: that is neither cut nor coloured."""

    width: int | None = None
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str]) -> Screen:
        if not stream.isatty():
            return cls()
        try:
            width = os.get_terminal_size(stream.fileno()).columns
        except OSError:
            width = 0
        colour = not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"
        return cls(width or 80, colour)

    @property
    def terminal(self) -> bool:
        return self.width is not None

    def paint(self, text: str, colour: Colour | None) -> str:
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self.colour and colour else text

    def wrap(self, text: str, indent: str = "") -> list[str]:
        """Sentences, on as many lines as they need."""
        if self.width is None:
            return [f"{indent}{text}"]
        return textwrap.wrap(
            text,
            self.width,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )


@dataclass(frozen=True, slots=True)
class Column:
    title: str
    right: bool = False
    least: int | None = None
    """How narrow it may become; None: its content is never cut."""
    cut: Literal["start", "end"] = "end"
    """Which end goes: of pods' names the last part tells them apart."""
    optional: bool = False
    """Left out where there is no room."""
    colours: Mapping[str, Colour] = field(default_factory=dict)
    """By content."""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], screen: Screen) -> list[str]:
    """Lines, no longer than the screen is wide as far as that can be."""
    chosen = list(range(len(columns)))
    widths = [max(len(column.title), *(len(row[i]) for row in rows), 0) for i, column in enumerate(columns)]
    if screen.width is not None:
        while (fitting := _fitted(columns, widths, chosen, screen.width)) is None:
            spare = next((i for i in reversed(chosen) if columns[i].optional), None)
            if spare is None:
                fitting = [columns[i].least or widths[i] for i in range(len(columns))]
                break
            chosen.remove(spare)
        widths = fitting
    titles = [column.title for column in columns]
    lines = [_line(columns, widths, chosen, titles, None)]
    lines += [_line(columns, widths, chosen, row, screen) for row in rows]
    return lines


def _fitted(
    columns: Sequence[Column], widths: Sequence[int], chosen: Sequence[int], room: int
) -> list[int] | None:
    """Widths of the chosen columns that fit, taken from the widest first; None where none do."""
    fitted = list(widths)
    excess = sum(fitted[i] for i in chosen) + len(GAP) * (len(chosen) - 1) - room
    while excess > 0:
        able = [i for i in chosen if fitted[i] > (columns[i].least or fitted[i])]
        if not able:
            return None
        fitted[max(able, key=lambda i: fitted[i])] -= 1
        excess -= 1
    return fitted


def _line(
    columns: Sequence[Column],
    widths: Sequence[int],
    chosen: Sequence[int],
    row: Sequence[str],
    screen: Screen | None,
) -> str:
    cells = []
    for i in chosen:
        column, text = columns[i], _cut(row[i], widths[i], columns[i].cut)
        spaces = " " * (widths[i] - len(text))
        painted = screen.paint(text, column.colours.get(row[i])) if screen else text
        cells.append(f"{spaces}{painted}" if column.right else f"{painted}{spaces}")
    return GAP.join(cells).rstrip()


def _cut(text: str, width: int, end: Literal["start", "end"]) -> str:
    if len(text) <= width:
        return text
    return f"{text[: width - 1]}…" if end == "end" else f"…{text[len(text) - width + 1 :]}"


def age(seconds: float | None) -> str:
    """As kubectl writes it: `12s`, `5m`, `3h`, `9d`."""
    if seconds is None:
        return NOTHING
    seconds = max(0, int(seconds))
    for limit, unit, name in ((120, 1, "s"), (120 * 60, 60, "m"), (48 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit}{name}"
    return f"{seconds // 86400}d"


def duration(seconds: float | None) -> str:
    """`41 ms`, `1.2 s`, `34 s`."""
    if seconds is None:
        return NOTHING
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
