"""What the kernel's queues lose while no worker reads them is seen: per takeover and in total."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from typing import Any

from tests.interop.conftest import Pair
from tests.lab.namespaces import wait_until
from tests.lab.peer import PORT, Peer
from tests.lab.restarts import kill_worker, worker_of

METRICS = "127.0.0.1:9586"
FETCH = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
FLOOD = 20_000
"""Datagrams of 1400 bytes: twice what the socket's buffer takes."""
QUEUE = 1000
"""Packets that the TUN's takes."""


def status(server: Peer) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(server.command("status", "--json"))
    return answer


def socket_drops(server: Peer) -> int:
    """As the kernel has it, of the IPv4 socket."""
    lines = server.node.run("cat", "/proc/net/udp").splitlines()[1:]
    return next(int(line.split()[-1]) for line in lines if line.split()[1].endswith(f":{PORT:04X}"))


def link_drops(server: Peer) -> int:
    [link] = json.loads(server.node.run("ip", "-json", "-statistics", "link", "show", server.interface))
    return int(link["stats64"]["tx"]["dropped"])


def flood(pair: Pair) -> None:
    """More than fits, from the network and from the host."""
    server, client = pair.server, pair.client
    with client.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(FLOOD):
            sender.sendto(bytes(1400), (server.host.ipv4, PORT))
    with server.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(2 * QUEUE):
            sender.sendto(b"x", (client.ipv4, 9))


def test_what_overflows_while_a_worker_hangs_is_counted(usual: Pair) -> None:
    server, client = usual.server, usual.client
    server.implementation = server.implementation.with_options(f"--metrics={METRICS}")
    usual.start()
    client.reaches(server)
    hanging = worker_of(server)
    os.kill(hanging, signal.SIGSTOP)
    flood(usual)
    lost = {"udp_queue": socket_drops(server), "tun_queue": link_drops(server)}
    assert lost["udp_queue"] > 0
    assert lost["tun_queue"] >= QUEUE
    os.kill(hanging, signal.SIGKILL)
    client.reaches(server)

    time.sleep(1.1)  # the worker looks once a second
    metrics = server.node.run(sys.executable, "-c", FETCH, f"http://{METRICS}/metrics")
    found = status(server)
    assert found["incarnation"] == 2
    assert "handfast_incarnation 2.0" in metrics
    at_takeover, total = found["queue_drops"]["at_takeover"], found["queue_drops"]["total"]
    for reason, count in lost.items():
        # A few pings more may have found it full.
        assert count <= at_takeover[reason] <= total[reason] < count + 100
        assert f'handfast_takeover_dropped_packets{{reason="{reason}"}} {at_takeover[reason]}.0' in metrics
        assert f'handfast_dropped_packets_total{{reason="{reason}"}} {total[reason]}.0' in metrics

    kill_worker(server)
    client.reaches(server)
    wait_until(lambda: status(server)["incarnation"] == 3, 5, "the next worker")
    assert status(server)["queue_drops"] == {"at_takeover": dict.fromkeys(total, 0), "total": total}
    server.set("listen-port", "51999")
    server.stop()
    server.start()
    assert not any(status(server)["queue_drops"]["total"].values()), "other sockets, another device"
