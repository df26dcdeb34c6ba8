"""What many Peers cost the operator: a test has some, `python -m bench operator` 10,000."""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.lab.namespaces import LabError, wait_until

from . import beside, control_plane, objects
from .api import Api, Object, condition
from .cluster import Cluster
from .gateways import GATEWAY, SYSTEM, peer, tunnel

_ROOT = Path(__file__).parents[2]
_PATIENCE = 900
METRICS = "127.0.0.1:8081"
CALM = 3.0
"""Seconds without a call."""
CHANGES = 9
_IDLE = 10.0
"""Seconds in which an operator with nothing to do is watched: two questions for who is connected."""
ROOM: Object = {"addresses": [f"{GATEWAY}/16"], "pools": [{"cidr": "10.8.0.0/16"}]}


@dataclass(frozen=True)
class Cost:
    """Of `count` Peers at once, and then of each change of one of them."""

    count: int
    seconds: float
    """Until all is written: each Peer's Secret and status, and whatever the Tunnel itself needs."""
    calls: int
    processor_seconds: float
    megabytes: float
    change_seconds: float
    """Until the Peer is Programmed as it is now; without nodes, until the configuration is written that pods
    would be given. Median,"""
    slowest_change_seconds: float
    change_calls: float
    change_processor_seconds: float
    """Without what the operator takes when nothing changes."""


class _Operator:
    """Of one namespace's Tunnels: those of another measurement may still be going away."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        with (directory / "operator.log").open("wb") as log:
            environment = {
                "HANDFAST_NAMESPACE": SYSTEM,
                "HANDFAST_WATCH_NAMESPACES": namespace,
                "HANDFAST_TUNNEL_IMAGE": objects.TUNNEL,
            }
            self._process = beside.start(cluster, "handfast_operator", environment, directory, log)
        self._port = control_plane.forward(cluster.control, METRICS, f"metrics-{self._process.pid}")

    def calls(self) -> int:
        """0 while it does not answer yet."""
        line = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            line.request("GET", "/metrics")
            text = line.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            line.close()
        match = re.search(r"^handfast_operator_api_calls_total\S* (\d+)", text, re.MULTILINE)
        assert match, text
        return int(match[1])

    def processor_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def idle_share(self) -> float:
        """Of a processor, while nothing changes."""
        before, since = self.processor_seconds(), time.monotonic()
        time.sleep(_IDLE)
        return (self.processor_seconds() - before) / (time.monotonic() - since)

    def megabytes(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1000

    def wait_calm(self, done: Callable[[], bool]) -> float:
        """Until it is done, and calls nothing any more but for the Lease; returns when it last did."""
        deadline = time.monotonic() + _PATIENCE
        calls, at = self.calls(), time.monotonic()
        looked = at
        while (now := time.monotonic()) < deadline:
            if (there := self.calls()) != calls:
                calls, at = there, now
            elif calls and now - max(at, looked) > CALM:
                if done():
                    return at
                looked = time.monotonic()
            time.sleep(0.2)
        raise LabError(f"the operator is not done within {_PATIENCE} s")

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def measure(cluster: Cluster, count: int, directory: Path) -> Cost:
    """In a namespace of its own, by an operator that finds them when it starts."""
    nodes = bool(cluster.nodes)
    with _namespaces(cluster, f"peers-{count}") as api:
        api.apply(tunnel(gateway={"exposure": "ClusterIP"}, **ROOM))
        _in_parallel(api, [peer(f"peer-{number}") for number in range(count)])
        began, operator = time.monotonic(), _Operator(cluster, api.namespace, directory)
        try:
            first = operator.wait_calm(lambda: _done(api, count, "Ready" if nodes else "Accepted")) - began
            calls, spent = operator.calls(), operator.processor_seconds()
            idle = operator.idle_share() if nodes else 0.0
            called, before, since = operator.calls(), operator.processor_seconds(), time.monotonic()
            took = [_change(api, number, nodes=nodes) for number in range(CHANGES)]
            operator.wait_calm(lambda: True)
            changing = operator.processor_seconds() - before - idle * (time.monotonic() - since)
            return Cost(
                count,
                first,
                calls,
                spent,
                operator.megabytes(),
                median(took),
                max(took),
                (operator.calls() - called) / CHANGES,
                max(changing, 0.0) / CHANGES,
            )
        finally:
            operator.end()


def _change(api: Api, number: int, *, nodes: bool) -> float:
    """Seconds until it has its effect."""
    name, before = f"peer-{number}", _generation(api)
    began = time.monotonic()
    api.apply(peer(name, persistentKeepalive=20 + number))
    wait_until(
        lambda: _is_programmed(api.get("Peer", name)) if nodes else _generation(api) != before,
        _PATIENCE,
        "the change to have its effect",
        interval=0.01,
    )
    return time.monotonic() - began


def _is_programmed(found: Object) -> bool:
    """As it is now."""
    return any(
        (each["type"], each["status"], each["observedGeneration"])
        == ("Programmed", "True", found["metadata"]["generation"])
        for each in found["status"]["conditions"]
    )


def _generation(api: Api) -> str:
    return str(api.get("Secret", "office-handfast-config")["metadata"]["resourceVersion"])


def _done(api: Api, count: int, wanted: str) -> bool:
    return sum(condition(each, wanted) == "True" for each in api.pages("Peer")) == count


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
        api.close()
