"""One target under one fuzzer, in a process of its own: atheris for Python, libFuzzer for Rust."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.fuzz import corpus

_RUNS: Final = re.compile(r"^Done (\d+) runs", re.MULTILINE)
_PLACES: Final = re.compile(r"cov: (\d+)")
_INTERRUPTED: Final = "run interrupted"
_LONGEST: Final = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    runs: int
    places: int
    findings: list[bytes]
    """What breaks the target."""
    failed: bool
    report: str
    processor_seconds: float

    @property
    def broken(self) -> bool:
        return self.failed or bool(self.findings)


@dataclass(frozen=True, slots=True)
class Search:
    """`program` is what was compiled of the target; None for the one in Python."""

    name: str
    program: Path | None = None

    def __str__(self) -> str:
        return f"{self.name}, in Rust" if self.program else self.name

    def run(self, scratch: Path, seconds: float) -> Outcome:
        """Goes on from what is in `scratch`, or begins there with seeds and what was kept."""
        if not (found := scratch / "corpus").exists():
            # A process of Python brings its own seeds: they may be under keys of its own.
            _write(found, self.beginning() if self.program else corpus.kept(self.name))
        if self.program:
            command = [str(self.program), *_options(seconds, scratch)]
        else:
            command = [sys.executable, "-m", "tests.fuzz", f"--seconds={seconds:g}"]
            command += [f"--scratch={scratch}", self.name]
        status, said, spent = _run(command)
        findings = [path.read_bytes() for path in scratch.glob("*-*") if path.is_file()]
        runs, places = _RUNS.search(said), _PLACES.findall(said)
        interrupted = _INTERRUPTED in said or -status in (signal.SIGINT, signal.SIGTERM)
        return Outcome(
            runs=int(runs[1]) if runs else 0,
            places=int(places[-1]) if places else 0,
            findings=findings,
            failed=not interrupted and (status != 0 or runs is None),
            report=said,
            processor_seconds=spent,
        )

    def beginning(self) -> tuple[bytes, ...]:
        from tests.fuzz.targets import TARGETS

        return (*TARGETS[self.name][1], *corpus.kept(self.name))

    def keep(self, scratch: Path) -> int:
        """Adds to what is kept whatever leads further; returns how much that is."""
        found = [path.read_bytes() for path in (scratch / "corpus").iterdir()]
        further = self._merged(found, scratch) if self.program else self._smallest(found)
        corpus.keep(self.name, (*corpus.kept(self.name), *further))
        return len(further)

    def _smallest(self, found: Sequence[bytes]) -> list[bytes]:
        from tests.fuzz.targets import TARGETS

        return corpus.smallest(TARGETS[self.name][0], found, self.beginning())

    def _merged(self, found: Sequence[bytes], scratch: Path) -> list[bytes]:
        known, new = scratch / "known", scratch / "new"
        _write(known, self.beginning())
        _write(new, [data for data in found if len(data) <= corpus.LONGEST])
        _run([str(self.program), "-merge=1", "-use_counters=0", str(known), str(new)])
        return [path.read_bytes() for path in known.iterdir() if not path.name.startswith("input-")]


def _write(folder: Path, inputs: Sequence[bytes]) -> None:
    folder.mkdir()
    for number, data in enumerate(inputs):
        (folder / f"input-{number}").write_bytes(data)


def _options(seconds: float, scratch: Path) -> list[str]:
    """How long, and from what on; what breaks a target is left in `scratch`. It may be stopped for a while:
    nothing is called slow."""
    limits = [f"-max_total_time={seconds:g}", f"-max_len={_LONGEST}", "-report_slow_units=1000000"]
    return [*limits, f"-artifact_prefix={scratch}/", str(scratch / "corpus")]


def environment() -> dict[str, str]:
    """The compiled targets link Python's library, though none of them starts an interpreter."""
    return {"LD_LIBRARY_PATH": sysconfig.get_config_var("LIBDIR") or ""}


def _run(command: Sequence[str]) -> tuple[int, str, float]:
    """Exit status, what it said, and the processor time it took."""
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **environment()})
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        said = output.read().decode(errors="replace")
    return child.returncode, said, usage.ru_utime + usage.ru_stime


def look_in_this_process(name: str, seconds: float, scratch: Path) -> None:
    """A target in Python; the process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["handfast_tunnel", "handfast_operator"]):
        from tests.fuzz.targets import TARGETS

    target, seeds = TARGETS[name]
    for number, seed in enumerate(seeds):
        (scratch / "corpus" / f"seed-{number}").write_bytes(seed)
    atheris.Setup([sys.argv[0], *_options(seconds, scratch)], target)
    atheris.Fuzz()


def all_of(names: Sequence[str]) -> list[Search]:
    """Those targets, or all, in Python and as far as they are in Rust."""
    from tests.fuzz.targets import TARGETS

    chosen = names or list(TARGETS)
    compiled = [Search(name, program) for name, program in _compiled().items() if name in chosen]
    return [*map(Search, chosen), *compiled]


def _compiled() -> dict[str, Path]:
    """Programs by target; none where cargo or the compiler for libFuzzer is missing."""
    if not (shutil.which("cargo") and shutil.which("c++")):
        return {}
    built = subprocess.run(["scripts/fuzz-native"], stdout=subprocess.PIPE, text=True, check=True)
    folder = Path(built.stdout.strip())
    sources = Path("tunnel/native/fuzz/src/bin").glob("*.rs")
    return {source.stem: folder / source.stem for source in sorted(sources)}
