"""The programs that tests, demo and benchmark run beside Handfast."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path

PINS = Path(__file__).parents[2] / "scripts" / "pins"
# The distribution's own wireguard-go comes before any other in PATH.
SEARCH = [str(Path(sys.executable).parent), "/usr/sbin", "/usr/bin", "/sbin", "/bin", os.defpath]


class ToolMissingError(RuntimeError):
    """A program that the set-up provides is not there."""

    def __init__(self, name: str, where: str) -> None:
        super().__init__(f"{name}: not found in {where}; `make test` installs or builds it")


def cache_folder() -> Path:
    """Where the set-up keeps what it builds; the same rule as scripts/setup.d/common.sh."""
    if chosen := os.environ.get("HANDFAST_CACHE"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "handfast"


@cache
def pins() -> dict[str, str]:
    """Name and version of what the set-up fetches."""
    lines = (line.split("#")[0].split() for line in PINS.read_text().splitlines())
    return {words[0]: words[1] for words in lines if words}


def tool(name: str) -> Path:
    """The program called `name`: a pinned one from the cache, else this environment's or the system's."""
    if version := pins().get(name):
        pinned = cache_folder() / "tools" / f"{name}-{version}-{platform.machine()}" / "bin" / name
        if not pinned.exists():
            raise ToolMissingError(name, str(pinned.parent))
        return pinned
    search = os.pathsep.join([*SEARCH, os.environ.get("PATH", "")])
    found = shutil.which(name, path=search)
    if found is None:
        raise ToolMissingError(name, search)
    return Path(found)
