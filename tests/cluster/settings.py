"""What a cluster is made of: its options, its addresses, where it keeps what."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from tests.lab.tools import cache_folder

Proxy = Literal["iptables", "nftables"]

STATE = Path("/var/lib/handfast-cluster")
"""A folder for each cluster: keys, configuration, logs. Not in /tmp: others could have made it first."""
PROGRAMS = Path(__file__).parent / "programs"

SERVICES = ("10.96.0.0/16", "fd96::/112")
PODS = ("10.244.0.0/16", "fd44::/48")
API_SERVICE = "10.96.0.1"
DNS = "10.96.0.10"
API_PORT = 6443
ROUTER, CONTROL = "router", "control"
_NUMBERS = {ROUTER: 1, CONTROL: 2}


class ClusterError(Exception):
    """A cluster could not be made, or does not do what it was told."""


@dataclass(frozen=True)
class Address:
    """Where a machine is on the cluster's own network, and which addresses its pods get."""

    number: int

    @property
    def ipv4(self) -> str:
        return f"10.90.0.{self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd90::{self.number:x}"

    @property
    def pods(self) -> tuple[str, str]:
        return f"10.244.{self.number}.0/24", f"fd44:0:0:{self.number:x}::/64"


def address(machine: str) -> Address:
    """Of the router, the control plane, or a node: node1, node2."""
    return Address(_NUMBERS.get(machine) or 10 + int(machine.removeprefix("node")))


@dataclass(frozen=True)
class Settings:
    """The options of a cluster. Without nodes it is an API server alone, for large numbers of objects."""

    name: str = "handfast"
    nodes: int = 1
    proxy: Proxy = "iptables"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?", self.name):
            raise ClusterError(f"NAME={self.name}: small letters, digits and dashes, please, at most 42")
        if self.nodes not in {0, 1, 2}:
            raise ClusterError(f"NODES={self.nodes}: 1 or 2, or 0 for an API server without nodes")
        if self.proxy not in get_args(Proxy):
            raise ClusterError(f"PROXY={self.proxy}: {' or '.join(get_args(Proxy))}")

    def found(self) -> Settings:
        """The options with which the cluster of this name runs."""
        if not self.complete.exists():
            raise ClusterError(f"there is no cluster {self.name}: `make cluster` makes one")
        return Settings(**json.loads(self.complete.read_text()))

    @property
    def complete(self) -> Path:
        """Holds the options; written last: without it a cluster was left in the middle of its making."""
        return self.state / "complete"

    @property
    def state(self) -> Path:
        return STATE / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.state / "kubeconfig"

    @property
    def node_names(self) -> list[str]:
        return [f"node{number + 1}" for number in range(self.nodes)]

    @property
    def machine_names(self) -> list[str]:
        return [ROUTER, CONTROL, *self.node_names]


def lock_file() -> Path:
    """Held while a cluster is made or removed. In the cache, as what locks a folder cannot lie in it."""
    return cache_folder() / "clusters.lock"
