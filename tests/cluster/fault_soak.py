"""`make soak`: every end of a handover, then fifty rounds of faults, on a cluster made for that."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.soak import document

from . import faults, handover_steps
from .api import Api
from .cluster import Cluster
from .faults import Round
from .gateways import install, without_operator
from .outside import Outside
from .scene import BOUND, OWN_TIMERS, TOGETHER
from .settings import Settings
from .stepping import Stepping

ROUNDS = 50
SEED = int(os.environ.get("SEED", "1"))
_STEPS = """\
A handover of a gateway of three pods is stopped after each of its calls, and the operator, the old pod or the
new pod is killed there; a killed operator is started again at once. Two clients, one behind NAT, ask 20 times
a second. {count} ends on a cluster of two nodes; {date}, commit {commit}, load average {load:.1f} on
{processors} processors. {wrong}.

Required: one active pod within {bound:.0f} s, never two for longer than {together:.0f} s while there is an
operator, all clients answered within {bound:.0f} s ({late:.0f} s where they had gone over to a pod that died
before anybody could ask it), and no status that says what no pod has answered.
"""
_FAULTS = """\
{count} rounds with seed {seed} on a gateway of two pods behind a load balancer, on a cluster of two nodes.
Three clients, one behind NAT, ask 20 times a second. {date}, commit {commit}, load average {load:.1f} on
{processors} processors. Seconds from the end of each fault on:

| fault | rounds | not one pod active: median | max | a client without answer: median | max | required |
|---|---|---|---|---|---|---|
{rows}

{wrong}.

What was checked on each client's cable from the first round to the last: no counter came twice under one key,
no initiation was answered by two pods, and no session came back after a later one had begun. Two pods were
never active for longer than {together:.0f} s while the operator reached both.
"""


def run() -> list[str]:
    """What was wrong."""
    cluster = Cluster(Settings("soak", 2))
    cluster.up(owner=os.getpid())
    try:
        install(cluster)
        return _rounds(cluster) + _steps(cluster)
    except BaseException:
        print(cluster.report())
        raise
    finally:
        cluster.down()


def _steps(cluster: Cluster) -> list[str]:
    wrong = []
    with (
        _namespace(cluster, "steps") as api,
        Outside(cluster) as outside,
        _stepping(cluster) as operator,
        handover_steps.scene(cluster, api, outside) as scene,
    ):
        for step, victim in handover_steps.ALL:
            if found := handover_steps.complaint(scene, operator, step, victim):
                print(found, file=sys.stderr)
                wrong.append(found)
    text = _STEPS.format(
        count=len(handover_steps.ALL), **_common(wrong), bound=BOUND, late=BOUND + OWN_TIMERS
    )
    document.write("Ends of handovers", text)
    return wrong


def _rounds(cluster: Cluster) -> list[str]:
    """Whoever interrupts them gets the result of those that were done."""
    done: list[Round] = []
    with (
        _namespace(cluster, "faults") as api,
        Outside(cluster) as outside,
        faults.scene(cluster, api, outside) as scene,
        suppress(KeyboardInterrupt),
    ):
        for each in faults.rounds(scene, SEED, ROUNDS):
            done.append(each)
            print(f"{each.number}: {each.fault}: {each.recovery} {' '.join(each.wrong)}", flush=True)
    wrong = [f"round {each.number}, {each.fault}: {found}" for each in done for found in each.wrong]
    rows = "\n".join(_row(fault, done) for fault in faults.FAULTS)
    text = _FAULTS.format(count=len(done), seed=SEED, rows=rows, **_common(wrong))
    document.write("Faults of a cluster", text)
    return wrong


def _row(fault: faults.Fault, done: list[Round]) -> str:
    seen = [each.recovery for each in done if each.fault == fault.name]
    if not seen:
        return f"| {fault.name} | 0 | | | | | {fault.bound:.0f} |"
    figures = [
        f"{pick(values):.1f}"
        for values in ([each.not_one.longest for each in seen], [each.silence for each in seen])
        for pick in (median, max)
    ]
    return f"| {fault.name} | {len(seen)} | {' | '.join(figures)} | {fault.bound:.0f} |"


def _common(wrong: list[str]) -> dict[str, object]:
    return {
        "date": datetime.now(UTC).date(),
        "commit": document.commit(),
        "wrong": f"Not as required: {'; '.join(wrong)}" if wrong else "All were as required",
        "together": TOGETHER,
        "load": os.getloadavg()[2],
        "processors": os.cpu_count(),
    }


@contextmanager
def _namespace(cluster: Cluster, name: str) -> Iterator[Api]:
    api = Api(cluster.settings.kubeconfig, name)
    api.create_namespace()
    try:
        yield api
    finally:
        api.delete_namespace()
        api.close()


@contextmanager
def _stepping(cluster: Cluster) -> Iterator[Stepping]:
    with tempfile.TemporaryDirectory(prefix="handfast-soak-") as directory, without_operator(cluster):
        operator = Stepping(cluster, Path(directory))
        operator.start()
        try:
            yield operator
        finally:
            operator.kill()
