"""Ways to end the processes of a Handfast tunnel, as fate does."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .namespaces import LabError, children_of, wait_until
from .peer import Peer


def keeper_of(peer: Peer) -> int:
    """The process that was started; in a container it is process 1."""
    return _eldest_child(peer, peer.running.pid) if peer.implementation.container else peer.running.pid


def worker_of(peer: Peer) -> int:
    """The process that serves: the keeper's eldest child, because a spare is forked once it does."""
    return _eldest_child(peer, keeper_of(peer))


def spare_of(peer: Peer) -> int:
    """The process that waits to take over; there is one a second after the worker serves."""
    keeper = keeper_of(peer)
    wait_until(lambda: len(children_of(keeper)) > 1, 10, "a spare worker")
    return children_of(keeper)[1]


def _eldest_child(peer: Peer, parent: int) -> int:
    children = children_of(parent)
    if not children:
        raise LabError(f"process {parent} has no children: {peer.running.output()}")
    return children[0]


def status_of(server: Peer, client: Peer) -> dict[str, Any]:
    """What `handfast-tunnel status --json` says of one peer."""
    peers: list[dict[str, Any]] = json.loads(server.command("status", server.interface, "--json"))["peers"]
    return next(peer for peer in peers if peer["public_key"] == client.keys.public)


def kill_worker(server: Peer) -> float:
    """kill -9 of the worker alone: its keeper forks the next one. Returns when."""
    return _until_replaced(server, signal.SIGKILL)


def kill_worker_and_spare(server: Peer) -> float:
    """kill -9 of both, so that the keeper has to fork the next worker. Returns when."""
    spare, worker, keeper = spare_of(server), worker_of(server), keeper_of(server)
    at = time.monotonic()
    os.kill(spare, signal.SIGKILL)
    os.kill(worker, signal.SIGKILL)
    wait_until(
        lambda: children_of(keeper) and not {spare, worker} & {*children_of(keeper)}, 10, "a worker", 0.001
    )
    return at


def hang_worker(server: Peer) -> float:
    """Stops the worker: the keeper's watchdog kills it, and the next one goes on. Returns when it stopped."""
    return _until_replaced(server, signal.SIGSTOP)


def _until_replaced(server: Peer, number: signal.Signals) -> float:
    former, keeper = worker_of(server), keeper_of(server)
    at = time.monotonic()
    os.kill(former, number)
    wait_until(lambda: children_of(keeper)[:1] not in ([], [former]), 10, "the next worker", 0.001)
    return at


def end_tree(server: Peer, number: signal.Signals = signal.SIGKILL) -> float:
    """Sends the keeper a signal, which its worker and its spare do not outlive. Returns when."""
    keeper = keeper_of(server)
    processes = [Path(f"/proc/{pid}") for pid in (keeper, *children_of(keeper))]
    at = time.monotonic()
    os.kill(keeper, number)
    wait_until(lambda: not any(map(Path.exists, processes)), 5, "worker and keeper to end", 0.001)
    status = server.running.wait()
    # What waits for a killed container's process 1 says so in its own way.
    assert status == (0 if number is signal.SIGTERM else -number) or server.implementation.container
    return at


def kill_tree(server: Peer) -> float:
    """kill -9 of keeper and worker, and at once the same again, in the order of wg-quick."""
    at = end_tree(server)
    server.start()
    return at


def end_and_start(server: Peer) -> float:
    """SIGTERM and start."""
    at = end_tree(server, signal.SIGTERM)
    server.start()
    return at


def take_down(server: Peer) -> None:
    """Link down, and wait until the tunnel has zeroed its keys."""
    _until_logged(server, ": down\n", lambda: server.link("down"))


def lose_keys(server: Peer) -> float:
    """Takes the link down and up: keys are zeroed, indices stay. Returns when it listens again."""
    take_down(server)
    _until_logged(server, ": up on port ", server.bring_up)
    return time.monotonic()


def _until_logged(server: Peer, line: str, act: Callable[[], None]) -> None:
    before = server.running.output().count(line)
    act()
    wait_until(lambda: server.running.output().count(line) > before, 5, f"the log to say '{line}'", 0.002)


EVENTS: Final[dict[str, Callable[[Peer], float]]] = {
    "worker": kill_worker,
    "tree": kill_tree,
    "sigterm": end_and_start,
}
