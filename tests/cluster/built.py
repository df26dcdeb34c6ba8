"""The programs that scripts/setup.d/cluster.sh builds of `programs/`, once for each content of it."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

from tests.lab.tools import ToolMissingError, cache_folder

_SOURCES = Path(__file__).with_name("programs")


@cache
def folder() -> Path:
    """Where they are; the same rule as in the set-up."""
    content = hashlib.sha256()
    for name in sorted(str(path.relative_to(_SOURCES)) for path in _SOURCES.rglob("*") if path.is_file()):
        content.update((_SOURCES / name).read_bytes())
    return cache_folder() / "tools" / f"cluster-{content.hexdigest()[:16]}-{platform.machine()}" / "bin"


def program(name: str) -> Path:
    found = folder() / name
    if not found.exists():
        raise ToolMissingError(name, str(folder()))
    return found
