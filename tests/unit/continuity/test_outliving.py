from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from handfast_tunnel.adapters.keeper import KeeperLine, NotHeldError
from handfast_tunnel.adapters.outliving import Outliving
from handfast_tunnel.adapters.udp import UdpSockets
from handfast_tunnel.continuity.state_file import StateFile


class FullKeeper(KeeperLine):
    """A line to a keeper that has room for so many descriptors."""

    def __init__(self, room: int) -> None:
        super().__init__(socket.socket(), {})
        self._line.close()
        self._room = room
        self.held: set[str] = set()

    def hold(self, name: str, fd: int) -> None:
        if len(self.held) == self._room:
            raise NotHeldError("no room")
        self.held.add(name)

    def release(self, name: str) -> None:
        self.held.discard(name)


@pytest.mark.parametrize("room", range(3))
def test_sockets_are_held_together_or_not_at_all(
    room: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper, sockets = FullKeeper(room), UdpSockets()
    sockets.bind(0)
    with caplog.at_level(logging.WARNING):
        Outliving(StateFile(tmp_path / "wg0.state", "wg0"), None, keeper).hold_sockets(sockets)
    families = len(sockets.filenos)
    sockets.close()
    assert len(keeper.held) == (families if room >= families else 0)
    told = "packets that come while this process is replaced will be lost: no room" in caplog.text
    assert told is (room < families)
