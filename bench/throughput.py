"""Throughput, packet rate and round-trip time between two hosts, of every pair of implementations.

One round measures every pair once, so that whatever else the machine does meets all of them; ratios are
taken within a round, to the modern wireguard-go at both ends.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from tests.lab.implementations import NATIVE_IS_BUILT
from tests.lab.namespaces import LabError, Node
from tests.lab.peer import PORT, KeyPair

from .commands import interface_section, peer_section
from .hosts import OVERLAY, UNDERLAY, TwoHosts, interface
from .results import TITLES


class Pair(NamedTuple):
    """Which implementation is at which end."""

    server: str
    client: str

    @property
    def title(self) -> str:
        if self.server == self.client:
            return TITLES[self.server]
        return f"server {TITLES[self.server]}, client {TITLES[self.client]}"


REFERENCE: Final = Pair("wireguard-go-modern", "wireguard-go-modern")
NATIVE: Final = Pair("handfast-native", "handfast-native")
"""Where it is built."""
PAIRS: Final = (
    REFERENCE,
    Pair("wireguard-go", "wireguard-go"),
    Pair("handfast", "handfast"),
    NATIVE,
    Pair("handfast-forgetful", "handfast-forgetful"),
    Pair("handfast", "wireguard-go-modern"),
)


IPERF_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: str
    measure: Callable[[Node, float], float]
    higher_is_better: bool = True


def _iperf(client: Node, seconds: float, *options: str) -> dict[str, Any]:
    command = ["iperf3", "-J", "-c", OVERLAY["server"], "-t", f"{seconds:g}", *options]
    for _ in range(IPERF_ATTEMPTS):
        report: dict[str, Any] = json.loads(client.attempt(*command, timeout=seconds * 5 + 20).stdout)
        if "error" not in report:
            return dict(report["end"])
        # Its server may still be ending the test before.
        time.sleep(1)
    raise LabError(f"{' '.join(command)}: {report['error']}")


def _tcp(*options: str) -> Callable[[Node, float], float]:
    """Mbit/s that arrived."""

    def measure(client: Node, seconds: float) -> float:
        return float(_iperf(client, seconds, *options)["sum_received"]["bits_per_second"]) / 1e6

    return measure


def _udp(length: int) -> Callable[[Node, float], float]:
    """Packets a second that arrived when the sender sends what it can."""

    def measure(client: Node, seconds: float) -> float:
        total = _iperf(client, seconds, "-u", "-b", "0", "-l", str(length))["sum"]
        return float((total["packets"] - total["lost_packets"]) / total["seconds"])

    return measure


def _ping(client: Node, seconds: float) -> float:
    """Median round trip in milliseconds."""
    count = round(seconds * 100)
    lines = client.run(
        "ping", "-n", "-i", "0.01", "-c", str(count), OVERLAY["server"], timeout=seconds * 5 + 20
    )
    return statistics.median(float(time) for time in re.findall(r"time=([\d.]+) ms", lines))


TCP: Final = Metric("TCP, 1 stream", "Mbit/s", _tcp())
METRICS: Final = (
    TCP,
    Metric("TCP, 1 stream, to the client", "Mbit/s", _tcp("-R")),
    Metric("TCP, 4 streams", "Mbit/s", _tcp("-P", "4")),
    Metric("UDP, 1400 B", "packets/s", _udp(1400)),
    Metric("UDP, 64 B", "packets/s", _udp(64)),
    Metric("ping", "ms", _ping, higher_is_better=False),
)


@dataclass(frozen=True, slots=True)
class Sample:
    round: int
    pair: Pair
    metric: str
    value: float


def _measure(hosts: TwoHosts, pair: Pair, seconds: float) -> dict[str, float]:
    server, client = KeyPair.generate(), KeyPair.generate()
    to_client = peer_section(client.public, OVERLAY["client"])
    to_server = peer_section(server.public, OVERLAY["server"], f"{UNDERLAY['server']}:{PORT}")
    with (
        interface(hosts.server, pair.server, interface_section(server.private, PORT) + to_client),
        interface(hosts.client, pair.client, interface_section(client.private, PORT) + to_server),
    ):
        iperf = hosts.server.start("iperf3", "-s", log="iperf3")
        try:
            hosts.client.run("ping", "-n", "-c1", "-W5", OVERLAY["server"])
            return {metric.name: metric.measure(hosts.client, seconds) for metric in METRICS}
        finally:
            iperf.kill()


def run(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Sample]:
    samples = []
    with TwoHosts() as hosts:
        for number in range(rounds):
            for pair in PAIRS if NATIVE_IS_BUILT else [pair for pair in PAIRS if pair != NATIVE]:
                started = time.monotonic()
                values = _measure(hosts, pair, seconds)
                samples += [Sample(number, pair, name, value) for name, value in values.items()]
                took = time.monotonic() - started
                say(f"  round {number + 1} of {rounds}, {pair.title}: {_summary(values)} ({took:.0f} s)")
    return samples


def _summary(values: dict[str, float]) -> str:
    return ", ".join(
        f"{value:.4g} {metric.unit}" for metric, value in zip(METRICS, values.values(), strict=True)
    )


def ratios(samples: list[Sample], pair: Pair, metric: str) -> list[float]:
    """To the reference, round by round."""
    by_round = {(s.round, s.pair): s.value for s in samples if s.metric == metric}
    return [value / by_round[number, REFERENCE] for (number, p), value in by_round.items() if p == pair]


def measured(samples: list[Sample]) -> list[Pair]:
    """All pairs, in their order, but for what need not be built."""
    return [pair for pair in PAIRS if pair != NATIVE or any(s.pair == NATIVE for s in samples)]


def to_json(samples: list[Sample]) -> dict[str, Any]:
    return {
        "reference": REFERENCE._asdict(),
        "units": {metric.name: metric.unit for metric in METRICS},
        "samples": [
            {"round": s.round, **s.pair._asdict(), "metric": s.metric, "value": round(s.value, 3)}
            for s in samples
        ],
    }


def from_json(data: dict[str, Any]) -> list[Sample]:
    return [
        Sample(s["round"], Pair(s["server"], s["client"]), s["metric"], s["value"]) for s in data["samples"]
    ]


def table(samples: list[Sample]) -> tuple[list[str], list[list[str]]]:
    """Per pair the median of each metric and its ratio to the reference: KeyError where one is missing."""
    columns = ["at both ends", *(f"{metric.name} ({metric.unit})" for metric in METRICS)]
    lines = []
    for pair in measured(samples):
        line = [pair.title]
        for metric in METRICS:
            values = [s.value for s in samples if s.pair == pair and s.metric == metric.name]
            if not values:
                raise KeyError(f"no measurement of {metric.name} for {pair.title}")
            ratio = statistics.median(ratios(samples, pair, metric.name))
            digits = 2 if metric.unit == "ms" else 0
            line.append(f"{statistics.median(values):,.{digits}f} ({ratio:.2f})")
        lines.append(line)
    return columns, lines
