"""The programs that scripts/setup.d/cluster.sh builds of `programs/`, once for each content of it."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from pathlib import Path

from tests.lab.tools import ToolMissingError, cache_folder

_SOURCES = Path(__file__).with_name("programs")


@cache
def folder_of(sources: Path, name: str) -> Path:
    """Where what is built of a folder lies; the same rule as in the set-up."""
    content = hashlib.sha256()
    for file in sorted(str(path.relative_to(sources)) for path in sources.rglob("*") if path.is_file()):
        content.update((sources / file).read_bytes())
    return cache_folder() / "tools" / f"{name}-{content.hexdigest()[:16]}-{platform.machine()}"


def folder() -> Path:
    """Kubernetes and what belongs to it."""
    return folder_of(_SOURCES, "cluster") / "bin"


def program(name: str) -> Path:
    found = folder() / name
    if not found.exists():
        raise ToolMissingError(name, str(folder()))
    return found
