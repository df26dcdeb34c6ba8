"""The docs name every command and every check."""

from __future__ import annotations

import re
from pathlib import Path

from handfast_plugin.arguments import COMMANDS
from handfast_plugin.faults import RULES
from handfast_plugin.kinds import FROM_TERM

_DOCS = (Path(__file__).parents[3] / "docs" / "plugin.md").read_text()


def first_cells(heading: str) -> list[str]:
    """Of the first table after it."""
    part = _DOCS.split(f"| {heading} |")[1].split("\n\n")[0]
    return re.findall(r"^\| (.*?) \|", part, re.MULTILINE)


def test_commands() -> None:
    described = [re.match(r"`(\w+)", cell) for cell in first_cells("command")]
    assert [match and match[1] for match in described] == list(COMMANDS)


def test_checks() -> None:
    assert first_cells("check") == list(RULES)


def test_the_annotation() -> None:
    assert FROM_TERM in _DOCS
