"""The cloud's part of a Service of type LoadBalancer: an address, health checks, flows steered to nodes.

Two kinds, as clouds have them:

- *passthrough*: a packet keeps its destination, and a node's kube-proxy knows the address (GCP, MetalLB);
- *node ports*: the balancer translates to a node's address and its node port (AWS NLB with instance targets).

Each remembers which node a flow goes to, for 120 s without packets. When a node becomes unhealthy, its flows
either stay with it until then (AWS: an NLB's UDP flows) or go to another at their next packet (GCP).
"""

from __future__ import annotations

import ctypes
import http.client
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from urllib3.exceptions import HTTPError

from tests.lab.namespaces import wait_until

from .api import Api, Object
from .cluster import Cluster
from .machines import Machine
from .settings import ClusterError, address

Style = Literal["passthrough", "node ports"]
ADDRESSES = "203.0.113"
_INTERVAL, _TIMEOUT, _FAILURES = 0.5, 0.5, 2
_KUBE_PROXY_HEALTH = 10256
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Balancer:
    """Gives a Service an address and keeps flows going to healthy nodes; a context manager."""

    def __init__(
        self,
        cluster: Cluster,
        api: Api,
        service: str,
        style: Style = "passthrough",
        *,
        keeps_flows: bool = True,
    ) -> None:
        self._router, self._api, self._service = cluster.router, api, service
        self._style, self._keeps_flows = style, keeps_flows
        self._nodes = [address(name) for name in cluster.settings.node_names]
        self._failures = dict.fromkeys((node.number for node in self._nodes), _FAILURES)
        self._steered: list[int] | None = None
        self._ended = threading.Event()
        self.address = self._take_address()
        self._thread = threading.Thread(target=self._watch, name="balancer", daemon=True)

    def __enter__(self) -> Self:
        self._publish()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._router.run("nft", "delete", "table", "ip", self._table)

    @property
    def healthy(self) -> list[int]:
        """The numbers of the nodes that get flows."""
        return [number for number, failures in self._failures.items() if failures < _FAILURES]

    def wait_healthy(self, *nodes: str, timeout: float = 30) -> None:
        """Wait until these nodes, and no others, get flows."""
        numbers = [address(node).number for node in nodes]
        wait_until(
            lambda: self._steered == numbers, timeout, f"{nodes} to be the healthy ones, not {self.healthy}"
        )

    @property
    def _table(self) -> str:
        return f"balancer{self.address.rpartition('.')[2]}"

    def _take_address(self) -> str:
        """One that no other test has: a table of this name can be made once."""
        for last in range(10, 250):
            if self._router.attempt("nft", "create", "table", "ip", f"balancer{last}").returncode == 0:
                return f"{ADDRESSES}.{last}"
        raise ClusterError("no address is left for another balancer")

    def _publish(self) -> None:
        """Tell the Service its address, and whether kube-proxy is to see it."""
        mode = "VIP" if self._style == "passthrough" else "Proxy"
        status = {"loadBalancer": {"ingress": [{"ip": self.address, "ipMode": mode}]}}
        self._api.patch("Service", self._service, {"status": status}, subresource="status")

    def _watch(self) -> None:
        _enter_network_of(self._router)
        service: Object | None = None
        while not self._ended.is_set():
            # While the API server is away, a cloud goes on with what it knows.
            with suppress(HTTPError):
                service = self._api.get("Service", self._service)["spec"]
            if service is not None:
                self._look(service)
            self._ended.wait(_INTERVAL)

    def _look(self, service: Object) -> None:
        port = service.get("healthCheckNodePort") or _KUBE_PROXY_HEALTH
        for node in self._nodes:
            failures = 0 if _answers(node.ipv4, port) else self._failures[node.number] + 1
            self._failures[node.number] = failures
        self._steer(service["ports"])

    def _steer(self, ports: list[Object]) -> None:
        healthy = self.healthy
        if healthy == self._steered:
            return
        rules = self._marks(ports) if self._style == "passthrough" else self._translations(ports)
        table = "\n".join([f"table ip {self._table} {{", *rules, "}"])
        self._router.run("nft", "-f", "-", input=f"flush table ip {self._table}\n{table}")
        self._steered = healthy
        if not self._keeps_flows and self._style == "node ports":
            for node in self._nodes:
                if node.number not in healthy:
                    gone = ["--proto", "udp", "--orig-dst", self.address, "--reply-src", node.ipv4]
                    self._router.attempt("conntrack", "--delete", *gone)

    def _marks(self, ports: list[Object]) -> Iterator[str]:
        """A mark says to which node a packet is routed; the connection remembers it."""
        ours = f"ip daddr {self.address} udp dport {{ {_joined(port['port'] for port in ports)} }}"
        numbers = [node.number for node in self._nodes] if self._keeps_flows else self.healthy
        yield "chain prerouting {"
        yield "type filter hook prerouting priority mangle"
        if numbers:
            yield f"{ours} ct mark {{ {_joined(numbers)} }} meta mark set ct mark accept"
        if self.healthy:
            yield f"{ours} meta mark set {self._choice(self.healthy)}"
            yield f"{ours} ct mark set meta mark"
        else:
            yield f"{ours} drop"
        yield "}"

    def _translations(self, ports: list[Object]) -> Iterator[str]:
        addresses = [node.ipv4 for node in self._nodes if node.number in self.healthy]
        yield "chain prerouting {"
        yield "type nat hook prerouting priority dstnat"
        for port in ports if addresses else []:
            targets = self._choice(f"{address} . {port['nodePort']}" for address in addresses)
            yield f"ip daddr {self.address} udp dport {port['port']} dnat ip to {targets}"
        yield "}"

    def _choice(self, targets: Iterable[object]) -> str:
        """A flow's target, by its source."""
        numbered = [f"{number} : {target}" for number, target in enumerate(targets)]
        return f"jhash ip saddr . udp sport mod {len(numbered)} map {{ {_joined(numbered)} }}"


def _joined(parts: Iterable[object]) -> str:
    return ", ".join(map(str, parts))


def _enter_network_of(machine: Machine) -> None:
    """From now on this thread's sockets are of that machine's network. (Python has os.setns from 3.12 on.)"""
    with Path(f"/proc/{machine.pid}/ns/net").open() as network:
        if _libc.setns(network.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network of {machine.name}")


def _answers(host: str, port: int) -> bool:
    line = http.client.HTTPConnection(host, port, timeout=_TIMEOUT)
    try:
        line.request("GET", "/healthz")
        return line.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        line.close()
