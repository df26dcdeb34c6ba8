"""What flows through a tunnel between two hosts, by iperf3 and ping, and what the tunnel spends on it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final, NamedTuple

from tests.lab.namespaces import LabError, Node, Process

from .hosts import OVERLAY, SITE_HOST, processor_seconds, resident_megabytes
from .samples import Metric

ATTEMPTS: Final = 5
LEAD: Final = 0.5
"""Seconds by which a load begins before what is measured under it."""
PING_INTERVAL: Final = 0.01


class Ends(NamedTuple):
    """Two hosts with a tunnel between them."""

    client: Node
    serving: Process
    calling: Process
    seconds: float
    """How long each flow lasts."""

    def processor_seconds(self) -> float:
        return processor_seconds(self.serving) + processor_seconds(self.calling)


@contextmanager
def iperf_server(node: Node) -> Iterator[None]:
    process = node.start("iperf3", "-s", log="iperf3")
    try:
        yield
    finally:
        process.kill()


def _iperf(ends: Ends, *options: str, to: str = OVERLAY["server"]) -> dict[str, Any]:
    command = ["iperf3", "-J", "-c", to, "-t", f"{ends.seconds:g}", *options]
    for _ in range(ATTEMPTS):
        report: dict[str, Any] = json.loads(
            ends.client.attempt(*command, timeout=ends.seconds * 5 + 20).stdout
        )
        if "error" not in report:
            return dict(report["end"])
        # Its server may still be ending the test before.
        time.sleep(1)
    raise LabError(f"{' '.join(command)}: {report['error']}")


def megabits(ends: Ends, *options: str, to: str = OVERLAY["server"]) -> float:
    """Mbit/s of TCP that arrived."""
    return float(_iperf(ends, *options, to=to)["sum_received"]["bits_per_second"]) / 1e6


def megabits_and_effort(ends: Ends) -> tuple[float, float]:
    """Of one TCP stream; and the processor time that both tunnels spend on a Gbit of it."""
    before = ends.processor_seconds()
    received = _iperf(ends)["sum_received"]
    spent = ends.processor_seconds() - before
    return float(received["bits_per_second"]) / 1e6, spent / (float(received["bytes"]) * 8 / 1e9)


def _tcp(*options: str, to: str = OVERLAY["server"]) -> Callable[[Ends], tuple[float]]:
    return lambda ends: (megabits(ends, *options, to=to),)


def _udp(length: int) -> Callable[[Ends], tuple[float]]:
    """Packets a second that arrived when the sender sends what it can."""

    def measure(ends: Ends) -> tuple[float]:
        total = _iperf(ends, "-u", "-b", "0", "-l", str(length))["sum"]
        return (float((total["packets"] - total["lost_packets"]) / total["seconds"]),)

    return measure


def _ping(ends: Ends) -> tuple[float]:
    """The median round trip in milliseconds."""
    count = round(ends.seconds / PING_INTERVAL)
    lines = ends.client.run(
        "ping", "-n", "-i", f"{PING_INTERVAL:g}", "-c", str(count), OVERLAY["server"],
        timeout=ends.seconds * 5 + 20,
    )  # fmt: skip
    return (median(float(time) for time in re.findall(r"time=([\d.]+) ms", lines)),)


def _loaded_ping(ends: Ends) -> tuple[float]:
    """The same beside one TCP stream."""
    with loaded(ends.client) as load:
        found = _ping(ends)
        if load.poll() is not None:
            raise LabError(f"the load ended before the pings: {load.output()}")
    return found


@contextmanager
def loaded(client: Node) -> Iterator[Process]:
    """One TCP stream from the client to the server that sends what it can."""
    load = client.start("iperf3", "-c", OVERLAY["server"], "-t", "3600", log="load")
    try:
        time.sleep(LEAD)
        yield load
    finally:
        load.kill()


def _memory(ends: Ends) -> tuple[float]:
    return (resident_megabytes(ends.serving),)


_Step = tuple[tuple[Metric, ...], Callable[[Ends], Sequence[float]]]

STEPS: Final[tuple[_Step, ...]] = (
    (
        (Metric("TCP, 1 stream", "Mbit/s"), Metric("its processor time", "s a Gbit", 2, False)),
        megabits_and_effort,
    ),
    ((Metric("TCP, 1 stream, to the client", "Mbit/s"),), _tcp("-R")),
    ((Metric("TCP, 4 streams", "Mbit/s"),), _tcp("-P", "4")),
    ((Metric("TCP, 4 streams, to the client", "Mbit/s"),), _tcp("-P", "4", "-R")),
    ((Metric("TCP, forwarded", "Mbit/s"),), _tcp(to=SITE_HOST)),
    ((Metric("TCP, forwarded, to the client", "Mbit/s"),), _tcp("-R", to=SITE_HOST)),
    ((Metric("UDP, 1400 B", "packets/s"),), _udp(1400)),
    ((Metric("UDP, 64 B", "packets/s"),), _udp(64)),
    ((Metric("ping", "ms", 2, False),), _ping),
    ((Metric("ping beside TCP", "ms", 2, False),), _loaded_ping),
    ((Metric("memory of the server", "MB", 0, False),), _memory),
)
"""What is measured one after the other, and what comes out of it."""
METRICS: Final = tuple(metric for metrics, _ in STEPS for metric in metrics)
