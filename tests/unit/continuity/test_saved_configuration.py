from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast_tunnel.continuity.saved_configuration import SavedConfiguration


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wg0.configuration"


def save(saved: SavedConfiguration, *pieces: bytes) -> None:
    for _ in saved.save(pieces):
        pass


def test_nothing_was_accepted_yet(path: Path) -> None:
    assert bytes(SavedConfiguration(path).load()) == b""


def test_the_last_accepted_is_loaded(path: Path) -> None:
    saved = SavedConfiguration(path)
    save(saved, b"private_key=1\n", b"public_key=2\n")
    save(saved, b"private_key=3\n")
    assert bytes(SavedConfiguration(path).load()) == b"private_key=3\n"


def test_it_is_for_its_owner_alone(path: Path) -> None:
    previous = os.umask(0)
    try:
        save(SavedConfiguration(path), b"private_key=1\n")
    finally:
        os.umask(previous)
    assert path.stat().st_mode & 0o777 == 0o600


def test_half_a_configuration_never_counts(path: Path) -> None:
    """Whenever the process dies, the former one is there, whole."""
    saved = SavedConfiguration(path)
    save(saved, b"old\n")
    for steps in range(3):
        job = saved.save([b"new", b" and ", b"longer\n"])
        for _ in range(steps + 1):
            next(job)
        assert bytes(SavedConfiguration(path).load()) == b"old\n"
        job.close()  # type: ignore[attr-defined]
    assert bytes(SavedConfiguration(path).load()) == b"old\n"
    save(saved, b"new\n")
    assert bytes(SavedConfiguration(path).load()) == b"new\n"


def test_it_is_stored_a_piece_a_step(path: Path) -> None:
    def pieces() -> Iterator[bytes]:
        yield from (b"a", b"b", b"c")

    assert len(list(SavedConfiguration(path).save(pieces()))) == 3


def test_nothing_is_left_when_it_is_forgotten(path: Path) -> None:
    """Not even half a one, which holds the private key as well."""
    saved = SavedConfiguration(path)
    save(saved, b"private_key=1\n")
    job = saved.save([b"private_key=2\n", b"more"])
    next(job)
    assert len(list(path.parent.iterdir())) == 2
    saved.forget()
    assert list(path.parent.iterdir()) == []
    saved.forget()


def test_a_link_in_its_place_is_not_written_through(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("untouched")
    path.with_name(path.name + ".new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        save(SavedConfiguration(path), b"private_key=1\n")
    assert target.read_text() == "untouched"
