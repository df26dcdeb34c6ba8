"""What many Peers cost the operator, on an API server without nodes: for tests, and for `make soak`."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.lab.namespaces import wait_until

from .api import Api, Object, condition
from .cluster import Cluster
from .gateways import SYSTEM, peer, tunnel

_ROOT = Path(__file__).parents[2]
_PATIENCE = 900
CHANGES = 5


@dataclass(frozen=True)
class Cost:
    """Of `count` Peers at once, and then of each change of one of them."""

    count: int
    seconds: float
    """Until all are accepted, and each has its Secret and its status."""
    calls: int
    processor_seconds: float
    megabytes: float
    change_seconds: float
    """Until the configuration that pods are given holds it, median."""
    change_calls: float
    change_processor_seconds: float


class _Operator:
    """A process outside of the cluster, with the administrator's credentials."""

    def __init__(self, cluster: Cluster, log: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port: int = free.getsockname()[1]
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "handfast_operator"],
                env=os.environ
                | {
                    "KUBECONFIG": str(cluster.settings.kubeconfig),
                    "HANDFAST_NAMESPACE": SYSTEM,
                    "HANDFAST_HEALTH_PORT": str(self._port),
                    "HANDFAST_METRICS_PORT": str(self._port),
                    "PYTHONPATH": os.pathsep.join(str(_ROOT / folder) for folder in ("tunnel", "operator")),
                },
                stdout=file,
                stderr=file,
            )

    def calls(self) -> int:
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        line.request("GET", "/metrics")
        text = line.getresponse().read().decode()
        line.close()
        match = re.search(r"^handfast_operator_api_calls_total\S* (\d+)", text, re.MULTILINE)
        assert match, text
        return int(match[1])

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def megabytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def measure(cluster: Cluster, count: int, directory: Path) -> Cost:
    """In a namespace of its own, by an operator that finds them when it starts."""
    with _namespaces(cluster, f"peers-{count}") as api:
        api.apply(tunnel(gateway={"exposure": "ClusterIP"}))
        _in_parallel(api, [peer(f"peer-{number}") for number in range(count)])
        began, operator = time.monotonic(), _Operator(cluster, directory / "operator.log")
        try:
            wait_until(lambda: _accepted(api) == count, _PATIENCE, "all Peers to be accepted", interval=1)
            wait_until(lambda: len(api.list("Secret")) >= count, _PATIENCE, "all Secrets", interval=1)
            first = time.monotonic() - began
            calls, spent = _calm(operator)
            took = [_change(api, number) for number in range(CHANGES)]
            calls_then, spent_then = _calm(operator)
            return Cost(
                count,
                first,
                calls,
                spent,
                operator.megabytes(),
                median(took),
                (calls_then - calls) / CHANGES,
                (spent_then - spent) / CHANGES,
            )
        finally:
            operator.end()


def _change(api: Api, number: int) -> float:
    """Seconds until the configuration Secret is another."""
    before = _generation(api)
    began = time.monotonic()
    api.apply(peer(f"peer-{number}", persistentKeepalive=20 + number))
    wait_until(lambda: _generation(api) != before, _PATIENCE, "the change to be written", interval=0.01)
    return time.monotonic() - began


def _generation(api: Api) -> str:
    return str(api.get("Secret", "office-handfast-config")["metadata"]["resourceVersion"])


def _calm(operator: _Operator) -> tuple[int, float]:
    """Calls and processor time, once nothing is called any more but for the Lease."""
    while True:
        before = operator.calls()
        time.sleep(3)
        if operator.calls() == before:
            return before, operator.processor_seconds()


def _accepted(api: Api) -> int:
    return sum(condition(each, "Accepted") == "True" for each in api.list("Peer"))


def _in_parallel(api: Api, objects: list[Object]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(api.apply, objects))


@contextmanager
def _namespaces(cluster: Cluster, name: str) -> Iterator[Api]:
    cluster.kubectl("apply", "--server-side", "--filename", str(_ROOT / "manifests" / "crds.yaml"))
    for namespace in (SYSTEM, name):
        api = Api(cluster.settings.kubeconfig, namespace)
        api.create_namespace()
        if namespace == SYSTEM:
            api.close()
    try:
        yield api
    finally:
        api.delete_namespace()
        api.wait_gone("Namespace", name, 300)
        api.close()
