"""Clusters that belong to a run of pytest: all its workers use them, and they end with it."""

from __future__ import annotations

import os
from pathlib import Path

from .settings import STATE, Settings

OWNER = "HANDFAST_TEST_OWNER"
"""The process number of the run; its workers inherit it."""
IMAGES = os.environ.get("HANDFAST_TEST_IMAGES", "handfast.test")
"""Where somebody's own cluster finds the images that tests use."""


def begin() -> None:
    """This process is the run, unless a run has started it."""
    os.environ.setdefault(OWNER, str(os.getpid()))


def end() -> None:
    """Remove the run's clusters, if this process is the run."""
    if os.environ.get(OWNER) != str(os.getpid()):
        return
    from .cluster import Cluster

    for state in STATE.glob(f"{run_name('*')}"):
        Cluster(Settings(state.name)).down()


def run_name(kind: str) -> str:
    return f"test-{os.environ[OWNER]}-{kind}"


def foreign_kubeconfig() -> Path | None:
    """Of somebody's own cluster, on which the tests are to run."""
    given = os.environ.get("HANDFAST_TEST_KUBECONFIG")
    return Path(given) if given else None
