"""`kubectl handfast` as people run it: through kubectl, in a pipe or on a terminal, as this user or that."""

from __future__ import annotations

import errno
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from .built import program
from .cluster import Cluster

WIDTH = 80
_PATIENCE = 120
_QUESTION = b"[y/N] "
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str = ""


@dataclass(frozen=True)
class Plugin:
    kubeconfig: Path
    namespace: str

    def pipe(self, *arguments: str) -> Said:
        done = subprocess.run(
            self._command(*arguments),
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            env=self._environment,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def terminal(self, *arguments: str, answer: str = "") -> Said:
        """On one of 80 columns, where a person types `answer`; both streams are what is seen."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, WIDTH, 0, 0))
        process = subprocess.Popen(
            self._command(*arguments),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            env=self._environment | {"TERM": "xterm-256color"},
        )
        os.close(theirs)
        seen = _read(ours, _QUESTION if answer else b"")
        if answer:
            os.write(ours, f"{answer}\n".encode())
            seen += _read(ours)
        os.close(ours)
        return Said(process.wait(_PATIENCE), seen)

    def completes(self, *words: str) -> list[str]:
        """What kubectl's completion offers for the last word."""
        command = [str(program("kubectl")), "__complete", "handfast", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE, env=self._environment
        )
        return [line.partition("\t")[0] for line in done.stdout.splitlines()]

    def _command(self, *arguments: str) -> list[str]:
        return [str(program("kubectl")), "handfast", "--namespace", self.namespace, *arguments]

    @property
    def _environment(self) -> dict[str, str]:
        """kubectl finds a plugin where it finds any program."""
        scripts = Path(sys.executable).parent
        return {
            "KUBECONFIG": str(self.kubeconfig),
            "PATH": f"{scripts}:{os.environ['PATH']}",
            "HOME": "/nonexistent",
        }


def _read(terminal: int, until: bytes = b"") -> str:
    """Until this comes, or nobody writes there any more."""
    seen = b""
    try:
        while (not until or until not in seen) and (chunk := os.read(terminal, 65536)):
            seen += chunk
    except OSError as error:
        if error.errno != errno.EIO:
            raise
    return seen.decode()


def visible(seen: str) -> list[str]:
    """The lines of what was seen, without colours and movements."""
    return [_CONTROL.sub("", line) for line in re.split("[\r\n]+", seen)]


def account(cluster: Cluster, namespace: str, name: str, folder: Path) -> Path:
    """A kubeconfig of a service account, which may nothing."""
    cluster.kubectl("create", "serviceaccount", name, "--namespace", namespace)
    token = cluster.kubectl("create", "token", name, "--namespace", namespace).strip()
    return _changed(cluster, folder / name, "user", {"token": token})


def dead(cluster: Cluster, folder: Path) -> Path:
    """A kubeconfig that says that the cluster is where nobody is."""
    return _changed(cluster, folder / "dead", "cluster", {"server": "https://127.0.0.1:1"})


def _changed(cluster: Cluster, file: Path, kind: Literal["user", "cluster"], said: dict[str, str]) -> Path:
    """The cluster's kubeconfig with another user, or with something else said of the cluster."""
    found = yaml.safe_load(cluster.settings.kubeconfig.read_text())
    entry = found[f"{kind}s"][0]
    entry[kind] = said if kind == "user" else entry[kind] | said
    file.write_text(yaml.safe_dump(found))
    return file
