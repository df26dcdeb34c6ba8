"""A gateway whose clients are asked all the time, and what becomes of them after something has died."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from tests.lab.namespaces import LabError, wait_until
from tests.lab.probes import Log, Probes
from tests.lab.wire import Capture

from . import answers
from .api import Api, is_ready
from .cluster import Cluster
from .gateway_client import GatewayClient
from .gateways import SYSTEM, Gateway, peer
from .insiders import Insiders
from .outside import Outside

BOUND: Final = 10.0
"""Seconds."""
OWN_TIMERS: Final = 15.0
"""After which clients ask for a handshake by themselves, if nobody knows of their sessions."""
TOGETHER: Final = 2.0
"""For so long two pods may be active at most: the operator asks them every second."""
_PATIENCE: Final = 90.0


@dataclass
class Stretch:
    """For how long something was so, at a stretch."""

    longest: float = 0.0
    _since: float | None = None

    def note(self, now: float, so: bool) -> None:
        if not so:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        self.longest = max(self.longest, now - self._since)


@dataclass
class Recovery:
    """What was not as it should be after something had died, and for how long, in seconds."""

    not_one: Stretch = field(default_factory=Stretch)
    """No pod was active, or more than one."""
    several: Stretch = field(default_factory=Stretch)
    silence: float = 0.0
    """The longest in which a client had no answer."""
    untrue: str = ""
    """What a status said, and no pod had."""
    seconds: float = 0.0
    """Until all was calm."""

    def complaint(self, silence: float) -> str | None:
        """No client may be without an answer for longer than `silence`."""
        if self.untrue:
            return self.untrue
        if self.several.longest > TOGETHER:
            return f"several pods were active for {self.several.longest:.1f} s"
        if self.not_one.longest > BOUND or self.silence > silence or self.seconds > _PATIENCE:
            return str(self)
        return None

    def __str__(self) -> str:
        longest = f"not one active for {self.not_one.longest:.1f} s, clients silent for {self.silence:.1f} s"
        return f"{longest}, calm after {self.seconds:.1f} s"


class Scene:
    """Made with `up`; whoever makes it closes it."""

    def __init__(self, gateway: Gateway, cluster: Cluster) -> None:
        self.gateway, self.cluster = gateway, cluster
        self.insiders = Insiders(cluster, gateway)
        self.clients: dict[str, GatewayClient] = {}
        self.logs: dict[str, Log] = {}
        self._captures: dict[str, Capture] = {}
        self._probes = Probes()
        self._system = Api(cluster.settings.kubeconfig, SYSTEM)

    def up(self, outside: Outside, *names: str) -> None:
        """The Tunnel is there; every other client is behind NAT."""
        self.gateway.api.apply(*map(peer, names))
        self.gateway.wait_ready(90)
        echo = self.gateway.put_behind()
        for number, name in enumerate(names):
            self.gateway.wait_peer(name)
            host = outside.add(name, nat=number % 2 == 1)
            self._captures[name] = Capture(host.node, "eth0")
            self.clients[name] = self.gateway.client(host, name)
            self.logs[name] = self._probes.ask(host.node, echo)

    def close(self) -> None:
        self._probes.close()
        self._system.close()
        for capture in self._captures.values():
            capture.close()

    def watch(self, began: float, untrue: Callable[[], str] = lambda: "") -> Recovery:
        """Until all is calm."""
        seen = Recovery()
        while not (calm := self._is_calm(began)) and not seen.untrue and seen.seconds < _PATIENCE:
            active, now = len(self.insiders.active()), time.monotonic()
            seen.not_one.note(now, active != 1)
            seen.several.note(now, active > 1)
            seen.seconds = now - began
            seen.untrue = untrue()
            time.sleep(0.05)
        seen.silence = max(log.longest_silence(began) for log in self.logs.values())
        if not calm:
            seen.seconds = max(seen.seconds, _PATIENCE + 1)
        return seen

    def wait_calm(self) -> None:
        began = time.monotonic()
        while not self._is_calm(began):
            if time.monotonic() > began + _PATIENCE:
                raise LabError(f"no calm within {_PATIENCE:g} s: {self.insiders.roles()}")
            time.sleep(0.1)

    def wait_led(self) -> None:
        """Somebody has renewed the Lease. A killed operator takes half a minute on a busy machine."""
        now = time.monotonic()
        wait_until(lambda: self._is_led(now), _PATIENCE, "an operator that leads", 0.1)

    def wait_served(self) -> None:
        """All clients' packets of now are answered."""
        now = time.monotonic()
        wait_until(lambda: self._served(now), _PATIENCE, "answers")

    def handshakes(self) -> dict[str, int]:
        """Of each client, since its start."""
        return {name: client.handshakes() for name, client in self.clients.items()}

    def wrong_on_the_wire(self) -> Iterable[str]:
        """Of all that clients heard since the beginning."""
        for name, capture in self._captures.items():
            for complaint in answers.complaints(capture.datagrams, self.clients[name].host.ipv4):
                yield f"{name}: {complaint}"

    def _served(self, since: float) -> bool:
        return all(log.settled(since) for log in self.logs.values())

    def _is_calm(self, since: float) -> bool:
        """As many pods as wanted, one of them active, and nothing left of others; all is said and served.

        What had died a moment before `since` has to have shown it since then, or to be well again.
        """
        pods, roles = self.gateway.pods(), self.insiders.roles()
        status, wanted = self.gateway.status, self.gateway.spec["gateway"]["replicas"]
        return (
            sorted(roles.values()) == ["active", *["standby"] * (wanted - 1)]
            and {pod["metadata"]["name"] for pod in pods} == roles.keys()
            and all(is_ready(pod) and "deletionTimestamp" not in pod["metadata"] for pod in pods)
            and [status["active"]["pod"]] == self.insiders.active()
            and bool(status["standbys"] == wanted - 1)
            and self._is_rolled_out()
            and self._served(max(since, time.monotonic() - 1))
            and self._is_led(since)
        )

    def _is_rolled_out(self) -> bool:
        found = self.gateway.api.get("Deployment", self.gateway.name)
        status, wanted = found["status"], found["spec"]["replicas"]
        observed = status.get("observedGeneration") == found["metadata"]["generation"]
        return bool(observed and status.get("updatedReplicas") == status.get("availableReplicas") == wanted)

    def _is_led(self, since: float) -> bool:
        """Whether somebody has renewed the Lease since then."""
        spec = self._system.get("Lease", "handfast-operator")["spec"]
        renewed = datetime.fromisoformat(spec["renewTime"]).timestamp()
        return bool(spec["holderIdentity"]) and renewed > since + time.time() - time.monotonic()
