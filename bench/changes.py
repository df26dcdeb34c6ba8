"""What one change of a peer costs a pod, with few peers and with many, by the control API.

Each change is whole when its answer is there: in force, and stored so that a crash loses nothing.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2s
from statistics import median
from typing import Any, Final

from tests.lab.certificates import Authority
from tests.lab.network import Network
from tests.lab.peer import KeyPair
from tests.lab.pods import Operator, Pod, tunnel_spec

from handfast_tunnel.control import Configuration, ControlClient, Patch, PeerSpec

from .hosts import processor_seconds

COUNTS: Final = (100, 1000, 10_000)
WARM_UP: Final = 20
"""Changes that are not counted: the first of them comes to a pod that has stored nothing yet."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of a change, with so many peers."""

    peers: int
    changes: int
    seconds: float
    """Until its answer, median."""
    slowest: float
    processor_seconds: float
    """Of the pod, mean."""


def run(rounds: int, say: Callable[[str], None], counts: tuple[int, ...] = COUNTS) -> list[Cost]:
    costs = []
    for count in counts:
        costs.append(_measure(count, rounds))
        say("  " + ", ".join(_line(costs[-1])))
    return costs


def _measure(count: int, rounds: int) -> Cost:
    configuration = Configuration.of(1, tunnel_spec(KeyPair.generate()), map(_peer, range(count)))
    with Network() as network:
        (host,) = network.add("gateway")
        authority = Authority()
        pod, operator = Pod(host, configuration, authority=authority), Operator(network, authority)
        pod.start()
        operator.wait_for_api(pod)
        took: list[float] = []
        spent = 0.0

        async def change(sidecar: ControlClient) -> None:
            nonlocal spent
            await sidecar.activate(term=1, generation=1)
            for number in range(1, WARM_UP + rounds + 1):
                if number == WARM_UP + 1:
                    spent = processor_seconds(pod.running)
                peer = _peer(number % count, name=f"change {number}")
                began = time.monotonic()
                await sidecar.patch_peers(Patch(number + 1, number, (peer,)))
                took.append(time.monotonic() - began)
            spent = processor_seconds(pod.running) - spent

        operator.call(pod, change)
        pod.running.kill()
    counted = took[WARM_UP:]
    return Cost(count, rounds, median(counted), max(counted), spent / rounds)


def _peer(number: int, name: str = "") -> PeerSpec:
    addresses = (f"10.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}/32", f"fd99::{number:x}/128")
    return PeerSpec(_key(2 * number), _key(2 * number + 1), addresses, name=name or f"peer-{number}")


def _key(number: int) -> str:
    """Of somebody who never comes."""
    return b64encode(blake2s(number.to_bytes(4, "big")).digest()).decode()


def _line(cost: Cost) -> list[str]:
    return [
        f"{cost.peers:,}",
        str(cost.changes),
        f"{cost.seconds * 1000:.1f} ms",
        f"{cost.slowest * 1000:.0f} ms",
        f"{cost.processor_seconds * 1000:.1f} ms",
    ]


def to_json(costs: list[Cost]) -> dict[str, Any]:
    return {"costs": [asdict(cost) for cost in costs]}


def from_json(data: dict[str, Any]) -> list[Cost]:
    return [Cost(**cost) for cost in data["costs"]]


def table(costs: list[Cost]) -> tuple[list[str], list[list[str]]]:
    return ["peers", "changes", "until its answer: median", "slowest", "processor time"], list(
        map(_line, costs)
    )
