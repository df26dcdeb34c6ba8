"""How many handshakes a server answers in one second of processor time.

The initiations are made beforehand. Processor time of the server is counted, not time on the clock, so
that other work on the machine does not count.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any, Final

from tests.lab.namespaces import LabError
from tests.lab.peer import PORT, KeyPair

from .commands import interface_section, numbered, peer_section
from .hosts import TwoHosts, interface, processor_seconds
from .initiators import Initiator, answered
from .results import TITLES

SERVERS: Final = ("wireguard-go-modern", "wireguard-go", "handfast")
PEERS: Final = 250
"""So many that none comes twice within the 20 ms in which a second initiation is ignored."""


def run(rounds: int, handshakes: int, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Per server the handshakes answered per second of its processor time, round by round."""
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    with TwoHosts() as hosts:
        for number in range(rounds):
            for name in SERVERS:
                rates[name].append(_measure(hosts, name, handshakes))
                say(f"  round {number + 1} of {rounds}, {TITLES[name]}: {rates[name][-1]:.0f}/s")
    return rates


def _measure(hosts: TwoHosts, name: str, handshakes: int) -> float:
    keys = KeyPair.generate()
    initiators = [Initiator(index, keys.public) for index in range(PEERS)]
    peers = [peer_section(peer.public_key, numbered(9, peer.index)) for peer in initiators]
    configuration = interface_section(keys.private, PORT) + "".join(peers)
    with interface(hosts.server, name, configuration) as process, hosts.socket_to_server() as sock:
        # The first handshake of a peer costs a Diffie-Hellman that later ones do not.
        answered(sock, [peer.initiation() for peer in initiators])
        ready = [initiators[i % PEERS].initiation() for i in range(handshakes)]
        before = processor_seconds(process)
        responses = answered(sock, ready)
        spent = processor_seconds(process) - before
    if responses < handshakes * 0.95:
        raise LabError(f"{name} answered only {responses} of {handshakes} initiations")
    return responses / spent


def to_json(rates: dict[str, list[float]]) -> dict[str, Any]:
    return {"per_second_of_a_core": {name: [round(rate) for rate in found] for name, found in rates.items()}}


def from_json(data: dict[str, Any]) -> dict[str, list[float]]:
    rates: dict[str, list[float]] = data["per_second_of_a_core"]
    return rates


def table(rates: dict[str, list[float]]) -> tuple[list[str], list[list[str]]]:
    """KeyError where an implementation was not measured."""
    reference = median(rates[SERVERS[0]])
    return ["server", "handshakes answered per second of one core", "ratio"], [
        [TITLES[name], f"{median(rates[name]):,.0f}", f"{median(rates[name]) / reference:.2f}"]
        for name in SERVERS
    ]
