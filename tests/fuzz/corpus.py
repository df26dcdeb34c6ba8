"""What fuzzers found to lead somewhere, kept beside the targets: the smallest inputs that reach all places.

A file a target, a line an input, in base64. `make fuzz` goes on from them, and keeps what it finds beyond.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, Final

FOLDER: Final = Path(__file__).with_name("corpus")
LONGEST: Final = 1024
"""Bytes of an input that is kept."""
Target = Callable[[bytes], None]
_Places = set[tuple[str, int, int]]
_OURS: Final = ("/handfast_tunnel/", "/handfast_operator/")


def kept(name: str) -> tuple[bytes, ...]:
    path = FOLDER / f"{name}.txt"
    return tuple(map(base64.b64decode, path.read_text().splitlines())) if path.exists() else ()


def keep(name: str, inputs: Iterable[bytes]) -> None:
    FOLDER.mkdir(exist_ok=True)
    lines = [
        base64.b64encode(data).decode() for data in sorted(set(inputs), key=lambda data: (len(data), data))
    ]
    (FOLDER / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))


def smallest(target: Target, inputs: Iterable[bytes], known: Iterable[bytes] = ()) -> list[bytes]:
    """Of these inputs those that reach what neither the known nor smaller ones do."""
    reached: _Places = set()
    for data in known:
        reached |= _places(target, data)
    chosen = []
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        if len(data) <= LONGEST and not reached >= (places := _places(target, data)):
            reached |= places
            chosen.append(data)
    return chosen


def _places(target: Target, data: bytes) -> _Places:
    """Steps from line to line in what is fuzzed."""
    places: _Places = set()
    last: dict[FrameType, int] = {}

    def step(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            places.add((frame.f_code.co_filename, last.get(frame, 0), frame.f_lineno))
            last[frame] = frame.f_lineno
        return step

    def enter(frame: FrameType, _event: str, _argument: Any) -> Any:
        return step if any(part in frame.f_code.co_filename for part in _OURS) else None

    former = sys.gettrace()
    sys.settrace(enter)
    try:
        target(data)
    finally:
        sys.settrace(former)
    return places
