"""A drain outlives the worker, and ends with the keeper; on a node of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.lab.namespaces import Lab, Node, Process, wait_until
from tests.lab.tools import tool

HANDFAST = str(tool("handfast-tunnel"))
CONTROL = "/run/handfast/wg0.control"


@pytest.fixture
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_nodes("node")[0]


def start(node: Node) -> Process:
    process = node.start(HANDFAST, "-f", "wg0")
    wait_until(lambda: node.attempt(HANDFAST, "status").returncode == 0, 10, "the daemon")
    node.run("ip", "link", "set", "wg0", "up")
    return process


def frozen(node: Node) -> bool:
    done = node.attempt(HANDFAST, "status", "--json")
    return bool(json.loads(done.stdout)["frozen"])


def test_a_drain_outlives_the_worker_only(node: Node) -> None:
    keeper = start(node)
    node.run(HANDFAST, "drain")
    former = keeper.children()[0]
    os.kill(former, signal.SIGKILL)
    wait_until(lambda: keeper.children()[:1] not in ([], [former]), 10, "the next worker")
    wait_until(lambda: node.attempt(HANDFAST, "status").returncode == 0, 10, "its answer")
    assert frozen(node)
    assert "drained" in node.run(HANDFAST, "state", "show")
    os.kill(keeper.pid, signal.SIGTERM)
    assert keeper.wait() == 0
    start(node)
    assert not frozen(node)
    assert "drained" not in node.run(HANDFAST, "state", "show")
