"""Time stamps as text."""

from __future__ import annotations

import pytest

from handfast_tunnel.control import stamps


@pytest.mark.parametrize("stamp", [0, 1, 1_700_000_000_250_000_000])
def test_there_and_back(stamp: int) -> None:
    assert stamps.from_text(stamps.to_text(stamp)) == stamp


def test_as_the_wire_has_them() -> None:
    """1970 in TAI64 is 10 s later, for the leap seconds that were due then."""
    assert stamps.to_text(0) == "QAAAAAAAAAoAAAAA"
