"""A server and, of both versions of wireguard-go, one client of each kind: what one event costs each."""

from __future__ import annotations

import socket
import time
from bisect import bisect_left
from itertools import product
from typing import Final, NamedTuple

from tests.lab import restarts
from tests.lab.filters import Message, Rule
from tests.lab.implementations import implementation
from tests.lab.namespaces import Process, wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import PORT, Peer, introduce
from tests.lab.probes import Log, Probes

from .commands import numbered, peer_section
from .events import Event, happening
from .initiators import Initiator, open_sessions
from .results import Kind

CLIENTS: Final = ("wireguard-go", "wireguard-go-modern")
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


class Client(NamedTuple):
    program: str
    kind: Kind


ALL_CLIENTS: Final = tuple(Client(program, kind) for program, kind in product(CLIENTS, Kind))


def lost_between(log: Log, start: float, end: float) -> int:
    """How many of the probes that left in this time did not come through."""
    sent = bisect_left(log.sent, end) - bisect_left(log.sent, start)
    first, last = bisect_left(log.arrived, start), bisect_left(log.arrived, end + IN_FLIGHT)
    arrivals = zip(log.arrived[first:last], log.latency[first:last], strict=True)
    return sent - sum(start <= at - taken < end for at, taken in arrivals)


class Scene:
    """A context manager."""

    def __init__(self, event: Event, *, nat: bool, peers: int) -> None:
        self._event, self._happens = event, happening(event)
        self._network = Network()
        try:
            (server_host,) = self._network.add("server")
            hosts = self._network.add(*(f"client{number}" for number in range(len(ALL_CLIENTS))), nat=nat)
        except BaseException:
            self._network.close()
            raise
        program = implementation("handfast").with_options("--restart-limit=10000/60", LOG_LEVEL="debug")
        environment = {"HANDFAST_ANNOUNCE": "always" if event.keeps_keys else "never"}
        in_container = event is Event.CONTAINER
        self.server = Peer(
            server_host, program.in_container() if in_container else program, environment=environment
        )
        self._clients = dict(zip(ALL_CLIENTS, map(self._client, hosts, ALL_CLIENTS), strict=True))
        self._initiations: dict[Client, list[Rule]] = {}
        self._logs: dict[Client, Log] = {}
        self._probes = Probes()
        self._peers = peers
        self._bulk: Process | None = None

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self._probes.close()
        self._network.close()

    def _client(self, host: Host, client: Client) -> Peer:
        peer = Peer(host, implementation(client.program), port=PORT + host.number)
        introduce(peer, self.server, keepalive=KEEPALIVE if client.kind is Kind.KEEPALIVES else 0)
        return peer

    def settle(self) -> None:
        """Sessions, and then what each client does."""
        bulk = self._add_bulk() if self._event is Event.BULK else None
        self.server.start()
        if self._event is Event.MANY_PEERS:
            self._add_peers()
        for peer in self._clients.values():
            peer.start()
            peer.reaches(self.server)
        self._probes.answer(self.server.node)
        for client, peer in self._clients.items():
            self._watch(client, peer)
        for log in self._logs.values():
            wait_until(lambda log=log: log.settled(0), 10, "the first packets of every probe")  # type: ignore[misc]
        if bulk is not None:
            self._start_bulk(bulk)

    def _watch(self, client: Client, peer: Peer) -> None:
        name, count = peer.host.name, self._network.filters.count
        both_ways = [count(Message.INITIATION, source=name), count(Message.INITIATION, destination=name)]
        self._initiations[client] = both_ways
        if client.kind is Kind.SENDING:
            self._logs[client] = self._probes.ask(peer.node, self.server.ipv4, rate=PROBE_RATE)
        elif client.kind is Kind.RECEIVING:
            self._logs[client] = self._probes.stream(self.server.node, peer.node, peer.ipv4, rate=PROBE_RATE)

    def _add_bulk(self) -> Peer:
        """One more client, before the server is configured."""
        (host,) = self._network.add("bulk")
        peer = Peer(host, implementation(CLIENTS[-1]))
        introduce(peer, self.server)
        return peer

    def _start_bulk(self, peer: Peer) -> None:
        """A TCP connection through the tunnel that sends what it can, and has to outlive every event."""
        peer.start()
        peer.reaches(self.server)
        self.server.node.start("iperf3", "-s", log="iperf3-server")
        time.sleep(0.5)
        command = ("iperf3", "-c", self.server.ipv4, "-t", "3600", "-i", "1", "--forceflush", "-f", "m")
        self._bulk = peer.node.start(*command, log="iperf3")
        wait_until(self.bulk_rates, 10, "bulk traffic")

    def bulk_rates(self) -> list[float]:
        """Mbit/s, second by second, of the bulk traffic; none where there is none."""
        if self._bulk is None:
            return []
        if self._bulk.poll() is not None:
            raise RuntimeError(f"the connection in the tunnel ended: {self._bulk.output()}")
        fields = [line.split() for line in self._bulk.output().splitlines() if "Mbits/sec" in line]
        return [float(words[words.index("Mbits/sec") - 1]) for words in fields]

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

    def once(self) -> dict[Client, tuple[float, int]]:
        """One event: the outage and the packets lost of each client."""
        at = self._happens(self.server)
        time.sleep(AFTER)
        quiet = {client: peer for client, peer in self._clients.items() if not client.kind.probed}
        found = {client: (self._ask(peer), 0) for client, peer in quiet.items()}
        for client, log in self._logs.items():
            wait_until(lambda log=log: log.settled(at), PATIENCE, f"{client} to be back")  # type: ignore[misc]
        end = time.monotonic()
        time.sleep(IN_FLIGHT)
        for client, log in self._logs.items():
            found[client] = log.longest_silence(at - BEFORE, end), lost_between(log, at - BEFORE, end)
        return found

    def _ask(self, peer: Peer) -> float:
        """What the client's next packet waits for an answer."""
        with Probes() as probes:
            log = probes.ask(peer.node, self.server.ipv4, rate=ASK_RATE)
            wait_until(lambda: log.arrived, PATIENCE, "the quiet client to be back", interval=0.005)
            return log.arrived[0] - log.sent[0]

    def handshakes(self, client: Client) -> int:
        """Initiations that passed on the client's cable, either way, in all."""
        return sum(rule.packets for rule in self._initiations[client])

    def method(self, client: Client) -> str:
        """By which rung it came back. One that only receives is not heard before it owes a keepalive."""
        peer = self._clients[client]

        def heard() -> str:
            return restarts.status_of(self.server, peer)["method"] or ""

        wait_until(heard, PATIENCE, f"{client} to be heard")
        return heard()
