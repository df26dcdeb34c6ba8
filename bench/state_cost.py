"""What state memory costs: the same tunnel with it and without, in turn.

A virtual machine's speed changes by a fifth from one second to the next; so what counts is the ratio of
neighbours, of many, and beside the throughput the processor time for each bit of it, which changes less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, Final

from tests.lab.peer import PORT, KeyPair

from .commands import interface_section, peer_section
from .flows import Ends, iperf_server, megabits_and_effort
from .hosts import OVERLAY, UNDERLAY, TwoHosts, interface

KEPT: Final = "handfast"
FORGOTTEN: Final = "handfast-forgetful"


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one TCP stream, both ends together."""

    throughput: float
    """Mbit/s."""
    effort: float
    """Seconds of processor time for a Gbit."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Measured one right after the other."""

    kept: Figures
    forgotten: Figures


def run(pairs: int, seconds: float, say: Callable[[str], None]) -> list[Neighbours]:
    """Which one goes first alternates."""
    found = []
    with TwoHosts() as hosts:
        for number in range(pairs):
            order = (KEPT, FORGOTTEN) if number % 2 else (FORGOTTEN, KEPT)
            figures = {name: _measure(hosts, name, seconds) for name in order}
            found.append(Neighbours(figures[KEPT], figures[FORGOTTEN]))
            rates = [f"{found[-1].kept.throughput:.0f}", f"{found[-1].forgotten.throughput:.0f}"]
            say(f"  pair {number + 1} of {pairs}: {rates[0]} Mbit/s with state memory, {rates[1]} without")
    return found


def _measure(hosts: TwoHosts, program: str, seconds: float) -> Figures:
    server, client = KeyPair.generate(), KeyPair.generate()
    to_client = peer_section(client.public, OVERLAY["client"])
    to_server = peer_section(server.public, OVERLAY["server"], f"{UNDERLAY['server']}:{PORT}")
    with (
        interface(hosts.server, program, interface_section(server.private, PORT) + to_client) as serving,
        interface(hosts.client, program, interface_section(client.private, PORT) + to_server) as calling,
        iperf_server(hosts.server),
    ):
        hosts.client.run("ping", "-n", "-c1", "-W5", OVERLAY["server"])
        throughput, effort = megabits_and_effort(Ends(hosts.client, serving, calling, seconds))
    return Figures(round(throughput, 1), round(effort, 4))


def to_json(found: list[Neighbours]) -> dict[str, Any]:
    return {"pairs": [asdict(neighbours) for neighbours in found]}


def from_json(data: dict[str, Any]) -> list[Neighbours]:
    return [Neighbours(Figures(**pair["kept"]), Figures(**pair["forgotten"])) for pair in data["pairs"]]


def table(found: list[Neighbours]) -> tuple[list[str], list[list[str]]]:
    """Medians, and the quartiles of the ratios."""
    columns = ["one TCP stream", "pairs", "with state memory", "without", "ratio: median", "quartiles"]
    quantities: tuple[tuple[str, int, Callable[[Figures], float]], ...] = (
        ("Mbit/s", 0, lambda figures: figures.throughput),
        ("processor seconds a Gbit, both ends", 2, lambda figures: figures.effort),
    )
    lines = []
    for title, digits, quantity in quantities:
        kept = [quantity(pair.kept) for pair in found]
        forgotten = [quantity(pair.forgotten) for pair in found]
        ratios = [with_it / without for with_it, without in zip(kept, forgotten, strict=True)]
        lower, _, upper = quantiles(ratios, n=4)
        medians = [f"{median(values):,.{digits}f}" for values in (kept, forgotten)]
        lines.append(
            [title, str(len(found)), *medians, f"{median(ratios):.3f}", f"{lower:.3f} to {upper:.3f}"]
        )
    return columns, lines
