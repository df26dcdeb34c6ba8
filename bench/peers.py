"""A server with 10,000 peers: the time to configure and to list them, what packets notice, memory, idle load.

A client that is connected before asks an echo server 1,000 times a second while the peers arrive; what it
waits for an answer in a time when nothing happens is measured beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from tests.lab.namespaces import LabError, Process, wait_until
from tests.lab.peer import PORT, KeyPair
from tests.lab.probes import Probes

from .commands import interface_section, numbered, peer_section
from .hosts import OVERLAY, UNDERLAY, TwoHosts, interface, processor_seconds, resident_megabytes
from .initiators import Initiator, open_sessions
from .results import TITLES

SERVERS: Final = ("wireguard-go-modern", "wireguard-go", "handfast")
CLIENT: Final = "wireguard-go-modern"
PEER_SUBNET: Final = 9
PROBE_RATE: Final = 1000.0
PROBE_PORT: Final = 7007
CALM_SECONDS: Final = 3.0


@dataclass(frozen=True, slots=True)
class Configuring:
    """One `wg` command under traffic; seconds."""

    took: float
    hold_up: float
    """The longest time without an answer to the probe."""
    calm_hold_up: float
    """The same in CALM_SECONDS without any command: what this machine does to packets by itself."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of many peers, to one server program."""

    setconf: Configuring
    """All peers and the connected client in a configuration that replaces the old one."""
    addconf: Configuring
    """All peers added beside the connected client."""
    show: float
    """Seconds for `wg show`, all of it."""
    memory: float
    """Resident megabytes, without sessions."""
    memory_with_sessions: float
    sessions: int
    idle: float
    """Share of a core while no packets flow, without sessions."""
    idle_with_sessions: float


def run(count: int, idle_seconds: float, say: Callable[[str], None]) -> dict[str, Cost]:
    costs = {}
    with TwoHosts() as hosts:
        for name in SERVERS:
            costs[name] = Experiment(hosts, name, count).measure(idle_seconds)
            say(f"  {TITLES[name]}: {', '.join(_lines(costs[name]).values())}")
    return costs


class Experiment:
    """One server program and its peers."""

    def __init__(self, hosts: TwoHosts, name: str, count: int) -> None:
        self._hosts = hosts
        self._name = name
        self._server, self._client = KeyPair.generate(), KeyPair.generate()
        self._initiators = [Initiator(index, self._server.public) for index in range(count)]
        self._start = interface_section(self._server.private, PORT)
        self._start += peer_section(self._client.public, OVERLAY["client"])
        self._peers = "".join(
            peer_section(peer.public_key, numbered(PEER_SUBNET, peer.index)) for peer in self._initiators
        )

    def measure(self, idle_seconds: float) -> Cost:
        setconf = self._configure_under_traffic("setconf", self._start + self._peers)
        addconf = self._configure_under_traffic("addconf", self._peers)
        with interface(self._hosts.server, self._name, self._start) as process:
            self._wg("addconf", self._peers)
            show = self._time_show()
            memory, idle = resident_megabytes(process), _load(process, idle_seconds)
            with self._hosts.socket_to_server() as sock:
                sessions = open_sessions(sock, self._initiators)
            memory_after = resident_megabytes(process)
            idle_after = _load(process, idle_seconds)
        return Cost(setconf, addconf, show, memory, memory_after, sessions, idle, idle_after)

    def _configure_under_traffic(self, command: str, configuration: str) -> Configuring:
        to_server = peer_section(self._server.public, OVERLAY["server"], f"{UNDERLAY['server']}:{PORT}")
        client = interface_section(self._client.private, PORT) + to_server
        with (
            interface(self._hosts.server, self._name, self._start),
            interface(self._hosts.client, CLIENT, client),
            Probes() as probes,
        ):
            probes.answer(self._hosts.server, PROBE_PORT)
            log = probes.ask(self._hosts.client, OVERLAY["server"], rate=PROBE_RATE, port=PROBE_PORT)
            wait_until(lambda: log.settled(0), 10, "the client's first answers")
            calm = time.monotonic()
            time.sleep(CALM_SECONDS)
            start = time.monotonic()
            self._wg(command, configuration)
            took = time.monotonic() - start
            # Where the command cost the session, the client needs 15 s to notice.
            wait_until(lambda: log.settled(start), 30, "answers after it")
            time.sleep(1)
            return Configuring(took, log.longest_silence(start), log.longest_silence(calm, start))

    def _wg(self, command: str, configuration: str) -> None:
        node = self._hosts.server
        path: Path = node.directory / "peers.conf"
        path.write_text(configuration)
        node.run("wg", command, "wg0", str(path), timeout=60)

    def _time_show(self) -> float:
        start = time.monotonic()
        listing = self._hosts.server.run("wg", "show", "wg0", timeout=60)
        took = time.monotonic() - start
        if (listed := listing.count("peer: ")) <= len(self._initiators):
            raise LabError(f"wg show lists {listed} peers of {len(self._initiators) + 1}")
        return took


def _load(process: Process, seconds: float) -> float:
    before = processor_seconds(process)
    time.sleep(seconds)
    return (processor_seconds(process) - before) / seconds


def _share(load: float) -> str:
    # The kernel counts processor time in steps of 10 ms.
    return "< 0.1 % of a core" if load < 0.001 else f"{load * 100:.1f} % of a core"


def to_json(costs: dict[str, Cost]) -> dict[str, Any]:
    return {"costs": {name: asdict(cost) for name, cost in costs.items()}}


def from_json(data: dict[str, Any]) -> dict[str, Cost]:
    return {
        name: Cost(
            **{**cost, "setconf": Configuring(**cost["setconf"]), "addconf": Configuring(**cost["addconf"])}
        )
        for name, cost in data["costs"].items()
    }


def _lines(cost: Cost) -> dict[str, str]:
    def hold_up(step: Configuring) -> str:
        return f"{step.hold_up * 1000:,.0f} ms (calm: {step.calm_hold_up * 1000:.0f} ms)"

    return {
        "`wg setconf`": f"{cost.setconf.took:.2f} s",
        "longest time without an answer during it": hold_up(cost.setconf),
        "`wg addconf`": f"{cost.addconf.took:.2f} s",
        "longest time without an answer during that": hold_up(cost.addconf),
        "`wg show`": f"{cost.show:.2f} s",
        "memory, no sessions": f"{cost.memory:.0f} MB",
        "sessions then opened": f"{cost.sessions:,}",
        "memory, with sessions": f"{cost.memory_with_sessions:.0f} MB",
        "idle, no sessions": _share(cost.idle),
        "idle, with sessions": _share(cost.idle_with_sessions),
    }


def table(costs: dict[str, Cost]) -> tuple[list[str], list[list[str]]]:
    """KeyError where a server was not measured."""
    columns = {name: _lines(costs[name]) for name in SERVERS}
    return ["", *(TITLES[name] for name in SERVERS)], [
        [label, *(columns[name][label] for name in SERVERS)] for label in columns[SERVERS[0]]
    ]
