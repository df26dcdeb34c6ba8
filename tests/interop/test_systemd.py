"""The unit in the docs under a real systemd, with an unmodified client that is to notice nothing."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.conftest import Pair
from tests.interop.outliving import handshakes, settle_pair, wait_for_method
from tests.lab.implementations import HANDFAST
from tests.lab.namespaces import children_of, wait_until
from tests.lab.probes import Probes
from tests.lab.service_manager import ServiceManager

UNIT = Path(__file__).parents[2] / "docs" / "handfast-tunnel@.service"
SERVICE = "handfast-tunnel@wg0.service"
WATCHDOG_SECONDS = 9
"""Above the keeper's own patience with a worker, which is 5 s."""
LEFT = ["/run/handfast:", "wg0.state", "/run/wireguard:"]
# An address, which the unit leaves to others, a shorter wait, and where this checkout may lie.
HERE = """
[Service]
ExecStartPost=ip address add {address}/24 dev %i
Environment=LOG_LEVEL=debug HANDFAST_DATA_PLANE=pure
StandardOutput=append:{log}
WatchdogSec={watchdog}s
ProtectHome=no
PrivateTmp=no
"""


@dataclass(frozen=True)
class Service:
    pair: Pair
    manager: ServiceManager

    def start(self) -> None:
        self.manager.run("start", SERVICE)

    @property
    def state(self) -> str:
        return self.manager.show(SERVICE, "ActiveState")

    @property
    def restarts(self) -> int:
        """Those that nobody asked for."""
        return int(self.manager.show(SERVICE, "NRestarts"))

    @property
    def keeper(self) -> int:
        return self.manager.main_pid(SERVICE)

    def path(self, path: str) -> Path:
        return Path(f"/proc/{self.pair.server.node.pid}/root{path}")


@pytest.fixture
def service(usual: Pair) -> Iterator[Service]:
    server = usual.server
    log = server.node.directory / "service.log"
    here = HERE.format(address=server.ipv4, log=log, watchdog=WATCHDOG_SECONDS)
    units = {
        "handfast-tunnel@.service": UNIT.read_text().replace("=handfast-tunnel", f"={HANDFAST}"),
        f"{SERVICE}.d/here.conf": here,
    }
    with ServiceManager(server.node, units, {"wg0.conf": server.configuration()}) as manager:
        yield Service(usual, manager)


def test_it_is_up_when_it_answers_and_leaves_nothing_but_state(service: Service) -> None:
    """What keeps a start waiting here is a state memory that someone else still holds."""
    server, client = service.pair.server, service.pair.client
    client.start()
    service.start()
    assert client.ping(server)
    service.manager.run("stop", SERVICE)
    assert (service.state, service.manager.show(SERVICE, "Result")) == ("inactive", "success")
    assert service.manager.processes(SERVICE) == []
    assert "wg0" not in server.node.run("ip", "-brief", "link")
    assert server.node.run("ls", "/run/wireguard", "/run/handfast").split() == LEFT
    with service.path("/run/handfast/wg0.state").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        service.manager.run("start", "--no-block", SERVICE)
        wait_until(lambda: "wg0" in server.node.run("ip", "-brief", "link"), 10, "the device")
        assert service.state == "activating"
    wait_until(lambda: service.state != "activating", 10, "the service to be up")
    assert service.state == "active"
    assert client.ping(server)


def worker_of(service: Service) -> int:
    """0 for none."""
    return next(iter(children_of(service.keeper)), 0)


def hang_worker(service: Service) -> None:
    os.kill(worker_of(service), signal.SIGSTOP)


def hang_keeper(service: Service) -> None:
    os.kill(service.keeper, signal.SIGSTOP)


def kill_keeper(service: Service) -> None:
    os.kill(service.keeper, signal.SIGKILL)


def restart(service: Service) -> None:
    service.manager.run("restart", SERVICE)


@pytest.mark.parametrize(
    ("event", "restarts"), [(hang_worker, 0), (hang_keeper, 1), (kill_keeper, 1), (restart, 0)]
)
def test_clients_live_on(
    service: Service, probes: Probes, event: Callable[[Service], None], restarts: int
) -> None:
    server, client = service.pair.server, service.pair.client
    service.start()
    client.start()
    probes.answer(server.node)
    log = probes.ask(client.node, server.ipv4)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    settle_pair(service.pair)
    served_by = worker_of(service)
    began = time.monotonic()
    event(service)
    wait_until(lambda: worker_of(service) not in {0, served_by}, WATCHDOG_SECONDS + 10, "another worker")
    replaced = time.monotonic()
    wait_until(lambda: log.settled(replaced), 10, "answers of another worker")
    wait_for_method(server, client, "resumed")
    assert handshakes(service.pair, began) == []
    assert (service.state, service.restarts) == ("active", restarts)
    if event is hang_keeper:
        assert log.longest_silence(began) < WATCHDOG_SECONDS / 2, "its worker serves without it"
