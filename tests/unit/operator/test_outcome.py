"""What is said about a handover."""

from __future__ import annotations

from handfast_operator.outcome import of_handover
from handfast_tunnel.control import PeerStatus


def test_nothing_before_somebody_is_back() -> None:
    assert of_handover([PeerStatus("a"), PeerStatus("b")]) == {}


def test_99_of_100_were_back_after_so_long() -> None:
    peers = [PeerStatus(str(n), method="answered", latency=n / 100) for n in range(1, 101)]
    assert of_handover(peers) == {"method": "answered", "p99Seconds": "0.99"}
    assert of_handover(peers[:7]) == {"method": "answered", "p99Seconds": "0.07"}


def test_the_method_of_most() -> None:
    peers = [PeerStatus(str(n), method="resumed") for n in range(3)]
    assert of_handover(peers) == {"method": "resumed"}
    peers += [PeerStatus(f"w{n}", method="waited", latency=25.0) for n in range(4)]
    assert of_handover([*peers, PeerStatus("away")]) == {"method": "waited", "p99Seconds": "25.00"}
