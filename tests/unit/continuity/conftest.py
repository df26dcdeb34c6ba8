"""What tests of the keeper share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .kept import Kept


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.end()
