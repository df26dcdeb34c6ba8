"""The processes of tunnels on a cluster's nodes, found and asked past Kubernetes and the operator.

What a pod says on its own socket is what it does, and a question there changes nothing: the operator's calls
are noted by pods, these are not.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab.namespaces import wait_until

from . import cgroups
from .cluster import Cluster
from .gateways import Gateway

_PATIENCE = 2.0
_SOCKET = "run/handfast/wg0.control"


@dataclass(frozen=True)
class Insider:
    """One pod's tunnel: its processes, keeper and workers, as the host counts them."""

    pod: str
    pids: tuple[int, ...]

    def signal(self, number: int) -> None:
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Keeper and workers at once: the container ends."""
        self.signal(signal.SIGKILL)

    def kill_workers(self) -> None:
        """The keeper starts another one."""
        for pid in self.pids:
            with suppress(OSError):
                if _parent(pid) in self.pids:
                    os.kill(pid, signal.SIGKILL)

    def standing(self) -> dict[str, Any] | None:
        """Role, term and generation by its own word; None where it does not answer."""
        for pid in self.pids:
            with suppress(OSError, ValueError):
                return self._ask(f"/proc/{pid}/root/{_SOCKET}")
        return None

    @staticmethod
    def _ask(path: str) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE)
            connection.connect(path)
            connection.sendall(b'{"call": "role"}\n')
            with connection.makefile("rb") as stream:
                answer: dict[str, Any] = json.loads(stream.readline())
        return answer


class Insiders:
    """Those of one gateway; pods that are being taken away count while their processes run."""

    def __init__(self, cluster: Cluster, gateway: Gateway) -> None:
        self._cluster, self._gateway = cluster, gateway
        self._names: dict[str, str] = {}

    def all(self) -> list[Insider]:
        """Of every pod that ever was seen."""
        for pod in self._gateway.pods():
            self._names[pod["metadata"]["uid"]] = pod["metadata"]["name"]
        found: dict[str, list[int]] = {}
        for pid, uid in self._processes():
            if uid in self._names:
                found.setdefault(self._names[uid], []).append(pid)
        return [Insider(pod, tuple(pids)) for pod, pids in found.items()]

    def of(self, pod: str) -> Insider:
        return next((each for each in self.all() if each.pod == pod), Insider(pod, ()))

    def roles(self) -> dict[str, str]:
        """Of those that answer."""
        standings = {each.pod: each.standing() for each in self.all()}
        return {pod: standing["role"] for pod, standing in standings.items() if standing}

    def active(self) -> list[str]:
        return sorted(pod for pod, role in self.roles().items() if role == "active")

    def wait_told(self, pod: str) -> None:
        """Until standbys were told of all sessions that an active pod has by now."""

        def told() -> int:
            return int((self.of(pod).standing() or {"told": 0})["told"])

        before = told()
        # The operator may be asking now, and the next time has told others before it asks once more.
        wait_until(lambda: told() >= before + 3, 60, f"{pod} to tell of its sessions", 0.1)

    def uids(self) -> dict[str, str]:
        """The names of pods by their uids, also of those that are gone."""
        return dict(self._names)

    def _processes(self) -> Iterator[tuple[int, str]]:
        """Each process of a tunnel, and its pod's uid."""
        group = cgroups.trees()[0] / cgroups.cluster_group(self._cluster.settings.name)
        # Unlike a glob, this passes over what goes away meanwhile.
        for folder, _, _ in os.walk(group):
            pod = Path(folder).parent.name
            if pod.startswith("pod"):
                yield from ((pid, pod.removeprefix("pod")) for pid in _tunnels(Path(folder)))


def _tunnels(group: Path) -> Iterator[int]:
    """Processes of tunnels in a container's group, which may end at any moment."""
    pids: list[int] = []
    with suppress(OSError):
        pids = [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    for pid in pids:
        with suppress(OSError):
            if b"handfast-tunnel\0run" in Path(f"/proc/{pid}/cmdline").read_bytes():
                yield pid


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
