"""What a pod keeps of what it accepted, and which configuration wins at a start."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from handfast_tunnel.control import Configuration, Role
from handfast_tunnel.control.roles import Standing
from handfast_tunnel.errors import StartError
from handfast_tunnel.pod.accepted import Accepted, load_newest

from .conftest import CONFIGURATION, PRIVATE, SPEC, mount

STANDING = Standing(Role.DRAINING, 3, 4, 12.5, "b", "drain x", 99, displaced=True)


def accept(accepted: Accepted, configuration: Configuration) -> None:
    accepted.draft(configuration).publish()


@pytest.mark.parametrize(("in_mount", "in_memory", "wins"), [(5, 6, 6), (7, 6, 7), (6, 6, 6)])
def test_the_higher_generation_wins(
    accepted: Accepted, mounted: Path, in_mount: int, in_memory: int, wins: int
) -> None:
    mount(mounted, CONFIGURATION.at(in_mount))
    accept(accepted, CONFIGURATION.at(in_memory))
    assert load_newest(mounted, accepted).generation == wins


def test_either_is_enough(accepted: Accepted, mounted: Path) -> None:
    accept(accepted, CONFIGURATION)
    assert load_newest(mounted, accepted) == CONFIGURATION
    (mounted / "config.jsonl.gz").write_bytes(b"damaged")
    assert load_newest(mounted, accepted) == CONFIGURATION


def test_another_tunnels_copy_does_not_count(accepted: Accepted, mounted: Path) -> None:
    mount(mounted, CONFIGURATION)
    accept(accepted, replace(CONFIGURATION.at(9), tunnel=replace(SPEC, uid="another")))
    assert load_newest(mounted, accepted) == CONFIGURATION


def test_neither_says_where_it_looked(accepted: Accepted, mounted: Path) -> None:
    with pytest.raises(StartError, match=f"no configuration in {mounted}"):
        load_newest(mounted, accepted)


def test_a_damaged_one_says_why_and_no_secret(
    accepted: Accepted, mounted: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mount(mounted, CONFIGURATION)
    (mounted.parent / "state/config.jsonl.gz").write_bytes(CONFIGURATION.dump(compressed=False)[:-9])
    with caplog.at_level(logging.ERROR):
        assert load_newest(mounted, accepted) == CONFIGURATION
    assert "is not used: document line 4: it is not JSON" in caplog.text
    assert PRIVATE not in caplog.text


def test_a_standing_comes_back_as_it_was(accepted: Accepted) -> None:
    assert accepted.load_standing("uid") is None
    accepted.save_standing(STANDING, "uid")
    assert accepted.load_standing("uid") == STANDING
    assert accepted.load_standing("another") is None


def test_a_draft_is_not_in_force(accepted: Accepted) -> None:
    accept(accepted, CONFIGURATION)
    draft = accepted.draft(CONFIGURATION.at(9))
    assert accepted.load_configuration() == CONFIGURATION
    draft.discard()
    assert accepted.load_configuration() == CONFIGURATION
    draft.discard()


def test_only_its_owner_reads_it(accepted: Accepted, tmp_path: Path) -> None:
    accept(accepted, CONFIGURATION)
    accepted.save_standing(STANDING, "uid")
    for path in (tmp_path / "state").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_not_followed(accepted: Accepted, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (tmp_path / "state/config.jsonl.gz.new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        accepted.draft(CONFIGURATION)
    assert not target.exists()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"uid": "uid"}', b'{"uid": "uid", "role": "king"}'])
def test_a_damaged_role_is_a_new_pods(accepted: Accepted, tmp_path: Path, content: bytes) -> None:
    """It stands by: never a guess."""
    (tmp_path / "state/role.json").write_bytes(content)
    assert accepted.load_standing("uid") is None
