"""A state memory that is not as it should be is refused whole, and clients come back by a lower rung."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handfast_tunnel.continuity.layout import HEADER_WORDS, WORD, Header
from tests.interop.conftest import Pair
from tests.interop.outliving import handshakes, wait_for_method


def truncate(state: Path) -> None:
    os.truncate(state, HEADER_WORDS * WORD + 100)


def flip_a_bit(state: Path) -> None:
    data = bytearray(state.read_bytes())
    data[Header.BOOT_ID * WORD] ^= 1
    state.write_bytes(data)


def swap(state: Path) -> None:
    """With that of another interface, which is as good."""
    data = state.read_bytes()
    named_otherwise = data.replace(b"wg0\0", b"wg1\0", 1)
    assert named_otherwise != data
    state.write_bytes(named_otherwise)


def open_to_others(state: Path) -> None:
    state.chmod(0o666)


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, "its length does not fit"),
    "a bit flipped": (flip_a_bit, "its header is damaged"),
    "another interface's": (swap, "its header is damaged"),
    "open to others": (open_to_others, "it is open to others"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_it_is_refused_with_its_reason(usual: Pair, damage: str) -> None:
    server, client = usual.server, usual.client
    server.knows(client)
    usual.start()
    client.reaches(server)
    server.stop()
    spoil, reason = DAMAGE[damage]
    spoil(Path(f"/proc/{server.node.pid}/root/run/handfast/{server.interface}.state"))
    assert reason in server.command("state", "show")
    restarted = time.monotonic()
    server.start()
    client.reaches(server, timeout=8)
    wait_for_method(server, client, "announced")
    assert handshakes(usual, restarted)
    assert reason in server.running.output()
