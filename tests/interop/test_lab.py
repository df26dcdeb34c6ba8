"""The laboratory itself: what the other tests take for granted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.adversary import noise
from tests.lab.filters import Message
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.probes import Log

REPOSITORY = Path(__file__).parents[2]
_OWNER = """
import time
from tests.lab.namespaces import Lab

lab = Lab()
(node,) = lab.add_nodes("node")
print(node.start("sleep", "600").pid, flush=True)
time.sleep(600)
"""


def message(kind: Message) -> bytes:
    return kind.to_bytes(4, "little") + bytes(60)


def passes(source: Host, destination: Host, payloads: list[bytes]) -> list[int]:
    """Which of these payloads arrive, by their number."""
    with (
        destination.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        source.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened,
    ):
        sink.bind((destination.ipv4, 51820))
        sink.settimeout(5)
        for number, payload in enumerate([*payloads, b"last"]):
            opened.sendto(payload + bytes([number]), sink.getsockname())
        arrived = iter(lambda: sink.recv(2048), b"last" + bytes([len(payloads)]))
        return [payload[-1] for payload in arrived]


def test_filters_drop_the_first_or_the_later(network: Network) -> None:
    left, right = network.add("left", "right")
    dropped = network.filters.drop(Message.INITIATION, source="left", first=2)
    assert passes(left, right, [message(Message.INITIATION)] * 4) == [2, 3]
    assert dropped.packets == 2
    dropped.remove()
    network.filters.drop(Message.RESPONSE, source="left", after=1)
    sent = [
        message(kind) for kind in (Message.RESPONSE, Message.RESPONSE, Message.INITIATION, Message.RESPONSE)
    ]
    assert passes(left, right, sent) == [0, 2]
    assert passes(right, left, sent) == [0, 1, 2, 3], "the other direction is another matter"


def test_a_firewall_admits_only_answers(network: Network) -> None:
    left, right = network.add("left", "right")
    network.filters.admit_answers_only("right")
    assert left.node.attempt("ping", "-c1", "-W1", right.ipv4).returncode != 0
    assert right.node.attempt("ping", "-c1", "-W1", left.ipv4).returncode == 0


def test_hosts_behind_nat_show_the_routers_address(network: Network) -> None:
    (server,) = network.add("server")
    (phone,) = network.add("phone", nat=True)
    capture = network.capture(server)
    passes(phone, server, [message(Message.INITIATION)])
    assert capture.wait(Message.INITIATION)[0].source == server.router_ipv4


def test_a_lab_whose_owner_is_killed_vanishes(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", _OWNER]
    with subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        inhabitant = Path("/proc") / owner.stdout.readline().strip()
        assert inhabitant.exists()
        os.kill(owner.pid, signal.SIGKILL)
    wait_until(lambda: not inhabitant.exists(), 5, "what lived in the lab to be gone")


def test_an_outage_is_the_longest_silence() -> None:
    log = Log(arrived=[1.0, 2.0, 5.0, 5.5], latency=[0.1] * 4)
    assert log.longest_silence(1.5, 6.0) == pytest.approx(3.0)
    assert log.longest_silence(5.2, 9.0) == pytest.approx(3.5), "a silence that lasts counts to the end"
    assert log.first_after(2.5) == 5.0
    assert log.first_after(7.0) is None


def test_noise_has_every_type_and_is_repeatable() -> None:
    datagrams = noise(size=1400, count=100, seed=3)
    assert datagrams == noise(size=1400, count=100, seed=3)
    assert {d[0] for d in datagrams if len(d) > 3} > {1, 2, 3, 4}
