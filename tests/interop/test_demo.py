"""The demo itself, small: every row is measured, and Handfast brings every client back that it can know."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(180)
def test_the_demo_measures_every_row_and_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.demo", "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr

    rows = json.loads((tmp_path / "demo.json").read_text())["rows"]
    assert len(rows) == 72
    kept = [row for row in rows if row["server"] == "Handfast"]
    known = kept + [row for row in rows if row["endpoint"] and row["server"] == "Handfast, nothing kept"]
    assert len(known) == 24 + 16
    # The machine may be busy; without Handfast's greeting an idle client would not come back at all.
    assert [row for row in known if row["recovered"] != row["n"] or row["max_seconds"] > 5] == []
    idle = [row for row in rows if row["kind"] == "idle" and row["server"] == "wireguard-go (Debian)"]
    assert {row["recovered"] for row in idle} == {0}
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert "not recovered" in done.stdout
