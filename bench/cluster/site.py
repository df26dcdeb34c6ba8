"""Two nodes, both gateways, and 24 clients: every kind, by every exposure, behind NAT and not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import product
from typing import Any, Final, Self

from tests.cluster import objects
from tests.cluster.api import Api, Object
from tests.cluster.cloud import Balancer
from tests.cluster.cluster import Cluster
from tests.cluster.gateways import Gateway, install, peer
from tests.cluster.outside import Outside
from tests.cluster.settings import SERVICES, Settings
from tests.cluster.settings import address as machine_address
from tests.lab.peer import PORT
from tests.lab.probes import Probes

from bench.clients import Client
from bench.results import Kind

from .clients import Entrance, Watch, Way, address, start
from .results import GATEWAYS, HANDFAST, STOCK, Exposure
from .stock import NAME as STOCK_NAME
from .stock import Stock

VICTIM: Final = "node1"
"""What befalls a node befalls this one."""
STAYS: Final = "node2"
"""What clients know of the cluster stays: the node that they name, and what is behind the gateways."""
NAMESPACE: Final = "outages"
_FIRST: Final = 10


class Site:
    """Everything from the cluster to the clients; a context manager that takes all of it down again."""

    def __init__(self, name: str | None, exposures: Sequence[Exposure]) -> None:
        """`name` is of a cluster that stays; without one it is made, and ends."""
        self._closing = ExitStack()
        self._exposures = exposures
        self._name = name

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *failure: Any) -> None:
        self._closing.__exit__(*failure)  # what fails here must not hide why

    def _build(self) -> None:
        self.cluster = self._cluster()
        install(self.cluster)
        self.api = self.another_api()
        self.api.create_namespace()
        self._closing.callback(self.api.delete_namespace)
        self.gateway, self.stock = Gateway(self.api), Stock(self.another_api(), address(STOCK, 1))
        self.outside = self._closing.enter_context(Outside(self.cluster))
        clients = [
            (exposure, Client(kind, self.outside.add(f"c{number}", nat=nat), number, endpoint=True))
            for number, (exposure, nat, kind) in enumerate(
                product(self._exposures, (False, True), Kind), _FIRST
            )
        ]
        self._start_gateways([client for _, client in clients])
        self.ways = self._ways(clients)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Way.join_again, self.ways))
        probes = self._closing.enter_context(Probes())
        for way in self.ways:
            way.probe(probes)
        self._closing.enter_context(Watch(self.ways))

    def _cluster(self) -> Cluster:
        if self._name:
            return Cluster(Settings(self._name).found())
        cluster = Cluster(Settings(f"bench-{os.getpid()}", nodes=2))
        cluster.up(owner=os.getpid())
        self._closing.callback(cluster.down)
        return cluster

    def another_api(self, namespace: str = "") -> Api:
        """Each thread needs its own."""
        self._namespace = getattr(self, "_namespace", f"{NAMESPACE}-{secrets.token_hex(2)}")
        api = Api(self.cluster.settings.kubeconfig, namespace or self._namespace)
        self._closing.callback(api.close)
        return api

    def _start_gateways(self, clients: Sequence[Client]) -> None:
        echoes = [objects.pod(f"echo-{i}", node=STAYS) for i in range(len(GATEWAYS))]
        peers = [
            peer(f"c{c.number}", publicKey=c.keys.public, addresses=[address(HANDFAST, c.number)])
            for c in clients
        ]
        self.api.apply(*echoes, *peers, self.stock.service())
        self.gateway.start(gateway={"exposure": "LoadBalancer"}, presharedKeys="None")
        self.stock.up((c.keys.public, address(STOCK, c.number)) for c in clients)
        self.api.wait("Service", self.gateway.name, bool)
        self.balancers = {
            HANDFAST: self._balancer(self.gateway.name),
            STOCK: self._balancer(STOCK_NAME),
        }
        self.gateway.wait_ready(120)
        for client in clients:
            self.gateway.wait_peer_served(f"c{client.number}")
        self.api.wait_ready(*(echo["metadata"]["name"] for echo in echoes))

    def _balancer(self, service: str) -> Balancer:
        balancer = Balancer(self.cluster, self.another_api(), service, keeps_flows=False)
        self._closing.enter_context(balancer)
        balancer.wait_healthy(*self.cluster.settings.node_names)
        return balancer

    def _ways(self, clients: Sequence[tuple[Exposure, Client]]) -> list[Way]:
        # Outside nobody has a route to a Service's own address; here one node is it, as for whoever is on it.
        self.cluster.router.ip(f"route replace {SERVICES[0]} via {machine_address(STAYS).ipv4}")
        self._closing.callback(self.cluster.router.ip, f"route del {SERVICES[0]}")
        services = {HANDFAST: self._service(self.gateway.name), STOCK: self._service(STOCK_NAME)}
        ways: list[Way] = []
        for exposure, client in clients:
            entrances = [self._entrance(gateway, exposure, services[gateway]) for gateway in GATEWAYS]
            start(client, entrances)
            ways += [Way(client, exposure, entrance) for entrance in entrances]
        for way in ways:
            if way.client.kind is not Kind.SENDING:
                way.source = next(other for other in ways if _sends_to(other, way))
        return ways

    def _service(self, name: str) -> Object:
        spec: Object = self.api.get("Service", name)["spec"]
        return spec

    def _entrance(self, gateway: str, exposure: Exposure, service: Object) -> Entrance:
        number = GATEWAYS.index(gateway)
        key = self.stock.keys.public if gateway == STOCK else self.gateway.status["publicKey"]
        echo = str(self.api.get("Pod", f"echo-{number}")["status"]["podIP"])
        match exposure:
            case Exposure.CLUSTER_IP:
                endpoint = f"{service['clusterIP']}:{PORT}"
            case Exposure.NODE_PORT:
                endpoint = f"{machine_address(STAYS).ipv4}:{service['ports'][0]['nodePort']}"
            case Exposure.LOAD_BALANCER:
                endpoint = f"{self.balancers[gateway].address}:{PORT}"
        return Entrance(gateway, key, endpoint, echo)


def _sends_to(source: Way, way: Way) -> bool:
    """Of the same exposure and gateway; behind NAT as well, or not."""
    return (
        source.client.kind is Kind.SENDING
        and (source.exposure, source.entrance.gateway) == (way.exposure, way.entrance.gateway)
        and source.client.host.nat is way.client.host.nat
    )
