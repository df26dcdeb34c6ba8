"""The network in memory does what the other tests rely on."""

from __future__ import annotations

import pytest

from .network import Host, Network, Path


def talk(network: Network, count: int = 200) -> tuple[Host, list[bytes]]:
    server, client = network.pair()
    client.send(server, b"hello")
    network.run(1)
    server.inbox.clear()
    return server, [b"%d" % number for number in range(count)]


def exchange(path: Path, seed: int = 1) -> tuple[list[bytes], list[bytes]]:
    network = Network(seed)
    server, payloads = talk(network)
    (client,) = (host for host in network.hosts.values() if host is not server)
    network.paths[client] = path
    for payload in payloads:
        client.send(server, payload)
        network.run(0.001)
    network.run(1)
    return payloads, server.inbox


def test_good_path_delivers_everything_in_order() -> None:
    payloads, arrived = exchange(Path())
    assert arrived == payloads


def test_lossy_path_loses_its_share() -> None:
    payloads, arrived = exchange(Path(loss=0.3))
    assert 0.6 < len(arrived) / len(payloads) < 0.8


def test_jitter_reorders() -> None:
    payloads, arrived = exchange(Path(jitter=0.01))
    assert arrived != payloads
    assert sorted(arrived) == sorted(payloads)


def test_duplicates_reach_the_device_which_drops_them() -> None:
    network = Network(1)
    server, _ = talk(network)
    network.path = Path(duplication=1.0)
    (client,) = (host for host in network.hosts.values() if host is not server)
    client.send(server, b"twice")
    network.run(1)
    assert server.inbox == [b"twice"]
    assert server.device.statistics.dropped["replay"] == 1


def test_one_seed_is_one_history() -> None:
    path = Path(loss=0.4, jitter=0.05, duplication=0.2)
    assert exchange(path, seed=7) == exchange(path, seed=7)
    assert exchange(path, seed=7) != exchange(path, seed=8)


def test_who_roamed_is_not_reached_at_the_old_address() -> None:
    network = Network()
    server, client = network.connected_pair()
    client.roam("10.3.3.3")
    server.send(client, b"to the old address")
    network.run(1)
    assert client.inbox == []
    client.send(server, b"here")
    network.run(1)
    server.send(client, b"to the new one")
    network.run(1)
    assert client.inbox == [b"to the new one"]


def test_crash_forgets_sessions_but_not_the_configuration() -> None:
    network = Network()
    server, client = network.connected_pair()
    server.crash()
    assert server.peer(client).current is None
    assert server.device.public_key == server.key.public


def test_time_moves_to_its_end_and_not_beyond() -> None:
    network = Network()
    server, client = network.pair()
    began = network.now
    network.run(12.5)
    assert network.now == began + 12.5
    client.send(server, b"x")
    assert network.run_until(lambda: server.inbox == [b"x"]) == pytest.approx(3 * network.path.delay)
    with pytest.raises(AssertionError, match="not within"):
        network.run_until(lambda: client.inbox == [b"never"], limit=5)


def test_thousands_of_packets_a_second_can_be_simulated() -> None:
    network = Network()
    server, client = network.connected_pair()
    for number in range(3000):
        client.send(server, b"%d" % number)
        network.run(0.02)
    assert len(server.inbox) == 3000
