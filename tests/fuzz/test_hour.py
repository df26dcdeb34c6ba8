"""Every target gets its share of the hour, in turns; what breaks one ends its share and is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import hour
from tests.fuzz.search import Outcome, Search
from tests.soak import document


class Fuzzer:
    """In the place of processes: a turn takes half of what it may, as on a busy machine."""

    def __init__(self, breaks: str = "") -> None:
        self.breaks = breaks
        self.turns: list[str] = []

    def run(self, search: Search, scratch: Path, seconds: float) -> Outcome:
        assert scratch.is_dir()
        assert seconds <= hour.TURN
        self.turns.append(search.name)
        broken = search.name == self.breaks
        findings = [b"crash"] if broken else []
        return Outcome(100, len(self.turns), findings, broken, "what it said", seconds / 2)


@pytest.fixture
def result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(document, "RESULT", tmp_path / "soak.md")
    return tmp_path / "soak.md"


def run(monkeypatch: pytest.MonkeyPatch, fuzzer: Fuzzer) -> int:
    def keep(_search: Search, _scratch: Path) -> int:
        return 2

    def turn(search: Search, scratch: Path, seconds: float) -> Outcome:
        return fuzzer.run(search, scratch, seconds)

    monkeypatch.setattr(Search, "run", turn)
    monkeypatch.setattr(Search, "keep", keep)
    searches = [Search("words"), Search("reads"), Search("reads", Path("/built/reads"))]
    return hour.run(searches, jobs=1, keep=True, hour=300)


def test_every_target_has_its_share(monkeypatch: pytest.MonkeyPatch, result: Path) -> None:
    fuzzer = Fuzzer()
    assert run(monkeypatch, fuzzer) == 0
    assert fuzzer.turns[:3] == ["words", "reads", "reads"]
    told = result.read_text()
    assert "## Fuzzing" in told
    assert "| Findings | 0 |" in told
    assert "| Processor time | 5 min in 1 processes |" in told
    for name in ("words", "reads", "reads, in Rust"):
        (row,) = [line for line in told.splitlines() if line.startswith(f"| {name} |")]
        assert row.endswith("| 1.7 min | 0 |")


def test_a_finding_ends_the_share_and_is_told(monkeypatch: pytest.MonkeyPatch, result: Path) -> None:
    fuzzer = Fuzzer(breaks="words")
    assert run(monkeypatch, fuzzer) == 1
    assert fuzzer.turns.count("words") == 1
    told = result.read_text()
    assert "| Findings | 1 |" in told
    assert "| words | 100 | 1 | 0.5 min | 1 |" in told


def test_who_interrupts_it_has_the_result_until_then(monkeypatch: pytest.MonkeyPatch, result: Path) -> None:
    class Interrupted(Fuzzer):
        def run(self, search: Search, scratch: Path, seconds: float) -> Outcome:
            if len(self.turns) == 3:
                raise KeyboardInterrupt
            return super().run(search, scratch, seconds)

    assert run(monkeypatch, Interrupted()) == 0
    assert "| Processor time | 2 min in 1 processes |" in result.read_text()
