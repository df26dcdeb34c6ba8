"""What a spare worker tries out before it waits."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from handfast_tunnel.adapters import rehearsal
from handfast_tunnel.adapters.rehearsal import CLIENT, ROUNDS, rehearse
from handfast_tunnel.adapters.udp import UdpSockets
from handfast_tunnel.core.device import Device


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_every_takeover_goes_on_with_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[list[bytes]] = []
    take_over = rehearsal._take_over

    def observed(state: int, left: int, client: Device) -> list[bytes]:
        received.append(take_over(state, left, client))
        return received[-1]

    monkeypatch.setattr(rehearsal, "_take_over", observed)
    rehearse()
    assert received == [[rehearsal._packet(CLIENT)] * 2] * ROUNDS


def test_nothing_leaves_the_process_and_nothing_stays_open(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def send(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(UdpSockets, "send", send)
    caplog.set_level(logging.DEBUG)
    before = descriptors()
    rehearse()
    assert descriptors() == before
    assert not caplog.records
    logging.getLogger().debug("it can be heard again")
    assert caplog.records
