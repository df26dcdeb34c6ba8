"""What may befall a tunnel's processes, and how it is brought about."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from itertools import cycle
from typing import Final

from tests.lab import restarts
from tests.lab.peer import Peer

from .commands import start_interface


class Event(StrEnum):
    WORKER = "worker killed"
    BULK = "worker killed under bulk traffic"
    MANY_PEERS = "worker killed, many peers"
    HANG = "worker hangs"
    TREE = "worker and keeper killed, started again"
    CONTAINER = "container killed, started again"
    SIGTERM = "SIGTERM, started again"
    SERIES = "50 restarts in one session's life"
    LINK = "link down and up: keys lost"
    LOST_KEYS = "keys lost, all killed, started again"

    @property
    def keeps_keys(self) -> bool:
        return self not in {Event.LINK, Event.LOST_KEYS}

    def rounds(self, usual: int) -> int:
        """How often it is measured: a watchdog takes its time, and a series is one."""
        if self is Event.HANG:
            return min(usual, 5)
        return min(usual * 3, 50) if self is Event.SERIES else usual


def happening(event: Event) -> Callable[[Peer], float]:
    """What does it to a server, and returns when it began (CLOCK_MONOTONIC)."""
    if event is Event.SERIES:
        restart = cycle((_DO[Event.WORKER], _DO[Event.TREE], _DO[Event.SIGTERM]))

        def another(server: Peer) -> float:
            return next(restart)(server)

        return another
    return _DO[event]


def _link_down_and_up(server: Peer) -> float:
    restarts.take_down(server)
    server.bring_up()
    return time.monotonic()


def _start_again(server: Peer, number: signal.Signals) -> float:
    """All in one step, as a script would."""
    at = restarts.end_tree(server, number)
    links = [f"address add {server.ipv4}/24 dev {server.interface}", f"link set {server.interface} up"]
    server.process = start_interface(
        server.implementation, server.node, server.configuration(), links, server.environment
    )
    return at


def _lose_keys_and_start_again(server: Peer) -> float:
    at = time.monotonic()
    restarts.take_down(server)
    _start_again(server, signal.SIGKILL)
    return at


_DO: Final[dict[Event, Callable[[Peer], float]]] = {
    Event.WORKER: restarts.kill_worker,
    Event.BULK: restarts.kill_worker,
    Event.MANY_PEERS: restarts.kill_worker,
    Event.HANG: restarts.hang_worker,
    Event.TREE: partial(_start_again, number=signal.SIGKILL),
    Event.CONTAINER: partial(_start_again, number=signal.SIGKILL),
    Event.SIGTERM: partial(_start_again, number=signal.SIGTERM),
    Event.LINK: _link_down_and_up,
    Event.LOST_KEYS: _lose_keys_and_start_again,
}
