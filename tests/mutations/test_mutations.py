"""Do the tests on the wire notice a broken rule? Each patch breaks one and names a test that must fail.

A patch is applied to a copy of the tunnel, which the named test then runs. A patch that no longer applies
is to be made anew (`git diff -U1 tunnel`, below the same two lines); a test that passes no longer guards
its rule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PATCHES = sorted(Path(__file__).parent.glob("*.patch"))
CONTROL = "test_handshake.py::test_the_client_begins[handfast-serves-wireguard-go]"

_TESTS_FAILED = 1
"""Pytest's exit status; others mean that nothing was tested."""


@pytest.fixture
def tunnel(tmp_path: Path) -> Path:
    """A copy of the source root, outside the repository."""
    shutil.copytree(REPOSITORY / "tunnel", tmp_path / "tunnel", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "tunnel"


def apply(patch: Path, tunnel: Path) -> None:
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tunnel.parent)}
    done = subprocess.run(
        ["git", "apply", str(patch)], cwd=tunnel.parent, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, f"make {patch.name} anew: {done.stderr}"


def run(test: str, tunnel: Path) -> subprocess.CompletedProcess[str]:
    """Run one interop test with this copy of the tunnel."""
    pytest_ = [sys.executable, "-m", "pytest", "-n0", "-q", "-p", "no:cacheprovider", f"tests/interop/{test}"]
    environment = {**os.environ, "PYTHONPATH": str(tunnel)}
    started = subprocess.run(
        [sys.executable, "-m", "handfast_tunnel", "--version"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert started.returncode == 0, started.stderr
    return subprocess.run(
        pytest_, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=110
    )


def test_an_unbroken_copy_passes(tunnel: Path) -> None:
    done = run(CONTROL, tunnel)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.stem)
def test_a_broken_rule_is_noticed(patch: Path, tunnel: Path) -> None:
    test = next(line for line in patch.read_text().splitlines() if line.startswith("Test: "))
    apply(patch, tunnel)
    done = run(test.removeprefix("Test: "), tunnel)
    assert done.returncode == _TESTS_FAILED, done.stdout
    assert "Traceback (most recent call last)" not in done.stdout, "the code was broken, not the rule"
