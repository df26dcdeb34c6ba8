"""`make soak`'s share of fuzzing: an hour of processor time for all targets of both planes, and its result.

In turns of a minute or less, each target as long as the others; so it may be stopped and continued, and runs
beside other work. Who interrupts it has the result of what was done until then.
"""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.fuzz.search import Search
from tests.soak import document

HOUR: Final = 3600.0
TURN: Final = 60.0
TEXT: Final = """\
Every target of `tests/fuzz`, guided by coverage, from seeds and the kept corpus on: in Python by atheris,
where those of data planes run both planes and compare them; in Rust by libFuzzer.

| | |
|---|---|
| Date | {date} |
| Commit | {commit} |
| Python | {python} |
| Processor time | {minutes:.0f} min in {jobs} processes |
| Findings | {findings} |

| target | runs | places reached | processor time | findings |
|---|---|---|---|---|
{rows}
"""


@dataclass
class Share:
    """What became of one target."""

    search: Search
    scratch: Path
    runs: int = 0
    places: int = 0
    seconds: float = 0.0
    findings: list[bytes] = field(default_factory=list)
    broken: bool = False

    def turn(self, share: float) -> None:
        """One more turn, of what is left of its share."""
        outcome = self.search.run(self.scratch, min(TURN, max(share - self.seconds, 1)))
        self.runs += outcome.runs
        self.places = max(self.places, outcome.places)
        self.seconds += outcome.processor_seconds
        self.findings = outcome.findings
        self.broken = outcome.broken
        if self.broken:
            print(f"{outcome.report}\n{self.search}: FAILED for {self.findings}", flush=True)

    def row(self) -> str:
        figures = (f"{self.runs:,}", f"{self.places:,}", f"{self.seconds / 60:.1f} min", self.found)
        return f"| {self.search} | {' | '.join(figures)} |"

    @property
    def found(self) -> str:
        return str(len(self.findings) or int(self.broken))


def run(searches: Sequence[Search], jobs: int, *, keep: bool, hour: float = HOUR) -> int:
    """Exit status: 1 if anything was found."""
    commit = document.commit()
    share = hour / len(searches)
    with tempfile.TemporaryDirectory(prefix="handfast-fuzz-") as scratch, ThreadPoolExecutor(jobs) as pool:
        shares = [Share(search, Path(scratch) / str(number)) for number, search in enumerate(searches)]
        for each in shares:
            each.scratch.mkdir()
        try:
            _take_turns(shares, share, pool)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
        document.write("Fuzzing", _text(shares, commit, jobs))
        if keep:
            kept = sum(each.search.keep(each.scratch) for each in shares if not each.broken)
            print(f"{kept} inputs more are kept", flush=True)
    return int(any(each.broken for each in shares))


def _take_turns(shares: Sequence[Share], share: float, pool: ThreadPoolExecutor) -> None:
    while left := [each for each in shares if each.seconds < share and not each.broken]:
        list(pool.map(lambda each: each.turn(share), left))
        spent = sum(each.seconds for each in shares) / 60
        print(f"{spent:.1f} min, {len(left)} targets left", flush=True)


def _text(shares: Sequence[Share], commit: str, jobs: int) -> str:
    return TEXT.format(
        date=datetime.now(UTC).date(),
        commit=commit,
        python=platform.python_version(),
        minutes=sum(each.seconds for each in shares) / 60,
        jobs=jobs,
        findings=sum(int(each.found) for each in shares),
        rows="\n".join(each.row() for each in shares),
    )
