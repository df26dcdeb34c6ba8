"""What is kept is small, is what was found, and reaches what it is kept for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

ALL = 300_000
"""Bytes of all files."""


def test_kept_inputs_are_read_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "FOLDER", tmp_path / "corpus")
    corpus.keep("one", [b"long \xff\n\0", b"", b"a", b"a"])
    assert corpus.kept("one") == (b"", b"a", b"long \xff\n\0")
    assert corpus.kept("two") == ()


def test_the_smallest_that_reach_something_are_chosen() -> None:
    target, _ = TARGETS["words"]
    numbers = [b"1", b"22", b"333"]
    found = corpus.smallest(target, [*numbers, b"::/0"])
    assert b"1" in found
    assert b"::/0" in found
    assert not set(numbers[1:]) & set(found), "they go the same way"
    assert corpus.smallest(target, [*numbers, b"::/0"], known=found) == []
    assert corpus.smallest(target, [b"1" * (corpus.LONGEST + 1)]) == []


def test_every_target_has_a_small_corpus() -> None:
    assert {path.stem for path in corpus.FOLDER.glob("*.txt")} == set(TARGETS)
    assert sum(path.stat().st_size for path in corpus.FOLDER.iterdir()) < ALL
    for name in TARGETS:
        assert all(len(data) <= corpus.LONGEST for data in corpus.kept(name))
