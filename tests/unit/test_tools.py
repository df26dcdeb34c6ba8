from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.tools import ToolMissingError, cache_folder, pins, tool


def test_every_pinned_program_has_one_exact_version() -> None:
    assert {"uv", "wireguard-go-modern", "boringtun-cli"} <= pins().keys()
    assert all(version.lstrip("v")[0].isdigit() for version in pins().values())


def test_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HANDFAST_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "handfast"
    monkeypatch.setenv("HANDFAST_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


@pytest.mark.parametrize("name", ["boringtun-cli", "no-such-program"])
def test_missing_program_says_what_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HANDFAST_CACHE", str(tmp_path))
    with pytest.raises(ToolMissingError, match=f"{name}.*make test"):
        tool(name)


def test_programs_of_the_system_are_found_without_sbin_in_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert tool("wireguard-go") == Path("/usr/bin/wireguard-go")
    assert tool("nft").name == "nft"
