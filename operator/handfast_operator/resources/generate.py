"""Writes what is made from the models: `python -m handfast_operator.resources.generate [FOLDER]`.

FOLDER is the project's root, by default the working directory. A test compares what is checked in with this.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from .definitions import crds, roles
from .reference import reference

_CHART = Path("charts/handfast/files")
_NOTE = "# Made from operator/handfast_operator/resources: change that, then run `make generate`.\n"


def generated() -> dict[Path, str]:
    """Each file's content, by its path in the project."""
    made = {_CHART / "crds" / f"{crd['spec']['names']['plural']}.yaml": as_yaml(crd) for crd in crds()}
    made[_CHART / "roles.yaml"] = as_yaml(*roles())
    made[Path("manifests/crds.yaml")] = as_yaml(*crds())
    made[Path("docs/reference.md")] = reference()
    return made


def as_yaml(*objects: Any) -> str:
    return _NOTE + yaml.safe_dump_all(objects, sort_keys=False, width=110, allow_unicode=True)


def main() -> None:
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    for path, content in generated().items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)


if __name__ == "__main__":
    main()
