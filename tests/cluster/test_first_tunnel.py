"""From a label to a graph in ten minutes, by the commands of docs/first-tunnel.md."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .walk import MOST_SECONDS, commands, walk

LOST = 0.2
"""Of the pings, at most: the app that is replaced has the tunnel again when the next pod has it."""


def test_the_page_is_a_script() -> None:
    """All of its commands for one cluster, whatever that is called."""
    script = commands("other")
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    assert script.count("NAME=other") == script.count("NAME=") == script.count("make ")


@pytest.mark.soak
@pytest.mark.timeout(1900)
def test_a_new_user_gets_there_in_ten_minutes(tmp_path: Path) -> None:
    result = walk(tmp_path / "clone", f"walk-{os.getpid()}")
    print(result)
    assert result.seconds < MOST_SECONDS
    assert result.asked - result.answered < LOST * result.asked
    assert result.shown >= result.panels - 2, result.output
