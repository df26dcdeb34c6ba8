"""Clusters come and go without a trace, even when whoever makes them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.lab.namespaces import wait_until

from . import traces
from .cluster import Cluster
from .lives import check_nothing_left, live
from .settings import Settings
from .shared import run_name

_ROOT = Path(__file__).parents[2]


def test_a_life_leaves_no_trace() -> None:
    live(Settings(run_name("life"), 2, "nftables"))


def kill_in_the_middle(settings: Settings) -> None:
    """Kill the maker of a cluster when its control plane begins to run."""
    options = {"NAME": settings.name, "NODES": str(settings.nodes)}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up"], cwd=_ROOT, env={**os.environ, **options}
    ) as maker:
        log = settings.state / "log" / "control" / "kube-apiserver.log"
        wait_until(log.exists, 200, "the control plane to begin")
        # Later it may be gone: whoever makes another cluster removes this one.
        assert traces.processes(settings.name)
        maker.send_signal(signal.SIGKILL)
    assert not settings.complete.exists()


def test_down_removes_what_a_crash_has_left() -> None:
    settings = Settings(run_name("crashed"), 0)
    before = traces.of_host()
    kill_in_the_middle(settings)
    Cluster(settings).down()
    check_nothing_left(settings.name, before)
    assert not settings.state.exists()


def test_the_next_up_removes_what_a_crash_has_left() -> None:
    crashed, next_one = Settings(run_name("killed"), 0), Cluster(Settings(run_name("next"), 0))
    kill_in_the_middle(crashed)
    next_one.up(owner=os.getpid())
    try:
        assert not traces.processes(crashed.name)
        assert not crashed.state.exists()
        # Again, it is there already.
        port = next_one.settings.kubeconfig.read_text()
        next_one.up()
        assert next_one.settings.kubeconfig.read_text() == port
    finally:
        next_one.down()
