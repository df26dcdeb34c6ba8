"""Writes the JSON of all dashboards, where the chart takes it from."""

from __future__ import annotations

import json
from pathlib import Path

from . import operators, recovery
from .queries import FOLDER


def written() -> dict[Path, str]:
    """Each file's content, by its path."""
    found = {"recovery": recovery.DASHBOARD, "operator": operators.DASHBOARD}
    return {
        FOLDER / f"{name}.json": json.dumps(dashboard.json(), indent=1) + "\n"
        for name, dashboard in found.items()
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, content in written().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
