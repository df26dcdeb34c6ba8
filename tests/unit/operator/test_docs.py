"""The docs show the table that the code obeys."""

from __future__ import annotations

from pathlib import Path

from handfast_operator.health import FIGURES
from handfast_operator.roles import HANDOVER

_DOCS = Path(__file__).parents[3] / "docs" / "kubernetes.md"


def test_the_handovers_table() -> None:
    rows = [
        f"| {each.name} | {each.old} | {each.new} | {each.service} | {each.call or ''} | {each.left_alone} |"
        for each in HANDOVER
    ]
    assert "\n".join(rows) in _DOCS.read_text()


def test_the_operators_figures() -> None:
    rows = [f"| `{each.series}` | {each.meaning} |" for each in FIGURES]
    assert "\n".join(rows) in _DOCS.read_text()
