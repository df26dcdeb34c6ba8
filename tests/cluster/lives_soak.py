"""`make soak`: many lives of a cluster, one after the other; each has to leave nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import NamedTuple

from tests.soak import document

from .lives import live
from .settings import Settings

LIVES = 20
_LIVES = """\
{count} clusters were made and ended, one after the other, {date}, commit {commit}. Before and after
each one the host's interfaces, routes, rules, mounts, processes, cgroups and files were compared: nothing was
left.

| nodes | proxy | lives | seconds: median | max |
|---|---|---|---|---|
{rows}
"""


class Life(NamedTuple):
    nodes: int
    proxy: str
    seconds: float


def run() -> None:
    """Raises where something is left; then docs/soak.md stays as it is."""
    lives: list[Life] = []
    for number in range(LIVES):
        settings = Settings("soak", 1 + number % 2, "nftables" if number % 4 < 2 else "iptables")
        began = time.monotonic()
        live(settings)
        lives.append(Life(settings.nodes, settings.proxy, time.monotonic() - began))
        nodes, proxy, seconds = lives[-1]
        print(f"life {number + 1} of {LIVES}: {nodes} nodes, {proxy}, ", end="")
        print(f"{seconds:.1f} s, nothing left", flush=True)
    write(lives)


def write(lives: Sequence[Life]) -> None:
    rows = [_row(lives, nodes, proxy) for nodes, proxy in sorted({life[:2] for life in lives})]
    facts = {"count": len(lives), "date": datetime.now(UTC).date(), "commit": document.commit()}
    document.write("Lives of a cluster", _LIVES.format(**facts, rows="\n".join(rows)))


def _row(lives: Sequence[Life], nodes: int, proxy: str) -> str:
    seconds = [life.seconds for life in lives if life[:2] == (nodes, proxy)]
    return f"| {nodes} | {proxy} | {len(seconds)} | {median(seconds):.1f} | {max(seconds):.1f} |"
