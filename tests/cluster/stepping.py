"""The operator as it is, outside of its pod, that stops in the middle of a handover, after a step of it.

A program of its own, so that it can be killed. After the call that the file STEP names it sends itself
SIGSTOP. What pods answer it goes into the file JOURNAL, before it acts on it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handfast_operator.__main__ import main as operator_main
from handfast_operator.roles import HANDOVER
from handfast_operator.store import Store
from handfast_tunnel.control.client import ControlClient
from handfast_tunnel.control.status import Status
from tests.lab.namespaces import wait_until

from . import beside
from .api import Api
from .cluster import Cluster
from .gateways import SYSTEM

STEPS = tuple(stage.call for stage in HANDOVER if stage.call is not None)


@dataclass
class Stepping:
    """How a test runs it; `directory` is the test's own."""

    cluster: Cluster
    directory: Path
    _process: subprocess.Popen[bytes] | None = None
    _starts: int = 0

    def start(self) -> None:
        """By the same name each time: it takes up the Lease of the one before, as a restarted container."""
        self._starts += 1
        with self._log.open("ab") as log:
            self._process = beside.start(
                self.cluster, "tests.cluster.stepping", self._environment(), self.directory, log
            )

    def _environment(self) -> dict[str, str]:
        system = Api(self.cluster.settings.kubeconfig, SYSTEM)
        (container,) = system.get("Deployment", "handfast")["spec"]["template"]["spec"]["containers"]
        system.close()
        given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        return given | {
            "HANDFAST_IDENTITY": "stepping",
            "STEP": str(self._step),
            "JOURNAL": str(self._journal),
        }

    @property
    def _log(self) -> Path:
        return self.directory / "operator.log"

    @property
    def _step(self) -> Path:
        return self.directory / "step"

    @property
    def _journal(self) -> Path:
        return self.directory / "journal"

    def stop_after(self, step: str) -> None:
        draft = self._step.with_suffix(".draft")
        draft.write_text(step)
        draft.rename(self._step)

    def wait_stopped(self) -> None:
        assert self._process is not None
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def wait_leading(self) -> None:
        """Until the one that was started last has the Lease."""
        wait_until(
            lambda: self._log.read_text().count(": Leading") == self._starts, 60, "the operator to lead"
        )

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wait_ended(self, timeout: float) -> int:
        """Its exit status."""
        assert self._process is not None
        return self._process.wait(timeout)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def answers(self) -> list[dict[str, Any]]:
        """Everything that pods said to it, in order."""
        return [json.loads(line) for line in self._journal.read_text().splitlines()]

    def log(self) -> str:
        return self._log.read_text()[-6000:]


# The program


def _stop_after(step: str) -> None:
    path = Path(os.environ["STEP"])
    if path.exists() and path.read_text() == step:
        path.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


def _stepped(step: str, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def stepped(*arguments: Any, **options: Any) -> Any:
        result = await call(*arguments, **options)
        _stop_after(step)
        return result

    return stepped


def _stepped_merge(merge: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Nothing else than a flip is merged into a Service."""

    async def stepped(store: Store, api: str, kind: str, *arguments: Any, **options: Any) -> Any:
        result = await merge(store, api, kind, *arguments, **options)
        if kind == "Service":
            _stop_after("flip")
        return result

    return stepped


def _journalled(read: Callable[[object], Status]) -> Callable[[object], Status]:
    journal = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def journalled(value: object) -> Status:
        status = read(value)
        said = {name: getattr(status, name) for name in ("pod_uid", "role", "term", "generation")}
        os.write(journal, json.dumps(said).encode() + b"\n")
        return status

    return journalled


def main() -> int:
    for step in ("drain", "activate", "commit"):
        setattr(ControlClient, step, _stepped(step, getattr(ControlClient, step)))
    setattr(Store, "merge", _stepped_merge(Store.merge))  # noqa: B010  a method, for mypy
    setattr(Status, "from_json", _journalled(Status.from_json))  # noqa: B010
    return operator_main()


if __name__ == "__main__":
    sys.exit(main())
