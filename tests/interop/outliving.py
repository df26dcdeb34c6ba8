"""What the tests of continuity share: ways to end a process, and connections that must not notice."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.interop.conftest import Pair
from tests.lab.filters import Message
from tests.lab.namespaces import LabError, Node, wait_until
from tests.lab.peer import Peer
from tests.lab.wire import Datagram


def worker_of(peer: Peer) -> int:
    """The process that serves: the keeper's child."""
    keeper = peer.running.pid
    workers = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    if len(workers) != 1:
        raise LabError(f"the keeper {keeper} has {len(workers)} workers: {peer.running.output()}")
    return int(workers[0])


def status_of(server: Peer, client: Peer) -> dict[str, Any]:
    """What `handfast-tunnel status --json` says of one peer."""
    peers: list[dict[str, Any]] = json.loads(server.command("status", server.interface, "--json"))["peers"]
    return next(peer for peer in peers if peer["public_key"] == client.keys.public)


def wait_for_method(server: Peer, client: Peer, method: str, timeout: float = 5) -> None:
    """Wait until the peer is back, by this rung of the ladder."""
    wait_until(
        lambda: status_of(server, client)["method"] == method, timeout, f"the peer to be back: {method}", 0.1
    )


def kill_worker(server: Peer) -> float:
    """kill -9 of the worker alone: its keeper forks the next one. Returns when."""
    former = worker_of(server)
    at = time.monotonic()
    os.kill(former, signal.SIGKILL)
    keeper = server.running.pid
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    wait_until(lambda: children.read_text().split() not in ([], [str(former)]), 5, "the next worker", 0.001)
    return at


def end_tree(server: Peer) -> float:
    """kill -9 of the keeper, which its worker does not outlive. Returns when."""
    worker = worker_of(server)
    at = server.kill()
    wait_until(lambda: not Path(f"/proc/{worker}").exists(), 5, "the worker to follow its keeper", 0.001)
    return at


def kill_tree(server: Peer) -> float:
    """kill -9 of keeper and worker, and at once the same again, in the order of wg-quick."""
    at = end_tree(server)
    server.start()
    return at


def end_and_start(server: Peer) -> float:
    """SIGTERM and start."""
    at = time.monotonic()
    assert server.stop() == 0
    server.start()
    return at


def take_down(server: Peer) -> None:
    """Link down, and wait until the tunnel has zeroed its keys."""
    downs = server.running.output().count(": down\n")
    server.link("down")
    wait_until(lambda: server.running.output().count(": down\n") > downs, 5, "the tunnel to be down", 0.002)


EVENTS: Final[dict[str, Callable[[Peer], float]]] = {
    "worker": kill_worker,
    "tree": kill_tree,
    "sigterm": end_and_start,
}


def handshakes(pair: Pair, since: float) -> list[Datagram]:
    """All handshake messages on the client's cable."""
    return [d for d in pair.on_client_cable.matching(since=since) if d.type is not Message.TRANSPORT]


class Conversation:
    """A TCP connection that stays open; a context manager."""

    def __init__(self, caller: Node, callee: Node, address: str, port: int) -> None:
        with callee.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen()
            listener.settimeout(10)
            self._caller = caller.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._caller.settimeout(10)
            self._caller.connect((address, port))
            self._callee, _ = listener.accept()
        self._callee.settimeout(10)
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caller.close()
        self._callee.close()

    def goes_on(self) -> None:
        """Either side says something, and the other hears it, in order and once."""
        for speaker, listener in ((self._caller, self._callee), (self._callee, self._caller)):
            self._said += 1
            words = f"{self._said:08}".encode()
            speaker.sendall(words)
            assert listener.recv(64) == words
