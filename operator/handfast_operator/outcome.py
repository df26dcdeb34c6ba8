"""What a handover was like for clients, by what their peers' successor says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import ceil
from typing import Final

from handfast_tunnel.control import PeerStatus

WINDOW_SECONDS: Final = 60.0
"""For so long after a handover, who comes back comes back from that."""


def of_handover(peers: Iterable[PeerStatus]) -> dict[str, str]:
    """As `status.lastHandover` has it, of those who are back: nothing while nobody is."""
    back = [peer for peer in peers if peer.method]
    found: dict[str, str] = {}
    if back:
        found["method"] = Counter(peer.method or "" for peer in back).most_common(1)[0][0]
    if latencies := sorted(peer.latency for peer in back if peer.latency is not None):
        found["p99Seconds"] = f"{latencies[ceil(0.99 * len(latencies)) - 1]:.2f}"
    return found
