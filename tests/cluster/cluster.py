"""Clusters from nothing to Ready, and back to nothing."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from tests.lab.namespaces import wait_until

from . import cgroups, control_plane, images, network, node
from .built import program
from .certificates import Authority
from .images import Image
from .machines import Machine
from .settings import CONTROL, ROUTER, STATE, ClusterError, Settings, lock_file

_MANIFESTS = Path(__file__).with_name("manifests")
_OWNER = "owner"


class Cluster:
    """One cluster, running or not."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.machines = {name: Machine(settings, name) for name in settings.machine_names}
        self.router, self.control = self.machines[ROUTER], self.machines[CONTROL]
        self.nodes = [self.machines[name] for name in settings.node_names]

    def up(self, *, owner: int | None = None) -> None:
        """Make it, unless it runs already. It goes with the process `owner`, if there is one."""
        with _lock():
            _remove_abandoned()
            if self._runs():
                return
            remove(self.settings.name)
            try:
                self._make(owner, images.of_project() if self.nodes else [])
            except BaseException:
                print(self.report())
                remove(self.settings.name)
                raise

    def down(self) -> None:
        """Remove every trace of it."""
        with _lock():
            remove(self.settings.name)
            _remove_abandoned()

    def kubectl(self, *arguments: str, input: str | None = None, timeout: float = 60) -> str:
        """Run kubectl as the cluster's administrator, and return what it wrote."""
        command = [str(program("kubectl")), "--kubeconfig", str(self.settings.kubeconfig), *arguments]
        done = subprocess.run(command, input=input, capture_output=True, text=True, timeout=timeout)
        if done.returncode:
            raise ClusterError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def node_status(self, name: str) -> str:
        """Is the node Ready? True, False, or Unknown when it has not been heard of for too long."""
        path = '{.status.conditions[?(@.type=="Ready")].status}'
        return self.kubectl("get", "node", name, "--output", f"jsonpath={path}")

    def _runs(self) -> bool:
        if not self.settings.complete.exists() or not all(
            machine.running() for machine in self.machines.values()
        ):
            return False
        if (others := self.settings.found()) != self.settings:
            raise ClusterError(f"{others} runs: remove it first, or take another NAME")
        return True

    def _make(self, owner: int | None, project: list[Image]) -> None:
        state = self.settings.state
        state.mkdir(parents=True, mode=0o755)
        if owner:
            (state / _OWNER).write_text(f"{owner} {_started(owner)}")
        authority = control_plane.make_certificates(self.settings)
        # The first machine makes the folders that all of them share.
        for machine in self.machines.values():
            machine.start()
        network.make_router(self.router, self.settings.node_names)
        for machine in [self.control, *self.nodes]:
            network.plug_in(machine, self.router, self.settings.node_names)
        with ThreadPoolExecutor() as pool:
            prepared = [pool.submit(self._prepare, machine, authority) for machine in self.nodes]
            control_plane.start(self.control, self.settings, authority)
            for done in prepared:
                done.result()
            loaded = [pool.submit(node.load_images, machine, project) for machine in self.nodes]
            for machine in self.nodes:
                node.start(machine)
            self._publish(authority)
            self._wait_ready()
            for done in loaded:
                done.result()
        self.settings.complete.write_text(json.dumps(asdict(self.settings)))

    def _publish(self, authority: Authority) -> None:
        port = control_plane.forward(self.control)
        self.settings.kubeconfig.touch(mode=0o600)
        self.settings.kubeconfig.write_text(authority.kubeconfig("admin", f"https://127.0.0.1:{port}"))

    def _prepare(self, machine: Machine, authority: Authority) -> None:
        node.prepare(machine, self.settings, authority)
        node.load_images(machine, images.of_system())

    def _wait_ready(self) -> None:
        default = ("get", "serviceaccount", "default", "--namespace", "default")
        if self.nodes:
            self.kubectl("apply", "--filename", str(_MANIFESTS / "coredns.yaml"))
            wait_until(lambda: self._nodes_ready() == len(self.nodes), 60, "all nodes to be Ready", 0.2)
            rollout = ("rollout", "status", "deployment/coredns", "--namespace=kube-system")
            self.kubectl(*rollout, "--timeout=60s", timeout=70)
        # It comes a moment later, and without it no pod is admitted.
        wait_until(lambda: self._succeeds(*default), 30, "the default service account", 0.2)

    def _nodes_ready(self) -> int:
        path = '{range .items[*].status.conditions[?(@.type=="Ready")]}{.status}{"\\n"}{end}'
        return self.kubectl("get", "nodes", "--output", f"jsonpath={path}").split().count("True")

    def _succeeds(self, *arguments: str) -> bool:
        with suppress(ClusterError):
            self.kubectl(*arguments)
            return True
        return False

    def report(self) -> str:
        """The last complaints in all logs, for people who look for what went wrong."""
        parts = []
        for log in sorted((self.settings.state / "log").glob("*/*.log")):
            complaints = [line for line in log.read_text(errors="replace").splitlines() if _complains(line)]
            parts.append("\n".join([f"--- {log.parent.name}/{log.name}", *complaints[-15:]]))
        return "\n".join(parts)


def _complains(line: str) -> bool:
    """Is this line of a log more than information? Kubernetes begins lines with a letter and the date."""
    return not (line[:1] == "I" and line[1:5].isdecimal()) and " level=info " not in line


def provide_images() -> list[Image]:
    """Make the images that are missing."""
    with _lock():
        return [*images.of_system(), *images.of_project()]


def remove(name: str) -> None:
    """Remove whatever is left of a cluster; whoever calls this holds the lock."""
    cgroups.remove(name)
    if (STATE / name).exists():
        shutil.rmtree(STATE / name)
    with suppress(OSError):
        STATE.rmdir()


def _remove_abandoned() -> None:
    """Remove clusters that were left in the middle of their making, or whose owner has ended."""
    for state in list(STATE.glob("*")):
        if not Settings(state.name).complete.exists() or _owner_ended(state / _OWNER):
            remove(state.name)


def _owner_ended(owner: Path) -> bool:
    if not owner.exists():
        return False
    pid, started = owner.read_text().split()
    return _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process started, in ticks: with its number that is unique."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return "never"


@contextmanager
def _lock() -> Iterator[None]:
    if os.geteuid():
        raise ClusterError("a cluster's nodes need root: try again with sudo --preserve-env=HOME")
    file = lock_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
