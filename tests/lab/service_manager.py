"""A real systemd on a node: process 1 of a PID namespace, with control groups of its own, and units of ours.

It sees the machine's files, read-only, and its node's /run; of the units that systemd brings only those that
a service cannot do without. Control groups are the one thing of it that lies outside the node's namespaces:
they need root.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .namespaces import LabError, Node, wait_until
from .tools import tool

_PROGRAM: Final = Path("/lib/systemd/systemd")
_SYSTEM_UNITS: Final = Path("/lib/systemd/system")
_BORROWED: Final = (
    "basic.target",
    "modprobe@.service",
    "multi-user.target",
    "network-online.target",
    "shutdown.target",
    "sysinit.target",
)
_UNSHARE: Final = "unshare --cgroup --ipc --mount --mount-proc --pid --uts --fork --kill-child --"
# What it would change of the machine is out of its reach: files, kernel parameters, the kernel's log.
_BECOME_PROCESS_1: Final = """
set -e
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs -o mode=700 tmpfs /etc/wireguard
touch "$1.log"; mount --bind "$1.log" /dev/kmsg
mount --bind /dev/null /dev/console
mount --bind "${1%/*}" "${1%/*}"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
export container=handfast SYSTEMD_UNIT_PATH="$1" SYSTEMD_GENERATOR_PATH=/var/empty
exec "$2" --log-target=kmsg
"""


def _groups() -> Path:
    """Where version 2 of control groups is mounted, beside version 1 or alone."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[fields.index("-") + 1] == "cgroup2":
            return Path(fields[4])
    raise LabError("control groups of version 2 are mounted nowhere; systemd needs them")


class ServiceManager:
    """A context manager. Units are by file name; `files` lie in /etc/wireguard."""

    def __init__(self, node: Node, units: Mapping[str, str], files: Mapping[str, str]) -> None:
        self.node = node
        self._group = _groups() / f"{node.directory.name}-{node.name}"
        folder = node.directory / f"{node.name}-units"
        folder.mkdir()
        for name in _BORROWED:
            (folder / name).symlink_to(_SYSTEM_UNITS / name)
        (folder / "default.target").symlink_to(_SYSTEM_UNITS / "multi-user.target")
        for name, text in units.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
        self._group.mkdir()
        try:
            self._start(folder)
            for name, text in files.items():
                path = Path(f"/proc/{self.pid}/root/etc/wireguard/{name}")
                path.touch(mode=0o600)
                path.write_text(text)
        except BaseException:
            self.close()
            raise

    def _start(self, units: Path) -> None:
        join = f'echo 0 >{self._group}/cgroup.procs; exec {_UNSHARE} "$@"'
        become = ("sh", "-c", _BECOME_PROCESS_1, "sh", str(units), str(_PROGRAM))
        process = self.node.start("sh", "-ec", join, "sh", *become, log="systemd")
        wait_until(lambda: process.children() or process.poll() is not None, 10, "a process 1")

        def is_up() -> bool:
            if process.poll() is not None:
                raise LabError(f"systemd ended: {process.output()}")
            self.pid = process.children()[0]
            return self.attempt("is-system-running").stdout.strip() in {"running", "degraded"}

        wait_until(is_up, 20, "systemd to be up", 0.05)

    def attempt(self, *command: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """systemctl, whatever its exit status."""
        enter = ("nsenter", "--preserve-credentials", f"--target={self.pid}")
        spaces = ("--user", "--net", "--mount", "--pid", "--")
        systemctl = (*enter, *spaces, str(tool("systemctl")), *command)
        return subprocess.run(systemctl, capture_output=True, text=True, timeout=timeout)

    def run(self, *command: str, timeout: float = 60) -> str:
        """systemctl."""
        done = self.attempt(*command, timeout=timeout)
        if done.returncode:
            raise LabError(f"systemctl {' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def show(self, unit: str, property: str) -> str:
        return self.run("show", "--value", f"--property={property}", unit).strip()

    def main_pid(self, unit: str) -> int:
        """Of a service, as seen from outside; 0 where it has none."""
        inner = self.show(unit, "MainPID")
        for pid in self.processes(unit):
            status = Path(f"/proc/{pid}/status").read_text()
            if any(line.startswith("NSpid") and line.split()[-1] == inner for line in status.splitlines()):
                return pid
        return 0

    def processes(self, unit: str) -> list[int]:
        """All of a service, as seen from outside."""
        lists = [path.read_text() for path in self._group.rglob(f"{unit}/**/cgroup.procs")]
        return [int(pid) for pid in "".join(lists).split()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """All that runs under it ends with it."""
        (self._group / "cgroup.kill").write_text("1")
        wait_until(self._is_removed, 10, f"{self._group} to be empty")

    def _is_removed(self) -> bool:
        with suppress(OSError):  # a process in it has not quite ended
            for folder, _, _ in os.walk(self._group, topdown=False):
                Path(folder).rmdir()
        return not self._group.exists()
