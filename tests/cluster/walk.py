"""docs/first-tunnel.md as it is written, in a fresh clone: does a new user get from a label to a graph?"""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.soak import document

from .cluster import Cluster
from .settings import ClusterError, Settings

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/first-tunnel.md"
PICTURE: Final = ROOT / "docs/images/first-tunnel.png"
MOST_SECONDS: Final = 600.0
_NAME: Final = "NAME=first"
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACE: Final = re.compile(r"(?<=<!-- walk -->).*(?=<!-- /walk -->)", re.DOTALL)
_PINGS: Final = re.compile(r"^(\d+) packets transmitted, (\d+) received", re.MULTILINE)
_PANELS: Final = re.compile(r"dashboard\.png: (\d+) of (\d+) panels have data")


@dataclass(frozen=True)
class Walk:
    seconds: float
    asked: int
    answered: int
    """Of the client's pings."""
    shown: int
    panels: int
    """Of the dashboard, in all."""
    output: str

    def __str__(self) -> str:
        when = (
            f"{datetime.now(UTC).date()}, commit {document.commit()}, load average {os.getloadavg()[2]:.1f}"
        )
        lost = f"{self.asked - self.answered} of {self.asked} pings were lost"
        panels = f"{self.shown} of {self.panels} panels had data"
        return f"{self.seconds / 60:.1f} min in a fresh clone ({when}): {lost}, {panels}"


def commands(name: str) -> str:
    """What the page says, for a cluster of another name."""
    blocks = _BLOCK.findall(PAGE.read_text())
    return "\n".join(["set -euo pipefail", *blocks]).replace(_NAME, f"NAME={name}")


def walk(clone: Path, name: str) -> Walk:
    """Raises ClusterError with all that was written where a command fails."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    began = time.monotonic()
    try:
        done = subprocess.run(
            ["bash", "-c", commands(name)],
            cwd=clone,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=3 * MOST_SECONDS,
        )
    finally:
        Cluster(Settings(name)).down()
    seconds, output = time.monotonic() - began, done.stdout
    pings, shown = _PINGS.search(output), _PANELS.findall(output)
    if done.returncode or not pings or not shown:
        raise ClusterError(output)
    asked, answered = int(pings[1]), int(pings[2])
    return Walk(seconds, asked, answered, int(shown[-1][0]), int(shown[-1][1]), output)


def note(clone: Path, result: Walk) -> None:
    PAGE.write_text(_PLACE.sub(str(result), PAGE.read_text()))
    PICTURE.write_bytes((clone / "dashboard.png").read_bytes())
