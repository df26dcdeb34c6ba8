"""Hosts without machines: network namespaces that need no root and leave nothing behind.

A `Lab` holds one user namespace; each `Node` in it has a network, a PID and a mount namespace of its own,
with an empty /run, so that several interfaces called `wg0` do not meet. Nodes live as long as the line
to their first process (`agent.py`): a lab whose owner is killed vanishes too.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from .agent import REQUEST

_AGENT = Path(__file__).with_name("agent.py")
# Addresses work at once when nobody waits for duplicates of them.
_BECOME_AGENT = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
ip link set lo up
sysctl -qw net.ipv6.conf.default.dad_transmits=0
exec "$@"
"""


class LabError(Exception):
    """The lab itself failed: a namespace, a command, or a wait that took too long."""


def wait_until(condition: Callable[[], object], timeout: float, what: str, interval: float = 0.02) -> None:
    """Poll until `condition` holds; `what` completes the sentence "waited 5 s for ..."."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s for {what}")
        time.sleep(interval)


def children_of(pid: int) -> list[int]:
    """The eldest first; none of a process that is gone."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


class Process:
    """A program in a node. `pid` is its own, as seen from outside, not that of the `nsenter` around it."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self.log = log
        self.pid = self._find_child()

    def _find_child(self) -> int:
        deadline = time.monotonic() + 5
        while self._popen.poll() is None and time.monotonic() < deadline:
            if found := children_of(self._popen.pid):
                return found[0]
            time.sleep(0.001)
        raise LabError(f"{self._popen.args!r} did not start: {self.output()}")

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def poll(self) -> int | None:
        return self._popen.poll()

    def wait(self, timeout: float = 5) -> int:
        return self._popen.wait(timeout)

    def children(self) -> list[int]:
        """Its child processes, as seen from outside."""
        return children_of(self.pid)

    def signal(self, number: int) -> None:
        if self._popen.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone, and those that do not outlive it."""
        children = children_of(self.pid)
        self.signal(signal.SIGKILL)
        self.wait()
        wait_until(
            lambda: not any(Path(f"/proc/{child}").exists() for child in children),
            5,
            "its children to end",
            0.001,
        )

    def terminate(self, timeout: float = 5) -> int:
        self.signal(signal.SIGTERM)
        return self.wait(timeout)


class Node:
    """One host of a lab."""

    def __init__(self, name: str, user_namespace: int, directory: Path) -> None:
        self.name = name
        self.directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        enter = ["nsenter", "--preserve-credentials", "--user", f"--target={user_namespace}"]
        unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"]
        agent = [sys.executable, "-I", "-S", str(_AGENT), str(theirs.fileno())]
        with theirs:
            self._holder = subprocess.Popen(
                [*enter, *unshare, "sh", "-c", _BECOME_AGENT, "sh", *agent], pass_fds=[theirs.fileno()]
            )

    def wait_ready(self) -> None:
        self._line.settimeout(10)
        if self._line.recv(16) != b"ready":
            raise LabError(f"node {self.name}: no namespaces; are unprivileged user namespaces allowed?")

    @property
    def pid(self) -> int:
        """A process whose network namespace is the node's."""
        return self._holder.pid

    def _enter(self) -> list[str]:
        pid = self._holder.pid
        spaces = ["--user", "--net", "--mount", f"--pid=/proc/{pid}/ns/pid_for_children"]
        return ["nsenter", "--preserve-credentials", f"--target={pid}", *spaces, "--"]

    def run(self, *command: str, input: str | None = None, check: bool = True, timeout: float = 20) -> str:
        """Run a command to its end and return what it wrote; stderr is in the error if it fails."""
        done = self.attempt(*command, input=input, timeout=timeout)
        if check and done.returncode:
            raise LabError(f"{self.name}: {' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def attempt(
        self,
        *command: str,
        input: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = 20,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit status."""
        return subprocess.run(
            [*self._enter(), *_with_environment(environment), *command],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, log: str = "process"
    ) -> Process:
        """Start a command that stays; its output goes to a file of the lab."""
        path = self.directory / f"{self.name}-{log}.log"
        with path.open("ab") as output:
            popen = subprocess.Popen(
                [*self._enter(), *_with_environment(environment), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._started.append(popen)
        return Process(popen, path)

    def socket(self, family: int, type: int, protocol: int = 0) -> socket.socket:
        """A socket of this node's network, to be used in this process."""
        with self._lock:
            self._line.send(REQUEST.pack(family, type, protocol))
            message, descriptors, _, _ = socket.recv_fds(self._line, 1024, 1)
        if not descriptors:
            raise LabError(f"{self.name}: socket: {message.decode()}")
        return socket.socket(family, type, protocol, fileno=descriptors[0])

    def hang_up(self) -> None:
        """Tell the first process to end, and all others in the node with it."""
        self._line.close()

    def close(self) -> None:
        self.hang_up()
        try:
            self._holder.wait(5)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.wait()
        for popen in self._started:
            popen.wait(5)


def _with_environment(environment: Mapping[str, str] | None) -> list[str]:
    return ["env", *(f"{name}={value}" for name, value in environment.items())] if environment else []


class Lab:
    """One user namespace and the nodes in it; a context manager."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="handfast-lab-")
        self.directory = Path(self._directory.name)
        self.nodes: list[Node] = []
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout
        self._holder.stdout.readline()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add_nodes(self, *names: str) -> list[Node]:
        nodes = [Node(name, self._holder.pid, self.directory) for name in names]
        self.nodes += nodes
        for node in nodes:
            node.wait_ready()
        return nodes

    def cable(self, left: Node, left_name: str, right: Node, right_name: str, mtu: int = 1500) -> None:
        """Join two nodes by a pair of virtual Ethernet devices."""
        side = ["nsenter", "--preserve-credentials", "--user", "--net", f"--target={left.pid}", "ip", "link"]
        pair = ["type", "veth", "peer", "name", right_name, "mtu", str(mtu), "netns", str(right.pid)]
        subprocess.run([*side, "add", "name", left_name, "mtu", str(mtu), *pair], check=True)

    def close(self) -> None:
        for node in self.nodes:
            node.hang_up()
        for node in self.nodes:
            node.close()
        self._holder.communicate()
        self._directory.cleanup()
