"""What Peers cost the operator, few and many, on a real cluster of one node."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any


def run(counts: Iterable[int], say: Callable[[str], None]) -> list[dict[str, Any]]:
    # Only this needs what talks to Kubernetes.
    from tests.cluster import many_peers
    from tests.cluster.cluster import Cluster
    from tests.cluster.settings import Settings

    cluster = Cluster(Settings(f"bench-{os.getpid()}"))
    cluster.up(owner=os.getpid())
    costs = []
    try:
        with tempfile.TemporaryDirectory(prefix="handfast-bench-") as directory:
            for count in counts:
                costs.append(asdict(many_peers.measure(cluster, count, Path(directory))))
                say("  " + ", ".join(_line(costs[-1])))
    finally:
        cluster.down()
    return costs


def table(costs: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    first = ["Peers", "until all are Ready", "calls", "processor time", "memory"]
    change = ["one change: until Programmed", "slowest", "calls", "processor time"]
    return [*first, *change], list(map(_line, costs))


def _line(cost: Mapping[str, Any]) -> list[str]:
    return [
        f"{cost['count']:,}",
        f"{cost['seconds']:.1f} s",
        f"{cost['calls']:,}",
        f"{cost['processor_seconds']:.1f} s",
        f"{cost['megabytes']:.0f} MB",
        f"{cost['change_seconds']:.2f} s",
        f"{cost['slowest_change_seconds']:.2f} s",
        f"{cost['change_calls']:.1f}",
        f"{cost['change_processor_seconds'] * 1000:.0f} ms",
    ]
