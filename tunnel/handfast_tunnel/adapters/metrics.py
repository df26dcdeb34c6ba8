"""What a scrape reads: the numbers of one tunnel, as Prometheus metrics (KUBERNETES, section 8).

Only the thread of `metrics_server` imports this: prometheus_client takes 80 ms to load. The numbers belong
to the event loop, so a scrape posts a job there that copies them in slices, and waits for it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ..core.constants import REJECT_AFTER_TIME
from ..core.statistics import Histogram, Statistics
from .text import format_key, format_prefix

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from ..core.peer import Peer
    from .event_loop import EventLoop
    from .tunnel import Tunnel

ANSWER_TIME: Final = 2.0
PEER_SERIES_LIMIT: Final = 500
"""An interface with 10,000 peers must not flood a Prometheus by accident."""
PEERS_A_STEP: Final = 128

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PeerNumbers:
    labels: list[str]
    sent_bytes: int
    received_bytes: int
    latest_handshake: float


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tunnel's numbers at one moment, free of the event loop."""

    interface: str
    incarnation: int | None
    data_plane: str
    statistics: Statistics
    at_takeover: dict[str, int]
    """Packets lost in the kernel's queues while the present worker took over, by reason."""
    states: Counter[str]
    """Peers by `recovering`, `connected` (a session not older than 180 s) and `silent`."""
    interrupted: int
    """Peers that were sending before an interruption, and have not been heard since."""
    peers: list[PeerNumbers]


def take_snapshot(
    tunnel: Tunnel, *, per_peer: bool, limit: int | None = None, names: Mapping[str, str] | None = None
) -> Generator[None, None, Snapshot]:
    """A job for the event loop. `names` are the peers', by public key."""
    while tunnel.device.building_up:
        yield
    limit = PEER_SERIES_LIMIT if limit is None else limit
    oldest_session = time.time_ns() - int(REJECT_AFTER_TIME * 1e9)
    peers = list(tunnel.device.peers.values())
    states: Counter[str] = Counter()
    numbers: list[PeerNumbers] = []
    interrupted = 0
    for start in range(0, len(peers), PEERS_A_STEP):
        step = peers[start : start + PEERS_A_STEP]
        states.update([_state(peer, oldest_session) for peer in step])
        interrupted += sum(peer.interrupted_at is not None for peer in step)
        if per_peer and start < limit:
            numbers += [_numbers(tunnel.name, peer, names or {}) for peer in step[: limit - start]]
        yield
    statistics, at_takeover = deepcopy(tunnel.device.statistics), dict(tunnel.drops.at_takeover)
    return Snapshot(
        tunnel.name,
        tunnel.incarnation,
        tunnel.plane.name,
        statistics,
        at_takeover,
        states,
        interrupted,
        numbers,
    )


def _state(peer: Peer, oldest_session: int) -> str:
    if peer.recovery is not None and peer.recovery.state == "pending":
        return "recovering"
    return "connected" if peer.last_handshake_wall >= oldest_session else "silent"


def _numbers(interface: str, peer: Peer, names: Mapping[str, str]) -> PeerNumbers:
    allowed_ips = ",".join(map(format_prefix, peer.allowed_ips))
    public_key = format_key(peer.public_key)
    return PeerNumbers(
        labels=[interface, public_key, allowed_ips, names.get(public_key, "")],
        sent_bytes=peer.sent_bytes,
        received_bytes=peer.received_bytes,
        latest_handshake=peer.last_handshake_wall // 10**9,
    )


class SnapshotCollector(Collector):
    def __init__(self, snapshot: Snapshot, *, per_peer: bool) -> None:
        self._snapshot = snapshot
        self._per_peer = per_peer

    def collect(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        yield from _recovery(snapshot)
        yield from _takeover(snapshot)
        yield from _traffic(snapshot.statistics)
        yield InfoMetricFamily(
            "handfast_data_plane", "What seals and opens packets.", value={"kind": snapshot.data_plane}
        )
        if self._per_peer:
            yield from _peer_series(snapshot.peers)


def _recovery(snapshot: Snapshot) -> Iterator[Metric]:
    statistics, states = snapshot.statistics, snapshot.states
    latency = HistogramMetricFamily(
        "handfast_reconnect_latency_seconds",
        "From a peer's first stray packet, or our first initiation to it, to its first authenticated packet.",
        labels=["tunnel", "method"],
    )
    for method, histogram in statistics.reconnect_latency.items():
        latency.add_metric([snapshot.interface, method], _buckets(histogram), histogram.sum)
    yield latency
    outage = HistogramMetricFamily(
        "handfast_outage_seconds",
        "From the last authenticated packet of a peer that was sending, to its first after an interruption.",
        labels=["tunnel", "method", "clock"],
    )
    for clock, outages in (("same_node", statistics.outage), ("cross_node", statistics.outage_across)):
        for method, histogram in outages.items():
            outage.add_metric([snapshot.interface, method, clock], _buckets(histogram), histogram.sum)
    yield outage
    peers = GaugeMetricFamily("handfast_peers", "Configured peers.", labels=["state"])
    for state in ("connected", "recovering", "silent"):
        peers.add_metric([state], states[state])
    yield peers
    yield GaugeMetricFamily(
        "handfast_recovery_pending", "Peers that are still being greeted.", value=states["recovering"]
    )
    yield GaugeMetricFamily(
        "handfast_interrupted_peers",
        "Peers that were sending before an interruption, and have not been heard since.",
        value=snapshot.interrupted,
    )


def _takeover(snapshot: Snapshot) -> Iterator[Metric]:
    if snapshot.incarnation is not None:
        yield GaugeMetricFamily(
            "handfast_incarnation", "Owners that the state memory has had.", value=snapshot.incarnation
        )
    lost = GaugeMetricFamily(
        "handfast_takeover_dropped_packets",
        "Packets lost in the kernel's queues while the present worker took over.",
        labels=["reason"],
    )
    for reason, count in snapshot.at_takeover.items():
        lost.add_metric([reason], count)
    yield lost


def _traffic(statistics: Statistics) -> Iterator[Metric]:
    handshakes = CounterMetricFamily(
        "handfast_handshakes", "Handshakes by our role and their result.", labels=["role", "result"]
    )
    for labels, count in statistics.handshakes.items():
        handshakes.add_metric(labels, count)
    yield handshakes
    yield _counter(
        "handfast_stray_packets",
        "Transport packets of unknown sessions.",
        "action",
        statistics.strays.items(),
    )
    yield _counter("handfast_dropped_packets", "Packets dropped.", "reason", statistics.dropped.items())
    directions = [("received", statistics.received_bytes), ("sent", statistics.sent_bytes)]
    yield _counter("handfast_bytes", "Bytes over the network, of all peers.", "direction", directions)


def _peer_series(peers: list[PeerNumbers]) -> Iterator[Metric]:
    """Under the names that WireGuard dashboards already read."""
    labels = ["interface", "public_key", "allowed_ips", "friendly_name"]
    sent = CounterMetricFamily("wireguard_sent_bytes", "Bytes sent to the peer.", labels=labels)
    received = CounterMetricFamily("wireguard_received_bytes", "Bytes received from the peer.", labels=labels)
    handshake = GaugeMetricFamily(
        "wireguard_latest_handshake_seconds", "Unix time of the latest handshake; 0 for never.", labels=labels
    )
    for peer in peers:
        sent.add_metric(peer.labels, peer.sent_bytes)
        received.add_metric(peer.labels, peer.received_bytes)
        handshake.add_metric(peer.labels, peer.latest_handshake)
    yield from (sent, received, handshake)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, histogram.buckets), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))


def _counter(name: str, text: str, label: str, values: Iterable[tuple[str, int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values:
        family.add_metric([value], count)
    return family


def ask(loop: EventLoop, job: Generator[None, None, T]) -> T:
    """Has the event loop do `job` and waits, in another thread; raises TimeoutError."""
    answers: SimpleQueue[T] = SimpleQueue()

    def deliver() -> Iterator[None]:
        answers.put((yield from job))

    loop.call_soon_threadsafe(lambda: loop.spawn(deliver()))
    try:
        return answers.get(timeout=ANSWER_TIME)
    except Empty:
        raise TimeoutError from None


def application(tunnel: Tunnel, *, per_peer: bool) -> WSGIApplication:
    """/metrics, and /healthz, which is well as long as the event loop turns."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path not in {"/metrics", "/healthz"}:
            return _plain(start_response, "404 Not Found", "here are /metrics and /healthz")
        try:
            snapshot = ask(tunnel.loop, take_snapshot(tunnel, per_peer=per_peer and path == "/metrics"))
        except TimeoutError:
            return _plain(start_response, "503 Service Unavailable", "the event loop does not answer")
        if path == "/healthz":
            return _plain(start_response, "200 OK", "ok")
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(SnapshotCollector(snapshot, per_peer=per_peer))
        answer: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] = make_wsgi_app(registry)
        return answer(environ, start_response)

    return respond


def _plain(start_response: StartResponse, status: str, text: str) -> Iterable[bytes]:
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode() + b"\n"]
