"""What the tests of handshakes share: two hosts that know each other, and a network that loses on purpose.

The fixtures have other names as functions, so that a test's arguments do not hide what it imports.
"""

from __future__ import annotations

import pytest

from handfast_tunnel.core.configuration import Settings

from .network import Host, Network

QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)


@pytest.fixture(name="network")
def make_network() -> Network:
    return Network(seed=4)


@pytest.fixture(name="pair")
def make_pair(network: Network) -> tuple[Host, Host]:
    """A server that would use the recovery's rules, and a client like any other; each knows the other."""
    server, client = network.host(QUIET), network.host(STRICT)
    server.meet(client)
    client.meet(server)
    return server, client


def lose(network: Network, sender: Host, *types: int) -> None:
    """From here on loses what `sender` sends, of the given types or all."""
    network.lose = lambda d: d.sender is sender and (not types or d.type in types)


def completed(host: Host, role: str) -> int:
    """How many handshakes it has completed in this role."""
    return host.device.statistics.handshakes[role, "completed"]
