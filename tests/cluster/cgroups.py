"""Control groups, both versions: they tell which processes are a machine's, freeze them, and end them.

Version 1 has a tree for each controller; its freezer's is the one that says who belongs where. Version 2 has
one tree. Everything of a cluster lies below /handfast-NAME/MACHINE in each.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from .settings import ClusterError

ROOT = Path("/sys/fs/cgroup")
OWN = "machine"
"""The group of a machine's own processes, beside that of its pods: in version 2 they lie in leaves only."""


@cache
def unified() -> bool:
    """Is this version 2 alone?"""
    return (ROOT / "cgroup.controllers").exists()


@cache
def trees() -> tuple[Path, ...]:
    """The roots of all trees in which pods get groups; the first one says who belongs where."""
    if unified():
        return (ROOT,)
    found = [tree for tree in sorted(ROOT.iterdir()) if (tree / "cgroup.procs").exists()]
    found.sort(key=lambda tree: tree.name != "freezer")
    if not found or found[0].name != "freezer":
        raise ClusterError(f"{ROOT}: neither version 2 nor a freezer of version 1 is mounted there")
    return tuple(dict.fromkeys(tree.resolve() for tree in found))


def cluster_group(cluster: str) -> str:
    return f"handfast-{cluster}"


def procs_file(cluster: str, machine: str) -> Path:
    """What a process writes its number to, to be one of the machine's."""
    return trees()[0] / cluster_group(cluster) / machine / OWN / "cgroup.procs"


def create(cluster: str, machine: str) -> str:
    """Make a machine's groups; returns the file by which processes join."""
    group = f"{cluster_group(cluster)}/{machine}"
    for tree in trees():
        folder = tree / group
        folder.mkdir(parents=True, exist_ok=True)
        if tree.name == "cpuset" and not unified():
            _inherit_cpus(folder.parent)
            _inherit_cpus(folder)
    own = procs_file(cluster, machine)
    own.parent.mkdir(exist_ok=True)
    return str(own)


def _inherit_cpus(folder: Path) -> None:
    # A new group of cpuset has neither processors nor memory, and takes no process.
    for name in ("cpuset.cpus", "cpuset.mems"):
        if not (folder / name).read_text().strip():
            (folder / name).write_text((folder.parent / name).read_text())


def processes(cluster: str, machine: str = "") -> Iterator[int]:
    """Every process of a cluster or of one of its machines, pods included."""
    for folder, _, _ in os.walk(trees()[0] / cluster_group(cluster) / machine):
        with suppress(OSError):
            yield from (int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split())


def freeze(cluster: str, machine: str, *, frozen: bool) -> None:
    """Stop the time of a machine's processes, or let it go on."""
    folder = trees()[0] / cluster_group(cluster) / machine
    if unified():
        (folder / "cgroup.freeze").write_text("1" if frozen else "0")
    elif (folder / "freezer.state").exists():
        (folder / "freezer.state").write_text("FROZEN" if frozen else "THAWED")


def machines(cluster: str) -> list[str]:
    """The machines of a cluster of which anything is left."""
    group = cluster_group(cluster)
    return sorted({d.name for tree in trees() for d in (tree / group).glob("*") if d.is_dir()})


def remove(cluster: str, timeout: float = 30) -> None:
    """End all processes of a cluster, and remove its groups."""
    deadline = time.monotonic() + timeout
    for machine in machines(cluster):
        freeze(cluster, machine, frozen=False)
    while left := list(processes(cluster)):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        _or_raise(deadline, f"processes {left} do not end")
        time.sleep(0.02)
    for tree in trees():
        while not _remove_tree(tree / cluster_group(cluster)):
            _or_raise(deadline, f"{tree / cluster_group(cluster)} cannot be removed")
            time.sleep(0.02)


def _remove_tree(top: Path) -> bool:
    for folder, _, _ in os.walk(top, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not top.exists()


def _or_raise(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise ClusterError(what)
