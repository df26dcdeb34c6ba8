"""`make soak`'s look at the compiled data plane's memory: its tests and its fuzz targets under valgrind.

An error counts where the compiled data plane is among its callers: what an interpreter or a fuzzer does by
itself is none of ours.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.fuzz import search
from tests.soak import document

TESTS: Final = "tests/unit/test_native.py"
OURS: Final = "handfast_native"
_TRACING: Final = "__sanitizer_cov_"
"""How a fuzzer looks at values that are compared, also where none has been set yet."""
_LOST_FOR_CERTAIN: Final = ("--leak-check=full", "--show-leak-kinds=definite")
TEXT: Final = """\
The compiled data plane under {version}: its tests, which call it from Python, and every fuzz target in Rust
with its seeds and the kept corpus. Errors are reads and writes where nothing is, decisions by what was never
set, and memory that is lost for certain.

| | |
|---|---|
| Date | {date} |
| Commit | {commit} |
| Errors | {errors} |

| what ran | tests or inputs | errors |
|---|---|---|
{rows}
"""


@dataclass(frozen=True, slots=True)
class Look:
    what: str
    count: int
    errors: list[str]
    """What valgrind says of each."""

    def row(self) -> str:
        return f"| {self.what} | {self.count:,} | {len(self.errors)} |"


def of_tests() -> Look:
    """With the system's allocator, whose blocks valgrind knows."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-n0",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "timeout=3600",
        TESTS,
    ]
    done, found = _under_valgrind(command, PYTHONMALLOC="malloc")
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    if done.returncode or passed is None:
        raise SystemExit(f"{done.stdout}\n{done.stderr}")
    return Look(f"`{TESTS}`", int(passed[1]), found)


def of_target(each: search.Search) -> Look:
    inputs = each.beginning()
    with tempfile.TemporaryDirectory(prefix="handfast-valgrind-") as folder:
        paths = [Path(folder) / str(number) for number in range(len(inputs))]
        for path, data in zip(paths, inputs, strict=True):
            path.write_bytes(data)
        done, found = _under_valgrind([str(each.program), *map(str, paths)], **search.environment())
    if done.returncode:
        raise SystemExit(f"{each}: {done.stderr}")
    return Look(str(each), len(inputs), found)


def _under_valgrind(
    command: Sequence[str], **environment: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """How the command ended, and its errors that are ours."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as written:
        valgrind = ["valgrind", "--quiet", *_LOST_FOR_CERTAIN, "--xml=yes", f"--xml-file={written.name}"]
        done = subprocess.run(
            [*valgrind, *command], capture_output=True, text=True, env={**os.environ, **environment}
        )
        return done, errors_in(Path(written.name).read_text())


def errors_in(written: str) -> list[str]:
    """Each error in what valgrind wrote that is ours, in its words."""
    found = ET.fromstring(written).iter("error")  # noqa: S314  # valgrind is trusted
    return [_words(each) for each in found if _is_ours(list(_places(each)))]


def _is_ours(places: Sequence[str]) -> bool:
    return any(OURS in place for place in places) and not any(_TRACING in place for place in places)


def _places(error: ET.Element) -> Iterable[str]:
    return (frame.findtext("obj", "") + frame.findtext("fn", "") for frame in error.iter("frame"))


def _words(error: ET.Element) -> str:
    stack = " <- ".join(frame.findtext("fn", "?") for frame in error.iter("frame"))
    return f"{error.findtext('kind')}: {error.findtext('what') or error.findtext('xwhat/text')}: {stack}"


def main() -> int:
    commit = document.commit()
    version = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True).stdout
    looks = [of_tests(), *(of_target(each) for each in search.all_of([]) if each.program)]
    errors = [error for look in looks for error in look.errors]
    text = TEXT.format(
        version=version.strip(),
        date=datetime.now(UTC).date(),
        commit=commit,
        errors=len(errors),
        rows="\n".join(look.row() for look in looks),
    )
    document.write("Memory of the compiled data plane", text)
    print("\n".join(errors))
    print(f"{document.RESULT.name}: {len(errors)} errors of the compiled data plane")
    return int(bool(errors))


if __name__ == "__main__":
    sys.exit(main())
