"""Whole lives of clusters, and what is left after them: for tests, and many in a row for `make soak`."""

from __future__ import annotations

import os

from . import traces
from .cluster import Cluster
from .settings import Settings


def live(settings: Settings) -> None:
    """Up, a pod, down; raises AssertionError if anything is left."""
    cluster = Cluster(settings)
    before, files = traces.of_host(), traces.files(settings.name)
    cluster.up(owner=os.getpid())
    try:
        # A life that has made nothing would leave nothing.
        assert len(traces.processes(settings.name)) > len(cluster.machines)
        assert traces.groups(settings.name)
        assert traces.files(settings.name) - files
    finally:
        cluster.down()
    check_nothing_left(settings.name, before)
    assert traces.files(settings.name) == files


def check_nothing_left(name: str, before: dict[str, str]) -> None:
    """Compare the host with what it was; a namespace needs a process or a mount to be there."""
    after = traces.of_host()
    for what, seen in before.items():
        assert after[what] == seen, f"{what} has changed"
    assert not traces.groups(name)
    assert not traces.processes(name)
