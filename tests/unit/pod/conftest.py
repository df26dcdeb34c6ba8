"""A pod without a kernel: the real gateway, API and HTTP server, on loopback, with real certificates."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar, cast

import pytest

from handfast_tunnel.continuity.packed_configuration import PackedConfiguration
from handfast_tunnel.control import (
    Configuration,
    ControlClient,
    PeerSpec,
    RecoverySpec,
    Role,
    TlsFiles,
    TunnelSpec,
)
from handfast_tunnel.control.roles import Standing
from handfast_tunnel.core.configuration import InterfaceChange
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.errors import ConfigurationError
from handfast_tunnel.pod import server
from handfast_tunnel.pod.accepted import LEFT_FILE, Accepted
from handfast_tunnel.pod.gateway import Gateway
from handfast_tunnel.pod.left import Left
from handfast_tunnel.pod.surroundings import Family, Surroundings, SurroundingsError
from tests.lab.certificates import Authority
from tests.unit.fake_tunnel import FakeTunnel

T = TypeVar("T")

LOOPBACK = Endpoint("127.0.0.1", 0)


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


PRIVATE = key(1 << 200)
SPEC = TunnelSpec("default", "office", "uid-tunnel", PRIVATE, ("10.8.0.1/24",), replicas=2)
PEERS = [PeerSpec(key(n), None, (f"10.8.0.{n}/32",), f"192.0.2.{n}:7", name=f"peer-{n}") for n in (2, 3, 4)]
CONFIGURATION = Configuration.of(5, SPEC, PEERS)
ACTIVE = Standing(Role.ACTIVE, 3, 3)
STANDBY = Standing(Role.STANDBY, 3, 3)
SILENT = replace(CONFIGURATION, tunnel=replace(SPEC, recovery=RecoverySpec(announce="never")))


def mount(directory: Path, configuration: Configuration) -> None:
    (directory / "config.jsonl.gz").write_bytes(configuration.dump())


@pytest.fixture
def accepted(tmp_path: Path) -> Accepted:
    (tmp_path / "state").mkdir()
    return Accepted(tmp_path / "state")


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    (tmp_path / "mount").mkdir()
    return tmp_path / "mount"


class PodTunnel(FakeTunnel):
    """What a gateway needs besides."""

    def __init__(self) -> None:
        super().__init__()
        self.held: str | None = None

    def boot(self, begin: InterfaceChange | PackedConfiguration, *, frozen: bool) -> None:
        if frozen:
            self.device.freeze(self.loop.now)
        if isinstance(begin, PackedConfiguration):
            self.device.succeed(begin, self.loop.now)
            self.loop.spawn(self.build_up())
        else:
            self.device.configure(begin, self.loop.now)
        self.device.up(self.loop.now)

    def drain(self, on: bool) -> None:
        if not on and self.held is not None:
            raise ConfigurationError(self.held)
        super().drain(on)

    def take_charge(self) -> None:
        assert self.held is None
        self.device.take_charge(self.loop.now)


class FakeSurroundings:
    def __init__(self) -> None:
        self.mtu = 1420
        self.ipv4 = Family(ready=True, reason="")
        self.ipv6 = Family(ready=False, reason="IPv6ForwardingOff")
        self.specs: list[TunnelSpec] = []
        self.failure: SurroundingsError | None = None

    def set_up(self, spec: TunnelSpec) -> None:
        self.specs.append(spec)
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure


class Pod:
    """One pod's process; `start` may be called anew on the same directory."""

    def __init__(self, directory: Path, authority: Authority, uid: str) -> None:
        self.uid = uid
        self.directory = directory / uid
        self.directory.mkdir(mode=0o700)
        self.tls = authority.sidecar(self.directory / "tls")
        self.mounted = self.directory / "mount"
        self.mounted.mkdir()
        self.accepted = Accepted(self.directory)
        self.left = Left(self.directory / LEFT_FILE)
        self.surroundings = FakeSurroundings()
        self._server: server.PodServer | None = None

    def start(
        self,
        configuration: Configuration = CONFIGURATION,
        standing: Standing | None = None,
        begin: PackedConfiguration | None = None,
    ) -> Pod:
        self.tunnel = PodTunnel()
        stored = self.accepted.load_standing(configuration.tunnel.uid)
        tunnel = self.tunnel.as_tunnel
        self.gateway = Gateway(
            tunnel, self.accepted, configuration, standing or stored or Standing(), self.uid, self.left
        )
        self.gateway.boot({}, 0, begin)
        metrics, control = (server.open_listener("--x", LOOPBACK) for _ in range(2))
        self.port = control.getsockname()[1]
        self.metrics_port = metrics.getsockname()[1]
        surroundings = cast("Surroundings", self.surroundings)
        self._server = server.PodServer(
            self.gateway,
            surroundings,
            self.accepted,
            mounted=self.mounted,
            metrics=metrics,
            control=control,
            tls=self.tls,
        )
        self.tunnel.start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self.tunnel.stop()
            self.tunnel.close()
            self._server = None


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def operator_tls(authority: Authority, tmp_path: Path) -> TlsFiles:
    return authority.operator(tmp_path / "operator")


@pytest.fixture
def pods(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Pod]]:
    """Makes pods that are not started yet."""
    monkeypatch.setattr(server, "START_DELAY", 0.0)
    made: list[Pod] = []

    def make(uid: str) -> Pod:
        made.append(Pod(tmp_path, authority, uid))
        return made[-1]

    yield make
    for pod in made:
        pod.stop()


@pytest.fixture
def pod(pods: Callable[[str], Pod]) -> Pod:
    """A standby."""
    return pods("a").start()


@pytest.fixture
def active(pods: Callable[[str], Pod]) -> Pod:
    return pods("a").start(standing=ACTIVE)


Call = Callable[[ControlClient], Awaitable[T]]


@pytest.fixture
def ask(operator_tls: TlsFiles) -> Callable[[Pod, Call[T]], T]:
    """Calls a pod as its operator."""

    def call(pod: Pod, what: Call[T]) -> T:
        async def connected() -> T:
            async with ControlClient(
                "127.0.0.1", pod.port, operator_tls, namespace="default", tunnel="office"
            ) as sidecar:
                return await what(sidecar)

        return asyncio.run(connected())

    return call
