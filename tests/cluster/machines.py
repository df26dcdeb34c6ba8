"""Machines without hardware: namespaces with a first process of their own, which holds everything in them.

A machine has its own network, process numbers and mounts; /run, /var/lib and /var/log are its own, so that
programs find their usual folders. When the first process ends, all processes, mounts and interfaces of the
machine end. Nothing of it is visible on the host but processes, control groups, and the folder of its logs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from signal import SIGTERM

from tests.lab.namespaces import wait_until

from . import cgroups
from .built import program
from .settings import ClusterError, Settings

_SPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
# The source of each tmpfs has a name of its own: the kubelet finds the file system of a folder by it.
_BECOME_MACHINE = """
set -e
name=$1 state=$2 init=$3
mount --make-rshared /
hostname "$name"
ip link set lo up
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv6.conf.default.dad_transmits=0 net.ipv6.conf.default.accept_dad=0
mount -t tmpfs -o mode=755 handfast-run /run
mkdir /run/lock /run/cluster
mount --bind "$state" /run/cluster
mount --bind "$state/log/$name" /var/log
mount -t tmpfs -o mode=755 handfast-lib /var/lib
touch /var/log/ready
exec "$init"
"""
_JOIN = 'echo $$ >"$0" && exec "$@"'
_DAEMON = 'name=$0; setsid "$@" </dev/null >>"/var/log/$name.log" 2>&1 & echo $! >"/run/$0.pid"'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MARK = "HANDFAST_CLUSTER"
"""The variable that tells of every process to which cluster it belongs."""
STATE = "/run/cluster"
"""Where a machine finds the folder of its cluster."""


class Machine:
    """One machine of a cluster; making the object starts nothing."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings, self.name = settings, name
        self.log = settings.state / "log" / name
        self._environment = {"PATH": _PATH, MARK: settings.name}

    def start(self) -> None:
        group = cgroups.create(self.settings.name, self.name)
        self.log.mkdir(parents=True, exist_ok=True)
        setup = [
            "sh",
            "-c",
            _BECOME_MACHINE,
            "sh",
            self.name,
            str(self.settings.state),
            str(program("pause")),
        ]
        unshare = ["unshare", *_SPACES, "--fork", "--mount-proc", *setup]
        with (self.log / "machine.log").open("ab") as log:
            subprocess.run(
                ["setsid", "--fork", "sh", "-c", _JOIN, group, *unshare],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self._environment,
            )
        wait_until((self.log / "ready").exists, 20, f"{self.name} to start; {log.name} says why it did not")

    @cached_property
    def pid(self) -> int:
        """Its first process, as seen from the host."""
        for pid in cgroups.processes(self.settings.name, f"{self.name}/{cgroups.OWN}"):
            with suppress(FileNotFoundError):
                status = Path(f"/proc/{pid}/status").read_text()
                if status.partition("NSpid:")[2].split("\n")[0].split()[-1] == "1":
                    return pid
        raise ClusterError(f"{self.settings.name}: {self.name} does not run")

    def running(self) -> bool:
        try:
            return bool(self.pid)
        except ClusterError:
            return False

    def _enter(self) -> list[str]:
        group = str(cgroups.procs_file(self.settings.name, self.name))
        return ["sh", "-c", _JOIN, group, "nsenter", f"--target={self.pid}", *_SPACES, "--"]

    def attempt(
        self, *command: str, input: str | None = None, timeout: float = 60, pass_fds: Iterable[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever its exit status."""
        return subprocess.run(
            [*self._enter(), *command],
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
            pass_fds=tuple(pass_fds),
            env=self._environment,
            cwd="/",
        )

    def run(
        self, *command: str, input: str | None = None, timeout: float = 60, pass_fds: Iterable[int] = ()
    ) -> str:
        """Run a command to its end and return what it wrote."""
        done = self.attempt(*command, input=input, timeout=timeout, pass_fds=pass_fds)
        if done.returncode:
            raise ClusterError(f"{self.name}: {' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def daemon(self, name: str, *command: str, pass_fds: Iterable[int] = ()) -> None:
        """Start a program that stays, and whose output goes to NAME.log."""
        self.run("sh", "-c", _DAEMON, name, *command, pass_fds=pass_fds)

    def signal(self, daemon: str, number: int = SIGTERM) -> None:
        self.run("sh", "-c", f'kill -{int(number)} "$(cat /run/{daemon}.pid)"')

    def alive(self, daemon: str) -> bool:
        # A zombie has ended, whatever its first process has had time for.
        look = f'pid=$(cat /run/{daemon}.pid) && grep -qs "^State:.[^Z]" "/proc/$pid/status"'
        return self.attempt("sh", "-c", look).returncode == 0

    def stop(self, daemon: str, number: int = SIGTERM, timeout: float = 20) -> None:
        """End a daemon and wait for its end."""
        self.signal(daemon, number)
        wait_until(lambda: not self.alive(daemon), timeout, f"{daemon} on {self.name} to end")

    def ip(self, *commands: str) -> None:
        self.run("ip", "-batch", "-", input="\n".join(commands))

    def freeze(self) -> None:
        cgroups.freeze(self.settings.name, self.name, frozen=True)

    def thaw(self) -> None:
        cgroups.freeze(self.settings.name, self.name, frozen=False)

    def sysctl(self, values: Mapping[str, object]) -> None:
        self.run("sysctl", "-qw", *(f"{name}={value}" for name, value in values.items()))
