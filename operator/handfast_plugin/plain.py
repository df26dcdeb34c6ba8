"""Text from a cluster, for a terminal: whoever wrote it must not move the cursor, colour or hide anything.

That is control characters, and what turns or swallows its neighbours: everything that is not printable.
"""

from __future__ import annotations

from typing import Any, Final

_INSTEAD: Final = "\N{REPLACEMENT CHARACTER}"
_SPACES: Final = "\n\r\t"


def line(text: str) -> str:
    """On one line: what looks like several could look like ours."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else " " if each in _SPACES else _INSTEAD for each in text)


def lines(text: str) -> str:
    return "\n".join(map(line, text.split("\n")))


def document(value: Any) -> Any:
    """JSON, with its names."""
    if isinstance(value, str):
        return line(value)
    if isinstance(value, list):
        return [document(each) for each in value]
    if isinstance(value, dict):
        return {line(name): document(each) for name, each in value.items()}
    return value
