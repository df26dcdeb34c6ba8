"""docs/soak.md keeps what other soaks wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import document


def test_a_section_replaces_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = tmp_path / "soak.md"
    monkeypatch.setattr(document, "RESULT", result)
    document.write("One", "first\n\n| a |\n")
    document.write("Two", "second")
    document.write("One", "third\n")
    text = result.read_text()
    assert text.startswith("# Soak\n")
    assert text.endswith("## One\n\nthird\n\n## Two\n\nsecond\n")


def test_what_is_written_is_read_as_it_was() -> None:
    before = document.RESULT.read_text()
    head, *sections = before.split("\n## ")
    assert head.startswith("# Soak")
    assert sections[0].startswith("Histories\n")
