"""Handfast as it runs in a pod: mounted configuration, control API, a role; and who stands before it.

A `Pod` is a node with folders for what Kubernetes would mount. The router plays the Service: `Service.point`
moves its address from one pod to another, as kube-proxy does when a selector changes.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import ssl
import sys
import time
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
    PeerState,
    Refused,
    State,
    Status,
    TlsFiles,
    TunnelSpec,
)
from handfast_tunnel.core.tai64n import pack_stamp

from .certificates import Authority
from .namespaces import LabError, Node, Process, wait_until
from .network import Host, Network
from .peer import PORT, KeyPair, Peer, uapi

PROGRAM = str(Path(sys.executable).with_name("handfast-tunnel"))
SUBNET = 88
"""That of the peers of a lab, so that a client's addresses fit."""
INSIDE = f"10.{SUBNET}.0.200"
INSIDE_IPV6 = f"fd{SUBNET}::c8"
"""The tunnel's own addresses."""


def tunnel_spec(keys: KeyPair, **changes: object) -> TunnelSpec:
    """A tunnel of the lab; `changes` are fields."""
    spec = TunnelSpec(
        namespace="default",
        name="office",
        uid="7b1d3a52-tunnel",
        private_key=keys.private,
        addresses=(f"{INSIDE}/24", f"{INSIDE_IPV6}/64"),
        replicas=2,
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def peer_spec(client: Peer, **changes: object) -> PeerSpec:
    spec = PeerSpec(
        client.keys.public, None, (f"{client.ipv4}/32", f"{client.ipv6}/128"), name=client.host.name
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def join(client: Peer, keys: KeyPair, address: str, allowed_ips: str = "0.0.0.0/0,::/0") -> None:
    """Has a client, which runs, know the tunnel at `address`, as its configuration file would."""
    where = f"[{address}]" if ":" in address else address
    client.set("peer", keys.public, "allowed-ips", allowed_ips, "endpoint", f"{where}:{PORT}")


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

    def state_of(self, pod: Pod, term: int) -> State:
        """What the operator would keep of a pod's peers; its mark for stamps is an hour ahead."""
        peers = self.status(pod).peers or ()
        known = [PeerState(p.public_key, p.endpoint, p.inbound_stamp, p.last_received) for p in peers]
        ceiling = base64.b64encode(pack_stamp(time.time_ns() + 3600 * 10**9)).decode()
        return State.of(time.time(), term, ceiling, known)

    def hand_over(self, old: Pod, new: Pod, service: Service, *, term: int, generation: int = 1) -> None:
        """Drain, activate, flip, commit."""
        export = self.call(old, lambda s: s.drain(term=term, generation=generation, successor_uid=new.uid))
        self.call(new, lambda s: s.activate(term=term, generation=generation, export=export))
        service.point(new)
        self.call(old, lambda s: s.commit(term=term))

    def carry_sessions(self, active: Pod, standby: Pod, since: float = 0.0) -> float:
        """What is new of an active pod's sessions, to a standby; the moment to name the next time."""
        news = self.call(active, lambda s: s.sessions(since))
        if (sealed := news.sealed) is not None:
            self.call(standby, lambda s: s.tell_sessions([sealed]))
        return news.until


class Pod:
    """One pod of a tunnel. `start` may be called again: then it is the next container of the same pod."""

    PROGRAM = PROGRAM

    def __init__(
        self,
        host: Host,
        configuration: Configuration,
        *,
        authority: Authority | None = None,
        state: State | None = None,
        standby: bool = True,
        **environment: str,
    ) -> None:
        self.standby, self.environment = standby, environment
        self.host, self.node = host, host.node
        self.name = host.name
        self.uid = f"uid-{host.name}"
        self.mounts = self.node.directory / f"pod-{host.name}"
        for folder in ("config", "state", "tls"):
            (self.mounts / folder).mkdir(parents=True)
        self.configuration = configuration
        self.mount(configuration)
        if authority is not None:
            authority.sidecar(self.mounts / "tls")
        if state is not None:
            self.mount_state(state)
        self.process: Process | None = None

    def mount(self, configuration: Configuration) -> None:
        """What the config Secret says from now on, as a start reads it."""
        (self.mounts / "config/config.jsonl.gz").write_bytes(configuration.dump())

    def mount_state(self, state: State) -> None:
        (self.mounts / "state/state.jsonl.gz").write_bytes(state.dump())

    def replace(self, *, state: State | None = None) -> None:
        """End it, and start another pod in its place: nothing of its memory is left, and its UID is new."""
        self.running.terminate()
        self.node.run("rm", "-rf", "/run/handfast")
        self.uid += "-next"
        if state is not None:
            self.mount_state(state)
        self.start()

    def kill_worker(self) -> None:
        """kill -9 of the process that serves: its keeper forks the next one."""
        former = self.running.children()[0]
        os.kill(former, signal.SIGKILL)
        wait_until(lambda: self.running.children()[:1] not in ([], [former]), 5, "the next worker", 0.002)

    def command(self, *options: str) -> list[str]:
        return [
            PROGRAM,
            "run",
            f"--config={self.mounts / 'config'}",
            f"--state-secret={self.mounts / 'state'}",
            f"--tls={self.mounts / 'tls'}",
            f"--pod-uid={self.uid}",
            *(["--standby"] if self.standby else []),
            *options,
        ]

    def launch(self, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start it and do not wait."""
        # As an image has it, the modules are compiled.
        environment = {"LOG_LEVEL": "debug", "PYTHONDONTWRITEBYTECODE": "", **self.environment}
        self.process = self.node.start(*wrapper, *self.command(*options), environment=environment, log="pod")

    def start(self, *options: str, wrapper: tuple[str, ...] = ()) -> None:
        """Start it and wait until its interface is up."""
        before = self._ups()
        self.launch(*options, wrapper=wrapper)
        wait_until(lambda: self._ups() > before or self._ended(), 10, f"the interface of pod {self.name}")

    def _ups(self) -> int:
        """How many processes of the pod have brought the interface up."""
        return 0 if self.process is None else self.process.output().count(": up on port")

    def _ended(self) -> bool:
        if self.running.poll() is not None:
            raise LabError(f"pod {self.name} ended: {self.running.output()}")
        return False

    @property
    def running(self) -> Process:
        assert self.process is not None
        return self.process

    def forbid_sysctls(self) -> None:
        """As in most pods, /proc/sys cannot be written."""
        self.node.run("sh", "-ec", "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")

    def capabilities(self) -> int:
        """Effective ones of the process that serves."""
        worker = self.running.children()[0]
        status = Path(f"/proc/{worker}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1], 16)

    def program(self, *arguments: str) -> tuple[str, ...]:
        return (PROGRAM, *arguments)

    def handfast(self, *arguments: str) -> str:
        """A command in the container, as hooks run it."""
        return self.node.run(*self.program(*arguments))

    def uapi(self, request: str) -> str:
        """Talk to the configuration socket without `wg`."""
        return uapi(self.node, self.configuration.tunnel.interface, request)


class Service:
    """An address of the router's that leads to one pod at a time."""

    def __init__(self, network: Network, port: int = PORT, *, masquerade: bool = False) -> None:
        """`masquerade`: pods see a node's address instead of the client's, and another port for each flow."""
        self._router = network.router
        self._port = port
        self._router.run("nft", "-f", "-", input=_SERVICE)
        if masquerade:
            rule = f"udp dport {port} ct status dnat masquerade fully-random"
            self._router.run("nft", "add", "rule", "ip", "service", "postrouting", rule)

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
    chain postrouting {
        type nat hook postrouting priority srcnat
    }
}
"""
