"""Seeded histories; `make soak` lives 100,000 of them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .histories import first_violation
from .model import History

COUNT = 2000
PARTS = 10
BUG_COUNT = 2000
ROOT = Path(__file__).parents[3]
BUGS = Path(__file__).parent / "bugs"

REUSE = "a nonce was used twice under one key"
BEHIND = "a ceiling is behind"
FOUND = [
    ("ceiling-by-pack-into", "", BEHIND),
    ("ceiling-by-pack-into", "blind", REUSE),
    ("committed-drain-resumed", "blind", "it spoke after another had taken over"),
    ("counter-stored-after-sealing", "", BEHIND),
    ("counter-stored-after-sealing", "blind", REUSE),
    ("hoarded-initiation-forgotten", "blind", "a client was moved"),
    ("stale-psk-resumed", "blind", "a stale session was resumed"),
    ("window-stored-after-delivery", "blind", "a packet was delivered twice"),
]
"""What each bug leads to, where the checks read the memory and where they do not."""


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_goes_wrong(part: int) -> None:
    violation = first_violation(range(part, COUNT, PARTS))
    assert violation is None, str(violation)


def test_two_owners_would_be_noticed() -> None:
    """Without the lock, a process that hung goes on with counters that another uses."""
    violation = first_violation(range(BUG_COUNT), locked=False, blind=True)
    assert violation is not None
    assert REUSE in violation.report


def test_every_bug_has_its_patch() -> None:
    assert {patch.stem for patch in BUGS.glob("*.patch")} == {bug for bug, _, _ in FOUND}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("bug", "sight", "report"), FOUND)
def test_a_bug_is_noticed(bug: str, sight: str, report: str, tmp_path: Path) -> None:
    """The model runs against a copy with the bug in it, in a process of its own."""
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tunnel", tmp_path / "tunnel", ignore=compiled)
    subprocess.run(
        ["patch", "--quiet", "-p1", "-i", str(BUGS / f"{bug}.patch")], cwd=tmp_path, check=True, timeout=30
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.unit.continuity.histories", "0", str(BUG_COUNT), sight],
        cwd=ROOT,
        env={"PYTHONPATH": f"{tmp_path / 'tunnel'}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 1, "no history went wrong"
    assert report in done.stdout, done.stdout + done.stderr


def _scenario(history: History) -> None:
    """Handshakes both ways, data, a rekey, a removed peer, a drain: the stores of a tunnel's life."""
    for who in range(2):
        history.speak(who, 3)
    history.wait(0.1)
    history.answer(0, 20)
    history.greet()
    history.wait(0.1)
    history.remove(1)
    history.add(1)
    history.speak(1, 1)
    history.bounce()
    history.wait(16.0)
    history.drain()
    history.thaw()
    history.answer(0, 1)
    history.wait(0.1)


def _dies_at(step: int) -> bool:
    """Lives the scenario with a crash at this step and a restart; False if it has fewer."""
    history = History(seed=1)
    try:
        history.doom(step)
        _scenario(history)
        history.check()
        died = not history.server.alive
        history.start(step % 2 == 0, step % 4 < 2, -3600.0)
        history.repeat(0)
        history.repeat(3)
        history.answer(0, 3)
        history.check()
        history.end()
    finally:
        history.close()
    return died


@pytest.mark.parametrize("part", range(2))
def test_a_crash_at_every_single_step(part: int) -> None:
    step = part
    while _dies_at(step):
        step += 2
    assert step > 200
