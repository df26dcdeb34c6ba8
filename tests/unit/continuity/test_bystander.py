"""Who cannot own the state memory heeds its committed mark all the same (RECOVERY, section 7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from handfast_tunnel.continuity.bystander import BystanderMemory
from handfast_tunnel.continuity.state_file import StateFile
from handfast_tunnel.core.device import Device


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wg0.state"


@pytest.fixture
def owner(path: Path) -> StateFile:
    return StateFile(path, "wg0")


def test_the_mark_is_read_without_the_lock(owner: StateFile, path: Path) -> None:
    memory = BystanderMemory(path, "wg0")
    device = Device(memory=memory)
    assert not device.frozen
    owner.memory.committed_term = 7
    assert memory.committed_term == 7
    assert device.committed
    assert Device(memory=memory).frozen


def test_a_term_that_it_is_told_holds_for_itself_alone(owner: StateFile, path: Path) -> None:
    memory = BystanderMemory(path, "wg0")
    Device(memory=memory).commit_handover(3, 0.0)
    assert memory.committed_term == 3
    assert owner.memory.committed_term == 0


def test_another_interfaces_mark_means_nothing(owner: StateFile, path: Path) -> None:
    owner.memory.committed_term = 7
    assert BystanderMemory(path, "wg1").committed_term == 0


@pytest.mark.parametrize("size", [None, 0, 4095])
def test_where_nothing_is_there_is_no_mark(path: Path, size: int | None) -> None:
    if size is not None:
        path.write_bytes(bytes(size))
    assert BystanderMemory(path, "wg0").committed_term == 0
