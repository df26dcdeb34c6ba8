"""A process that another keeps from its state memory is over, too, once another took over (RECOVERY, 7)."""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from collections.abc import Iterator

import pytest

from handfast_tunnel.continuity.layout import HEADER_WORDS, WORD, Header
from tests.interop.conftest import Pair
from tests.lab.namespaces import wait_until


class Owner:
    """Owns the server's state memory, as a former process that hangs."""

    def __init__(self, pair: Pair) -> None:
        path = f"/proc/{pair.server.node.pid}/root/run/handfast/{pair.server.interface}.state"
        self._fd = os.open(path, os.O_RDWR)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def commit(self, term: int) -> None:
        with mmap.mmap(self._fd, HEADER_WORDS * WORD) as mapping, memoryview(mapping).cast("Q") as words:
            words[Header.COMMITTED_TERM] = term

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def owner(usual: Pair) -> Iterator[Owner]:
    """The server has ended; its memory is another's now."""
    usual.server.knows(usual.client)
    usual.start()
    usual.client.reaches(usual.server)
    usual.server.stop()
    owner = Owner(usual)
    yield owner
    owner.close()


def sent_by_the_server(pair: Pair, since: float) -> int:
    return len(pair.on_server_cable.matching(source=pair.server.host.ipv4, since=since))


def test_committed_before_its_start_it_greets_and_answers_nobody(usual: Pair, owner: Owner) -> None:
    owner.commit(5)
    started = time.monotonic()
    usual.server.start()
    assert not usual.client.ping(usual.server)
    assert sent_by_the_server(usual, started) == 0
    assert "frozen" in usual.server.command("status")
    refused = usual.server.node.attempt(usual.server.implementation.command[0], "drain", "--off")
    assert "another took over for good" in refused.stderr


def test_committed_while_it_runs_it_falls_silent(usual: Pair, owner: Owner) -> None:
    usual.server.start()
    usual.client.reaches(usual.server)
    owner.commit(5)
    committed = time.monotonic()
    assert not usual.client.ping(usual.server)
    assert sent_by_the_server(usual, committed) == 0
    wait_until(lambda: "frozen" in usual.server.command("status"), 5, "it to notice without a packet, too")
