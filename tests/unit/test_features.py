from __future__ import annotations

import logging
from dataclasses import dataclass, field

import pytest

from handfast_tunnel.adapters.features import tell


@dataclass
class Kernel:
    features: str = "UDP: one datagram a call"
    lacks: list[str] = field(default_factory=list)


def test_what_is_lacking_is_said_to_everyone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    tell("wg0", Kernel(lacks=["udp_gso", "udp_gro"]))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == (
        "wg0: this kernel lacks UDP_SEGMENT on the sockets, UDP_GRO on the sockets; UDP: one datagram a call"
    )


def test_where_nothing_is_lacking_only_who_looks_for_it_hears(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tell("wg0", Kernel())
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.message == "wg0: UDP: one datagram a call"
