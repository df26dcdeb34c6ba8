"""What a service manager is told, at a datagram socket as systemd's, by the real program and its keeper."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast_tunnel.adapters.systemd import Notifier
from tests.lab.namespaces import Lab, Node, Process
from tests.lab.tools import tool

HANDFAST = str(tool("handfast-tunnel"))
WG = str(tool("wg"))
UNIT = Path(__file__).parents[3] / "docs" / "handfast-tunnel@.service"
SERVING = "READY=1\nSTATUS=serving; workers replaced so far: "


@pytest.fixture
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_nodes("node")[0]


class Manager:
    """systemd's end."""

    def __init__(self, node: Node, name: str) -> None:
        self._node = node
        self.name = name
        self._socket = node.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = f"\0{name[1:]}" if name.startswith("@") else f"/proc/{node.pid}/root{name}"
        self._socket.bind(address)
        self._socket.settimeout(10)

    def start(self, *options: str, watchdog: bool = True) -> Process:
        """As a service of Type=notify with a watchdog of half a minute for the main process, or another."""
        pid = "$$" if watchdog else "1"
        variables = f"NOTIFY_SOCKET={self.name} WATCHDOG_USEC=30000000 WATCHDOG_PID={pid}"
        command = shlex.join([HANDFAST, "-f", *options, "wg0"])
        return self._node.start("sh", "-c", f"export {variables}; exec {command}")

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def next_but(self, ignored: str) -> str:
        while (message := self.next()) == ignored:
            pass
        return message

    def is_told_nothing_for(self, seconds: float) -> bool:
        self._socket.settimeout(seconds)
        try:
            self.next()
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["/run/notify", "@handfast/notify"])
def manager(node: Node, request: pytest.FixtureRequest) -> Iterator[Manager]:
    manager = Manager(node, request.param)
    yield manager
    manager.close()


def test_from_start_to_end(node: Node, manager: Manager) -> None:
    process = manager.start()
    assert manager.next() == f"{SERVING}0"
    node.run(WG, "show", "wg0")
    assert [manager.next() for _ in range(3)] == ["WATCHDOG=1"] * 3
    os.kill(process.children()[0], signal.SIGKILL)
    assert manager.next_but("WATCHDOG=1") == "STATUS=the worker died (SIGKILL): the next one goes on"
    assert manager.next() == f"{SERVING}1"
    process.signal(signal.SIGTERM)
    assert manager.next_but("WATCHDOG=1") == "STOPPING=1\nSTATUS=ending"
    assert process.wait() == 0


@pytest.fixture
def by_path(node: Node) -> Iterator[Manager]:
    manager = Manager(node, "/run/notify")
    yield manager
    manager.close()


def test_a_worker_that_hangs_gives_no_sign_of_life(by_path: Manager) -> None:
    process = by_path.start()
    assert by_path.next().startswith(SERVING)
    hanging = process.children()[0]
    os.kill(hanging, signal.SIGSTOP)
    stopped = time.monotonic()
    message = by_path.next_but("WATCHDOG=1")
    assert message == "STATUS=the worker died (SIGKILL): the next one goes on"
    assert 4 < time.monotonic() - stopped < 9
    assert by_path.next() == f"{SERVING}1"


def test_a_keeper_that_hangs_gives_none(by_path: Manager) -> None:
    process = by_path.start()
    assert by_path.next().startswith(SERVING)
    assert by_path.next() == "WATCHDOG=1"
    process.signal(signal.SIGSTOP)
    by_path.is_told_nothing_for(0.1)
    assert by_path.is_told_nothing_for(2.5)
    process.signal(signal.SIGKILL)
    os.kill(process._popen.pid, signal.SIGCONT)  # nsenter stops and goes on with its child
    process.wait()


def test_another_process_watchdog_is_left_alone(by_path: Manager) -> None:
    by_path.start(watchdog=False)
    assert by_path.next().startswith(SERVING)
    assert by_path.is_told_nothing_for(2.5)


def test_without_state_memory_too(by_path: Manager) -> None:
    process = by_path.start("--state=none")
    assert by_path.next() == "READY=1\nSTATUS=serving"
    assert [by_path.next() for _ in range(2)] == ["WATCHDOG=1"] * 2
    process.signal(signal.SIGTERM)
    assert by_path.next_but("WATCHDOG=1") == "STOPPING=1\nSTATUS=ending"
    assert process.wait() == 0


def test_where_state_memory_is_refused_too(node: Node, by_path: Manager) -> None:
    """Then nothing is left to go on from: the manager begins anew."""
    node.run("mkdir", "-m", "755", "/run/handfast")
    process = by_path.start()
    assert by_path.next().startswith(SERVING)
    assert by_path.next() == "WATCHDOG=1"
    os.kill(process.children()[0], signal.SIGKILL)
    assert process.wait() == 128 + signal.SIGKILL


def test_a_manager_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
        for _ in range(2000):  # more than its queue takes
            notifier.alive()
    notifier.alive()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "nowhere")}).ready("serving")


def systemd_analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(tool("systemd-analyze")), *arguments], capture_output=True, text=True, timeout=60
    )


def test_the_unit_in_the_docs_is_one(tmp_path: Path) -> None:
    unit = tmp_path / "handfast-tunnel@wg0.service"
    unit.write_text(UNIT.read_text().replace("=handfast-tunnel", f"={HANDFAST}"))
    done = systemd_analyze("verify", "--man=no", str(unit))
    about_it = [line for line in done.stderr.splitlines() if "handfast" in line]
    assert (done.returncode, about_it) == (0, [])


def test_the_unit_in_the_docs_is_hardened() -> None:
    done = systemd_analyze("security", "--offline=yes", "--threshold=30", str(UNIT))
    assert done.returncode == 0, done.stdout
