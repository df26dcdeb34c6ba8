"""Many kills of the worker: how many lose anything, and whether any ever reuses a nonce or repeats a packet.

python -m bench kills                       100 packets/s, killed now and then
python -m bench soak-kills --kills 2000     thousands of packets/s, killed at any moment, takeovers too
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab import restarts
from tests.lab.filters import Message
from tests.lab.implementations import implementation
from tests.lab.namespaces import LabError, wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce
from tests.lab.probes import Probes

from .ring import Ring
from .scene import CLIENTS, lost_between

CALM_RATE: Final = 100.0
ECHO_PORT: Final = 7007
BURST: Final = 2
TICK: Final = 0.001
LONGEST_LIFE: Final = 0.15
"""A worker that took over lives for up to so long: some do not come that far."""
_IPV4: Final = 0x45
_UDP_HEADERS: Final = 20 + 8
_MESSAGE: Final = 32 + 48
"""An echo of 8 bytes in its UDP and IP headers, padded, under WireGuard's header and tag."""
_INDEX_AND_COUNTER: Final = struct.Struct("<IQ")
_TRANSPORT: Final = Message.TRANSPORT.to_bytes(4, "little")


class Pair:
    """A server whose worker may die at will, and a client; a context manager."""

    def __init__(self) -> None:
        self.network = Network()
        server_host, client_host = self.network.add("server", "client")
        program = implementation("handfast").with_options("--restart-limit=100000/60", LOG_LEVEL="error")
        self.server, self.client = Peer(server_host, program), Peer(client_host, implementation(CLIENTS[0]))
        introduce(self.client, self.server)

    def __enter__(self) -> Pair:
        for peer in (self.server, self.client):
            peer.start()
        self.client.reaches(self.server)
        return self

    def __exit__(self, *_: object) -> None:
        self.network.close()


def calm(kills: int, say: Callable[[str], None]) -> list[int]:
    """How many packets each kill cost a client that asks CALM_RATE times a second."""
    costs: list[int] = []
    with Pair() as pair, Probes() as probes:
        probes.answer(pair.server.node)
        log = probes.ask(pair.client.node, pair.server.ipv4, rate=CALM_RATE)
        wait_until(lambda: log.settled(0), 10, "the first answers")
        for _ in range(kills):
            time.sleep(0.2 + random.random() / CALM_RATE)
            at = restarts.kill_worker(pair.server)
            wait_until(lambda at=at: log.settled(at, 3), 10, "answers after a kill")  # type: ignore[misc]
            end = time.monotonic()
            time.sleep(0.3)
            costs.append(lost_between(log, at - 0.1, end))
    say(f"  {sum(cost > 0 for cost in costs)} of {kills} kills lost anything, at most {max(costs)} packets")
    return costs


@dataclass(slots=True)
class Soak:
    """What was seen on the wire and at both ends; every field but the first five must be 0."""

    kills: int = 0
    seconds: float = 0.0
    on_the_wire: int = 0
    asked: int = 0
    answered: int = 0
    repeated_counters: int = 0
    """Packets whose counter did not rise under their key: a nonce used twice, or a packet sent twice."""
    twice_at_server: int = 0
    twice_at_client: int = 0
    unseen: int = 0
    """Packets that the reader of the wire missed: it could not swear."""

    @property
    def clean(self) -> bool:
        faults = self.repeated_counters + self.twice_at_server + self.twice_at_client + self.unseen
        return faults == 0 and self.answered > 0


class _Soaking:
    def __init__(self, pair: Pair, ring: Ring, kills: int) -> None:
        self._pair, self._ring, self._target = pair, ring, kills
        self.result = Soak()
        self._highest: dict[int, int] = {}
        self._at_server: set[bytes] = set()
        self._at_client: set[bytes] = set()
        self._echo = _socket(pair.server, ECHO_PORT)
        self._asking = _socket(pair.client)
        keeper = pair.server.running.pid
        self._children = Path(f"/proc/{keeper}/task/{keeper}/children")
        self._last = 0

    def run(self, say: Callable[[str], None]) -> Soak:
        began = time.monotonic()
        kill_at = began + 1
        result = self.result
        while result.kills < self._target:
            turn = time.monotonic()
            self._turn()
            if turn >= kill_at and self._kill():
                kill_at = turn + random.random() * LONGEST_LIFE
                if result.kills % 200 == 0:
                    say(f"  {result.kills} kills, {result.on_the_wire:,} packets, {self._faults()}")
            time.sleep(max(turn + TICK - time.monotonic(), 0))
        end = time.monotonic() + 2
        while time.monotonic() < end:
            self._turn()
            time.sleep(TICK)
        result.seconds = time.monotonic() - began
        self._echo.close()
        self._asking.close()
        return result

    def _faults(self) -> str:
        result = self.result
        delivered = result.twice_at_server + result.twice_at_client
        return f"{result.repeated_counters} counters repeated, {delivered} packets delivered twice"

    def _kill(self) -> bool:
        """Kills whoever is the worker now, ready or not, but nobody twice."""
        workers = self._children.read_text().split()
        if not workers or int(workers[0]) == self._last:
            return False
        self._last = int(workers[0])
        os.kill(self._last, signal.SIGKILL)
        self.result.kills += 1
        return True

    def _turn(self) -> None:
        result = self.result
        for _ in range(BURST):
            result.asked += 1
            with contextlib.suppress(OSError):
                self._asking.sendto(result.asked.to_bytes(8), (self._pair.server.ipv4, ECHO_PORT))
        with contextlib.suppress(BlockingIOError):
            while True:
                payload, source = self._echo.recvfrom(64)
                result.twice_at_server += payload in self._at_server
                self._at_server.add(payload)
                self._echo.sendto(payload, source)
        with contextlib.suppress(BlockingIOError):
            while True:
                payload = self._asking.recv(64)
                result.twice_at_client += payload in self._at_client
                self._at_client.add(payload)
                result.answered += 1
        self._read_wire()

    def _read_wire(self) -> None:
        for packet in self._ring.packets():
            if packet[0] == _IPV4 and packet[9] == socket.IPPROTO_UDP:
                # The kernel carries what is sent in one call as one packet, here too.
                for start in range(_UDP_HEADERS, len(packet), _MESSAGE):
                    self._read_message(packet[start : start + 16])
        self.result.unseen += self._ring.missed()

    def _read_message(self, header: bytes) -> None:
        if header[:4] != _TRANSPORT:
            return
        receiver, counter = _INDEX_AND_COUNTER.unpack_from(header, 4)
        self.result.on_the_wire += 1
        # Nothing overtakes anything on this wire: a counter that does not rise was used before.
        highest = self._highest.get(receiver, -1)
        self.result.repeated_counters += counter <= highest
        self._highest[receiver] = max(counter, highest)


def _socket(peer: Peer, port: int = 0) -> socket.socket:
    opened = peer.node.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.setblocking(False)
    opened.bind(("", port))
    return opened


def soak(kills: int, say: Callable[[str], None]) -> Soak:
    """Raises LabError where a nonce or a packet came twice."""
    with Pair() as pair, Ring(pair.network.router, pair.client.host.name) as ring:
        result = _Soaking(pair, ring, kills).run(say)
    say(f"  {asdict(result)}")
    if not result.clean:
        raise LabError(f"after {result.kills} kills: {asdict(result)}")
    return result


def to_json(costs: list[int]) -> dict[str, Any]:
    return {"rate": CALM_RATE, "lost": costs}


def table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    costs: list[int] = data["lost"]
    columns = ["kills", "packets/s", "kills that lost anything", "most packets lost by one"]
    losing = sum(cost > 0 for cost in costs)
    share = f"{losing} ({losing / len(costs):.1%})"
    return columns, [[str(len(costs)), f"{data['rate']:g}", share, str(max(costs))]]


def soak_table(data: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    columns = ["kills", "packets on the wire", "counters repeated", "packets delivered twice", "answered"]
    twice = data["twice_at_server"] + data["twice_at_client"]
    answered = f"{data['answered'] / data['asked']:.1%}"
    line = [data["kills"], f"{data['on_the_wire']:,}", data["repeated_counters"], twice, answered]
    return columns, [[str(cell) for cell in line]]
