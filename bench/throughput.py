"""What two hosts get through a tunnel, of every pair of implementations; with many peers; and when one dies.

One round measures every pair once, so that whatever else the machine does meets all of them; ratios are
taken within a round, to the modern wireguard-go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from tests.lab.implementations import NATIVE_IS_BUILT
from tests.lab.namespaces import Node
from tests.lab.peer import PORT, KeyPair

from . import crowd, deaths, flows, samples
from .commands import compile_tunnel, interface_section, peer_section
from .flows import Ends, iperf_server
from .hosts import OVERLAY, SITE, UNDERLAY, TwoHosts, interface
from .results import TITLES
from .samples import Metric, Sample


class Pair(NamedTuple):
    """Which implementation is at which end."""

    server: str
    client: str

    @property
    def title(self) -> str:
        if self.server == self.client:
            return TITLES[self.server]
        return f"server {TITLES[self.server]}, client {TITLES[self.client]}"


MODERN, NATIVE = "wireguard-go-modern", "handfast-native"
SERVERS: Final = (MODERN, "wireguard-go", "handfast", NATIVE)
"""Native where it is built."""
PAIRS: Final = (*(Pair(server, server) for server in SERVERS), Pair("handfast", MODERN))
REFERENCE: Final = TITLES[MODERN]


class Rows(NamedTuple):
    """A table, and a group of panels of the picture."""

    title: str
    corner: str
    subjects: tuple[str, ...]
    metrics: tuple[Metric, ...]
    reference: str | None

    def of(self, found: Sequence[Sample]) -> Rows:
        """Without what need not be built, where it was not."""
        built = any(each.subject == TITLES[NATIVE] for each in found)
        subjects = tuple(each for each in self.subjects if built or each != TITLES[NATIVE])
        return self._replace(subjects=subjects)

    def table(self, found: Sequence[Sample]) -> tuple[list[str], list[list[str]]]:
        """KeyError where nobody tried to measure."""
        return samples.table(found, self.corner, self.of(found).subjects, self.metrics, self.reference)


_TITLES: Final = tuple(TITLES[server] for server in SERVERS)
BETWEEN: Final = Rows(
    "Between two hosts", "at both ends", tuple(pair.title for pair in PAIRS), flows.METRICS, REFERENCE
)
CROWD: Final = Rows("1,000 peers", "the server, of 1,000 peers", _TITLES, crowd.METRICS, REFERENCE)
DEATHS: Final = Rows("A death at full load", "the server that dies", _TITLES, deaths.METRICS, None)
GROUPS: Final = (BETWEEN, CROWD, DEATHS)


def _is_built(server: str) -> bool:
    return server != NATIVE or NATIVE_IS_BUILT


def run(rounds: int, seconds: float, say: Callable[[str], None]) -> list[Sample]:
    compile_tunnel()
    found: list[Sample] = []
    with TwoHosts() as hosts:
        site = hosts.add_site()
        for number in range(rounds):
            for title, rows, measure in _tasks(hosts, site, number, seconds):
                started = time.monotonic()
                measured = measure()
                found += measured
                took = time.monotonic() - started
                said = samples.summary(measured, rows.metrics)
                say(f"  round {number + 1} of {rounds}, {title}: {said} ({took:.0f} s)")
    return found


_Task = tuple[str, Rows, Callable[[], list[Sample]]]


def _tasks(hosts: TwoHosts, site: Node, number: int, seconds: float) -> Iterator[_Task]:
    """Of one round."""
    for pair in PAIRS:
        if _is_built(pair.server):
            yield pair.title, BETWEEN, partial(_between, hosts, site, number, pair, seconds)
    for server in filter(_is_built, SERVERS):
        title = TITLES[server]
        busy = partial(crowd.measure, hosts, server, seconds)
        yield title, CROWD, partial(samples.measured, number, title, crowd.METRICS, busy)
        dies = deaths.Death(hosts, server).measure
        yield title, DEATHS, partial(samples.measured, number, title, deaths.METRICS, dies)


def _between(hosts: TwoHosts, site: Node, number: int, pair: Pair, seconds: float) -> list[Sample]:
    """All steps of one pair; one that fails leaves the others alone."""
    server, client = KeyPair.generate(), KeyPair.generate()
    to_client = peer_section(client.public, OVERLAY["client"])
    endpoint = f"{UNDERLAY['server']}:{PORT}"
    to_server = peer_section(server.public, OVERLAY["server"], endpoint, behind=SITE)
    found: list[Sample] = []
    try:
        with (
            interface(hosts.server, pair.server, interface_section(server.private, PORT) + to_client) as at,
            interface(hosts.client, pair.client, interface_section(client.private, PORT) + to_server) as to,
            iperf_server(hosts.server),
            iperf_server(site),
        ):
            hosts.client.run("ping", "-n", "-c1", "-W5", OVERLAY["server"])
            ends = Ends(hosts.client, at, to, seconds)
            for metrics, measure in flows.STEPS:
                found += samples.measured(number, pair.title, metrics, partial(measure, ends))
    except samples.FAILURES as error:
        tried = {each.metric for each in found}
        missing = [metric for metric in flows.METRICS if metric.name not in tried]
        found += samples.unmeasured(number, pair.title, missing, error)
    return found


def to_json(found: Sequence[Sample]) -> dict[str, Any]:
    units = {metric.name: metric.unit for group in GROUPS for metric in group.metrics}
    return {"reference": REFERENCE, "units": units, "samples": samples.to_json(found)}


def from_json(data: dict[str, Any]) -> list[Sample]:
    return samples.from_json(data["samples"])


def tables(found: Sequence[Sample]) -> list[tuple[list[str], list[list[str]]]]:
    return [group.table(found) for group in GROUPS]
