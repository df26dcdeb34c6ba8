"""Questions before something is done, and lines that are drawn over and over."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Final

from .errors import UsageError
from .screen import Screen

_CLEARED: Final = "{}\x1b[K"
"""Clears the rest of the line."""


def confirm(what: str, *, yes: bool) -> bool:
    """Ask a person; where there is none, `--yes` has to have said it. Raises UsageError."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"{what} asks first, and there is nobody at this input: say --yes")
    print(f"{what} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


class Live:
    """Lines at the same place of a terminal; elsewhere only what is said for good."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._drawn = 0

    def draw(self, lines: Sequence[str]) -> None:
        if not self._screen.terminal:
            return
        width = self._screen.width or 80
        text = "".join(f"{_CLEARED.format(line[:width])}\n" for line in lines)
        # What was there before, and is not any more, goes too.
        print(f"{self._up()}{text}\x1b[J", end="", file=sys.stderr, flush=True)
        self._drawn = len(lines)

    def say(self, line: str) -> None:
        """It stays."""
        if self._screen.terminal:
            print(f"{self._up()}{_CLEARED.format(line)}\n\x1b[J", end="", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)
        self._drawn = 0

    def _up(self) -> str:
        return f"\x1b[{self._drawn}A\r" if self._drawn else ""
