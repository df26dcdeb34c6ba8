"""What a spare worker tries out before it waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast_tunnel.adapters import rehearsal
from handfast_tunnel.adapters.rehearsal import CLIENT, ROUNDS, rehearse


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_every_takeover_goes_on_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[list[bytes]] = []
    monkeypatch.setattr(rehearsal, "_rehearse_adapters", received.append)
    rehearse()
    assert received == [[rehearsal._packet(CLIENT)] * 2] * ROUNDS


def test_the_adapters_take_part_and_leave_nothing_open() -> None:
    before = descriptors()
    rehearsal._rehearse_adapters([rehearsal._packet(CLIENT)] * 2)
    rehearse()
    assert descriptors() == before


def test_without_a_network_it_rehearses_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "LOOPBACK", "nothing")
    before = descriptors()
    rehearse()
    assert descriptors() == before
