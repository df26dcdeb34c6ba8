"""The keeper in its surroundings: hanging workers, PID namespaces, clocks that were set back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import handshakes, settle_pair
from tests.lab.implementations import Implementation, implementation
from tests.lab.namespaces import children_of, wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer
from tests.lab.probes import Probes
from tests.lab.restarts import end_tree, keeper_of, kill_worker, spare_of, take_down, worker_of
from tests.lab.wire import session_completed

WATCHDOG_SECONDS = 5.0


def test_a_hanging_worker_is_replaced(usual: Pair, probes: Probes) -> None:
    usual.start()
    probes.answer(usual.server.node)
    log = probes.ask(usual.client.node, usual.server.ipv4)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    settle_pair(usual)
    former = worker_of(usual.server)
    os.kill(former, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(lambda: log.settled(stopped), WATCHDOG_SECONDS + 5, "answers of another worker")
    assert worker_of(usual.server) != former
    assert log.longest_silence(stopped) < WATCHDOG_SECONDS + 1
    assert not handshakes(usual, stopped)


FAILS_ON_SIGNAL = """
import signal

def fail(*_):
    raise RuntimeError("a bug")

signal.signal(signal.SIGUSR1, fail)
"""


def test_a_failing_worker_is_replaced(usual: Pair, tmp_path: Path) -> None:
    """An exception that nobody expected is no end that anyone asked for: nothing is cleaned up."""
    (tmp_path / "sitecustomize.py").write_text(FAILS_ON_SIGNAL)
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    usual.server.environment |= {"PYTHONPATH": path, "LOG_LEVEL": "silent"}
    usual.start()
    usual.client.reaches(usual.server)
    former, began = worker_of(usual.server), time.monotonic()
    os.kill(former, signal.SIGUSR1)
    wait_until(lambda: usual.server.running.children()[:1] not in ([], [former]), 5, "the next worker")
    assert usual.client.ping(usual.server)
    assert not handshakes(usual, began)
    assert usual.server.wg("show", "wg0", "peers").strip() == usual.client.keys.public


def test_a_successor_ends_with_its_socket(usual: Pair) -> None:
    """As wireguard-go does; who watches the file outlives the worker."""
    usual.start()
    kill_worker(usual.server)
    usual.client.reaches(usual.server)
    usual.server.node.run("rm", "/run/wireguard/wg0.sock")
    assert usual.server.running.wait() == 0


@pytest.fixture
def contained(usual: Pair) -> Pair:
    """The keeper is process 1 of a PID namespace, as in a container."""
    usual.server.implementation = usual.server.implementation.in_container()
    usual.start()
    usual.client.reaches(usual.server)
    return usual


def test_as_process_1_it_goes_on_and_ends(contained: Pair) -> None:
    server, client = contained.server, contained.client
    keeper, began = keeper_of(server), time.monotonic()
    kill_worker(server)
    assert client.ping(server)
    assert not handshakes(contained, began)
    os.kill(keeper, signal.SIGTERM)
    assert server.running.wait() == 0
    assert not server.node.run("ls", "/run/wireguard")


def test_a_killed_container_resumes(contained: Pair) -> None:
    """What is left of it is the state memory: in a pod, a volume in memory."""
    began = end_tree(contained.server)
    contained.server.start()
    assert contained.client.ping(contained.server)
    assert contained.server.ping(contained.client)
    assert not handshakes(contained, began)


def test_as_process_1_it_reaps_orphans(contained: Pair) -> None:
    reaps_orphans(contained.server, [worker_of(contained.server), spare_of(contained.server)])


def reaps_orphans(server: Peer, others: list[int]) -> None:
    keeper = keeper_of(server)
    inside = ["nsenter", f"--target={keeper}", "--pid", "--user", "--preserve-credentials"]
    subprocess.run([*inside, "sh", "-c", "sleep 0.3 & sleep 0.3 &"], check=True)
    wait_until(lambda: len(children_of(keeper)) > len(others), 10, "the orphans to arrive")
    wait_until(lambda: children_of(keeper) == others, 5, "the orphans to be reaped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_process_1_it_is_ended_from_inside(contained: Pair, number: signal.Signals) -> None:
    """Signals without a handler do not reach a process 1."""
    server = contained.server
    inside = [
        "nsenter",
        f"--target={keeper_of(server)}",
        "--pid",
        "--user",
        "--mount",
        "--preserve-credentials",
    ]
    subprocess.run([*inside, "sh", "-c", f"kill -{number} 1"], check=True)
    assert server.running.wait() == 0
    assert not server.node.run("ls", "/run/wireguard")


def test_as_process_1_it_ends_with_1_when_too_many_workers_died(usual: Pair) -> None:
    server = usual.server
    server.implementation = server.implementation.in_container().with_options("--restart-limit=1/60")
    server.start()
    kill_worker(server)
    os.kill(worker_of(server), signal.SIGKILL)
    assert server.running.wait() == 1
    assert "2 workers died within 60 s: giving up" in server.running.output()


def test_as_process_1_it_ends_with_1_when_it_cannot_start(usual: Pair) -> None:
    handfast = usual.server.implementation.in_container()
    done = usual.server.node.attempt(*handfast.container, *handfast.command, "--state=/sys", "wg0")
    assert done.returncode == 1
    assert done.stderr.startswith("handfast-tunnel: no state memory")


def test_as_process_1_it_reaps_orphans_also_without_state_memory(usual: Pair) -> None:
    usual.server.node.run("mkdir", "-m", "755", "/run/handfast")
    usual.server.implementation = usual.server.implementation.in_container()
    usual.server.start()
    reaps_orphans(usual.server, [worker_of(usual.server)])


class Clock:
    """The wall clock of one peer; CLOCK_MONOTONIC stays as it is."""

    def __init__(self, peer: Peer, file: Path) -> None:
        self._file = file
        self.set("+0")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
        peer.environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        self._file.write_text(offset)


def completes_a_session_after_a_restart(pair: Pair) -> None:
    """Only marks, endpoints and indices are left: the client needs a handshake."""
    server, client, capture = pair.server, pair.client, pair.on_client_cable
    take_down(server)
    end_tree(server)
    restarted = time.monotonic()
    server.start()
    capture.wait_for(lambda: session_completed(capture, restarted), 5, "a session")
    client.reaches(server, timeout=8)  # what it sends before it hears of the new keys is lost
    assert server.ping(client)


@pytest.mark.parametrize("offset", ["-1h", "+1h"])
def test_the_servers_clock_is_wrong_after_a_restart(serving: Pair, tmp_path: Path, offset: str) -> None:
    """Behind, its stamps go on from the stored mark; ahead, those of the client are still taken."""
    server, client = serving.server, serving.client
    clock = Clock(server, tmp_path / "clock")
    serving.start()
    client.reaches(server)
    clock.set(offset)
    completes_a_session_after_a_restart(serving)
    clock.set("+0")
    completes_a_session_after_a_restart(serving)


def test_the_clients_clock_is_behind_after_a_restart(
    network: Network, handfast: Implementation, tmp_path: Path
) -> None:
    """The server would refuse its initiations as old: it greets the client itself."""
    pair = make_pair(network, handfast, implementation("boringtun"), handfast_serves=True)
    server, client = pair.server, pair.client
    clock = Clock(client, tmp_path / "clock")
    pair.start()
    client.reaches(server)
    clock.set("-1h")
    completes_a_session_after_a_restart(pair)
