"""What clients notice of a killed tunnel: every kind of client, behind NAT or not, through every event.

A client that sends asks an echo server 1,000 times a second; one that receives gets as many packets. A
quiet client is left alone for a second after the event, longer than its keepalive takes, and then asked:
its figure is what the first packet afterwards waits for an answer.
"""

from __future__ import annotations

import signal
import socket
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import product
from statistics import median
from typing import Any, Final

from tests.lab import restarts
from tests.lab.filters import Message, Rule
from tests.lab.implementations import implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT, Peer, introduce
from tests.lab.probes import Log, Probes

from .commands import compile_tunnel, numbered, peer_section, start_interface
from .initiators import Initiator, open_sessions
from .results import Kind

CLIENT: Final = "wireguard-go"
PROBE_RATE: Final = 1000.0
ASK_RATE: Final = 200.0
"""How often a quiet client is asked until it answers: seldom enough to be the first packet, mostly."""
BEFORE: Final = 0.1
AFTER: Final = 1.2
IN_FLIGHT: Final = 0.3
"""An answer that takes longer is lost."""
KEEPALIVE: Final = 1
PATIENCE: Final = 20.0
MANY_SUBNET: Final = 9
_UDP: Final = (socket.AF_INET, socket.SOCK_DGRAM)


class Event(StrEnum):
    WORKER = "worker killed"
    MANY_PEERS = "worker killed, many peers"
    TREE = "worker and keeper killed, started again"
    SIGTERM = "SIGTERM, started again"
    LINK = "link down and up: keys lost"

    @property
    def keeps_keys(self) -> bool:
        return self is not Event.LINK


@dataclass(frozen=True, slots=True, order=True)
class Case:
    event: Event
    kind: Kind
    nat: bool


CASES: Final = tuple(Case(event, kind, nat) for event, kind, nat in product(Event, Kind, (False, True)))


@dataclass(frozen=True, slots=True)
class Row:
    """One client through all events of one kind."""

    case: Case
    outages: tuple[float, ...]
    """Seconds."""
    lost: tuple[int, ...]
    """Packets, each time; of probed clients."""
    handshakes: int
    """Initiations that passed on its cable, either way, in all."""
    method: str


def _link_down_and_up(server: Peer) -> float:
    restarts.take_down(server)
    server.bring_up()
    return time.monotonic()


def _start_again(server: Peer, number: signal.Signals) -> float:
    """All in one step, as a script would."""
    at = restarts.end_tree(server, number)
    links = [f"address add {server.ipv4}/24 dev {server.interface}", f"link set {server.interface} up"]
    server.process = start_interface(server.implementation, server.node, server.configuration(), links)
    return at


_DO: Final[dict[Event, Callable[[Peer], float]]] = {
    Event.WORKER: restarts.kill_worker,
    Event.MANY_PEERS: restarts.kill_worker,
    Event.TREE: partial(_start_again, number=signal.SIGKILL),
    Event.SIGTERM: partial(_start_again, number=signal.SIGTERM),
    Event.LINK: _link_down_and_up,
}


def lost_between(log: Log, start: float, end: float) -> int:
    """How many of the probes that left in this time did not come through."""
    sent = bisect_left(log.sent, end) - bisect_left(log.sent, start)
    first, last = bisect_left(log.arrived, start), bisect_left(log.arrived, end + IN_FLIGHT)
    arrivals = zip(log.arrived[first:last], log.latency[first:last], strict=True)
    return sent - sum(start <= at - taken < end for at, taken in arrivals)


class Scene:
    """A server and one client of each kind; a context manager."""

    def __init__(self, event: Event, *, nat: bool, peers: int) -> None:
        self._event = event
        self._network = Network()
        try:
            (server_host,) = self._network.add("server")
            hosts = self._network.add(*(f"client{number}" for number in range(len(Kind))), nat=nat)
        except BaseException:
            self._network.close()
            raise
        program = implementation("handfast").with_options("--restart-limit=10000/60", LOG_LEVEL="debug")
        environment = {"HANDFAST_ANNOUNCE": "always" if event.keeps_keys else "never"}
        self.server = Peer(server_host, program, environment=environment)
        self._clients = dict(zip(Kind, map(self._client, hosts, Kind), strict=True))
        self._initiations: dict[Kind, list[Rule]] = {}
        self._logs: dict[Kind, Log] = {}
        self._probes = Probes()
        self._peers = peers

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._probes.close()
        self._network.close()

    def _client(self, host: Host, kind: Kind) -> Peer:
        client = Peer(host, implementation(CLIENT), port=PORT + host.number)
        introduce(client, self.server, keepalive=KEEPALIVE if kind is Kind.KEEPALIVES else 0)
        return client

    def settle(self) -> None:
        """Sessions, and then what each client does."""
        self.server.start()
        if self._event is Event.MANY_PEERS:
            self._add_peers()
        for client in self._clients.values():
            client.start()
            client.reaches(self.server)
        self._probes.answer(self.server.node)
        for kind, client in self._clients.items():
            filters = self._network.filters
            name = client.host.name
            self._initiations[kind] = [
                filters.count(Message.INITIATION, source=name),
                filters.count(Message.INITIATION, destination=name),
            ]
            if kind is Kind.SENDING:
                self._logs[kind] = self._probes.ask(client.node, self.server.ipv4, rate=PROBE_RATE)
            elif kind is Kind.RECEIVING:
                log = self._probes.stream(self.server.node, client.node, client.ipv4, rate=PROBE_RATE)
                self._logs[kind] = log
        for log in self._logs.values():
            wait_until(lambda log=log: log.settled(0), 10, "the first packets of every probe")  # type: ignore[misc]

    def _add_peers(self) -> None:
        """Peers with a session each, from one more host."""
        (crowd,) = self._network.add("crowd")
        initiators = [Initiator(number, self.server.keys.public) for number in range(self._peers)]
        sections = [peer_section(each.public_key, numbered(MANY_SUBNET, each.index)) for each in initiators]
        self.server.wg("addconf", self.server.interface, "/dev/stdin", input="".join(sections))
        with crowd.node.socket(*_UDP) as line:
            line.connect((self.server.host.ipv4, PORT))
            opened = open_sessions(line, initiators)
        if opened < self._peers:
            raise RuntimeError(f"only {opened} of {self._peers} peers have a session")

    def measure(self, rounds: int) -> list[Row]:
        found = [self._once() for _ in range(rounds)]
        for client in self._clients.values():
            # One that only receives is not heard before it owes a keepalive.
            wait_until(lambda client=client: self._method(client), PATIENCE, "every client to be heard")  # type: ignore[misc]
        return [
            Row(
                Case(self._event, kind, client.host.nat),
                tuple(once[kind][0] for once in found),
                tuple(once[kind][1] for once in found) if kind.probed else (),
                sum(rule.packets for rule in self._initiations[kind]),
                self._method(client),
            )
            for kind, client in self._clients.items()
        ]

    def _method(self, client: Peer) -> str:
        return restarts.status_of(self.server, client)["method"] or ""

    def _once(self) -> dict[Kind, tuple[float, int]]:
        """One event: the outage and the packets lost of each client."""
        at = _DO[self._event](self.server)
        time.sleep(AFTER)
        found = {kind: (self._ask(client), 0) for kind, client in self._clients.items() if not kind.probed}
        for kind, log in self._logs.items():
            wait_until(lambda log=log: log.settled(at), PATIENCE, f"the {kind} client to be back")  # type: ignore[misc]
            end = time.monotonic()
            time.sleep(IN_FLIGHT)
            found[kind] = log.longest_silence(at - BEFORE, end), lost_between(log, at - BEFORE, end)
        return found

    def _ask(self, client: Peer) -> float:
        """What the client's next packet waits for an answer."""
        with Probes() as probes:
            log = probes.ask(client.node, self.server.ipv4, rate=ASK_RATE)
            wait_until(lambda: log.arrived, PATIENCE, "the quiet client to be back", interval=0.005)
            return log.arrived[0] - log.sent[0]


def run(rounds: int, peers: int, say: Callable[[str], None]) -> list[Row]:
    compile_tunnel()
    rows: list[Row] = []
    for event, nat in product(Event, (False, True)):
        with Scene(event, nat=nat, peers=peers) as scene:
            scene.settle()
            rows += scene.measure(rounds)
        for row in rows[-len(Kind) :]:
            say("  " + ", ".join(_cells(row)))
    return rows


def to_json(rows: Sequence[Row], peers: int) -> dict[str, Any]:
    return {"peers": peers, "rows": [{**asdict(row), "case": asdict(row.case)} for row in rows]}


def from_json(data: dict[str, Any]) -> list[Row]:
    """Every row of CASES in its order; KeyError where one was not measured."""
    rows = {}
    for entry in data["rows"]:
        case = Case(Event(entry["case"]["event"]), Kind(entry["case"]["kind"]), entry["case"]["nat"])
        rows[case] = replace(Row(**{**entry, "case": case}), outages=tuple(entry["outages"]))
    return [rows[case] for case in CASES]


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def _cells(row: Row) -> list[str]:
    lost = f"{median(row.lost):g}, {max(row.lost)}" if row.lost else "-"
    return [
        row.case.event.value,
        row.case.kind.value,
        "yes" if row.case.nat else "no",
        str(len(row.outages)),
        _milliseconds(median(row.outages)),
        _milliseconds(max(row.outages)),
        lost,
        str(row.handshakes),
        row.method,
    ]


def table(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    columns = ["event", "client", "NAT", "n", "median", "max", "packets lost: median, max"]
    columns += ["handshakes in all", "method"]
    return columns, [_cells(row) for row in rows]
