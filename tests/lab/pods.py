"""Handfast as it runs in a pod: mounted configuration, control API, a role; and who stands before it.

A `Pod` is a node with folders for what Kubernetes would mount. The router plays the Service: `Service.point`
moves its address from one pod to another, as kube-proxy does when a selector changes.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from aiohttp import BaseConnector, TCPConnector

from handfast_tunnel.control import (
    Configuration,
    ControlClient,
    ControlError,
    PeerSpec,
    Refused,
    State,
    Status,
    TlsFiles,
    TunnelSpec,
)

from .certificates import Authority
from .namespaces import Node, Process, wait_until
from .network import Host, Network
from .peer import PORT, KeyPair, Peer

PROGRAM = str(Path(sys.executable).with_name("handfast-tunnel"))
SUBNET = 88
"""That of the peers of a lab, so that a client's addresses fit."""


def tunnel_spec(keys: KeyPair, **changes: object) -> TunnelSpec:
    """A tunnel of the lab; `changes` are fields."""
    spec = TunnelSpec(
        namespace="default",
        name="office",
        uid="7b1d3a52-tunnel",
        private_key=keys.private,
        addresses=(f"10.{SUBNET}.0.200/24", f"fd{SUBNET}::c8/64"),
        replicas=2,
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def peer_spec(client: Peer, **changes: object) -> PeerSpec:
    spec = PeerSpec(
        client.keys.public, None, (f"{client.ipv4}/32", f"{client.ipv6}/128"), name=client.host.name
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


T = TypeVar("T")


class Sidecar(ControlClient):
    """A client whose connections begin in a node of the lab."""

    def __init__(self, node: Node, address: str, tls: TlsFiles, answer_time: float) -> None:
        super().__init__(address, 9587, tls, namespace="default", tunnel="office", answer_time=answer_time)
        self._node = node

    def _connector(self, context: ssl.SSLContext) -> BaseConnector:
        return TCPConnector(ssl=context, socket_factory=lambda info: self._node.socket(*info[:3]))


class Operator:
    """Calls sidecars from the router, as the real one would from its pod."""

    def __init__(self, network: Network, authority: Authority) -> None:
        self.node = network.router
        self.tls = authority.operator(network.lab.directory / "operator")

    def call(self, pod: Pod, call: Callable[[ControlClient], Awaitable[T]], *, answer_time: float = 5.0) -> T:
        async def connected() -> T:
            async with Sidecar(self.node, pod.host.ipv4, self.tls, answer_time) as sidecar:
                return await call(sidecar)

        return asyncio.run(connected())

    def status(self, pod: Pod) -> Status:
        return self.call(pod, lambda sidecar: sidecar.status())

    def wait_for_api(self, pod: Pod) -> Status:
        """Until the pod's control API answers."""

        def answers() -> bool:
            try:
                self.status(pod)
            except (ControlError, Refused):
                return False
            return True

        wait_until(answers, 20, f"the control API of {pod.name}", 0.1)
        return self.status(pod)

    def hand_over(self, old: Pod, new: Pod, service: Service, *, term: int, generation: int = 1) -> None:
        """Drain, activate, flip, commit."""
        export = self.call(old, lambda s: s.drain(term=term, generation=generation, successor_uid=new.uid))
        self.call(new, lambda s: s.activate(term=term, generation=generation, export=export))
        service.point(new)
        self.call(old, lambda s: s.commit(term=term))


class Pod:
    """One pod of a tunnel. `start` may be called again: then it is the next container of the same pod."""

    def __init__(
        self,
        host: Host,
        configuration: Configuration,
        *,
        authority: Authority | None = None,
        state: State | None = None,
    ) -> None:
        self.host, self.node = host, host.node
        self.name = host.name
        self.uid = f"uid-{host.name}"
        self.mounts = self.node.directory / f"pod-{host.name}"
        for folder in ("config", "state", "tls"):
            (self.mounts / folder).mkdir(parents=True)
        self.mount(configuration)
        if authority is not None:
            authority.sidecar(self.mounts / "tls")
        if state is not None:
            (self.mounts / "state/state.jsonl.gz").write_bytes(state.dump())
        self.process: Process | None = None

    def mount(self, configuration: Configuration) -> None:
        """What the config Secret says from now on, as a start reads it."""
        (self.mounts / "config/config.jsonl.gz").write_bytes(configuration.dump())

    def command(self, *options: str) -> list[str]:
        return [
            PROGRAM,
            "run",
            f"--config={self.mounts / 'config'}",
            f"--state-secret={self.mounts / 'state'}",
            f"--tls={self.mounts / 'tls'}",
            f"--pod-uid={self.uid}",
            *options,
        ]

    def launch(self, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start it and do not wait."""
        environment = {"LOG_LEVEL": "debug"}
        self.process = self.node.start(*wrapper, *self.command(*options), environment=environment, log="pod")

    def start(self, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start it and wait until its interface is up."""
        self.launch(*options, wrapper=wrapper)
        wait_until(self._is_up, 10, f"the interface of pod {self.name}")

    def _is_up(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"pod {self.name} ended: {self.process.output()}")
        return ": up on port" in self.process.output()

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def handfast(self, *arguments: str) -> str:
        """A command in the container, as hooks run it."""
        return self.node.run(PROGRAM, *arguments)


class Service:
    """An address of the router's that leads to one pod at a time."""

    def __init__(self, network: Network, port: int = PORT) -> None:
        self._router = network.router
        self._port = port
        self._router.run("nft", "-f", "-", input=_SERVICE)

    def point(self, pod: Pod) -> None:
        """One step, and flows that led elsewhere are forgotten, as kube-proxy does it."""
        rule = f"udp dport {self._port} dnat ip to {pod.host.ipv4}"
        commands = (
            f"flush chain ip service prerouting\nadd rule ip service prerouting fib daddr type local {rule}\n"
        )
        self._router.run("nft", "-f", "-", input=commands)
        self._router.attempt("conntrack", "-D", "-p", "udp", "--orig-port-dst", str(self._port))


_SERVICE = """
table ip service {
    chain prerouting {
        type nat hook prerouting priority dstnat
    }
}
"""
