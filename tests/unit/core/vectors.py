"""The known answers in tests/unit/vectors, with every hexadecimal string as bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parent.parent / "vectors"
_TEXT = frozenset({"source", "note", "from"})


def _decoded(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _decoded(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [_decoded(each, key) for each in value]
    return bytes.fromhex(value) if isinstance(value, str) and key not in _TEXT else value


def standards(name: str) -> Any:
    """Vectors of the primitives, from their specifications."""
    return _decoded(json.loads((_FOLDER / "standards.json").read_text())[name])


def wireguard_go(name: str) -> Any:
    """What wireguard-go computed, captured by tests/unit/vectors/generator."""
    section = json.loads((_FOLDER / "wireguard_go.json").read_text())[name]
    return section if name == "routes" else _decoded(section)
