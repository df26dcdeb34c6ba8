"""A tunnel that dies at full load: what its clients lose, and for how long.

An unmodified wireguard-go sends one TCP stream as fast as it can; beside it, 1,000 times a second, it asks an
echo server. Of Handfast the worker is killed; what is one process is killed and started again, with its
configuration, as its service manager would do it.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import Final

from tests.lab.namespaces import LabError, Process, wait_until
from tests.lab.peer import PORT, KeyPair
from tests.lab.probes import Log, Probes

from .commands import interface_section, peer_section
from .flows import iperf_server, loaded
from .hosts import OVERLAY, UNDERLAY, TwoHosts, interface, start
from .samples import Metric
from .scene import lost_between

CLIENT: Final = "wireguard-go-modern"
RATE: Final = 1000.0
CALM: Final = 1.0
"""Seconds before the death, which show what full load does by itself."""
PATIENCE: Final = 60.0
AFTER: Final = 1.0

METRICS: Final = (
    Metric("nothing comes through for", "ms", 0, False),
    Metric("of 1,000 a second are lost", "packets", 0, False),
    Metric("in the second before: nothing for", "ms", 0, False),
    Metric("in the second before: lost", "packets", 0, False),
)


class Death:
    """Of one server program."""

    def __init__(self, hosts: TwoHosts, name: str) -> None:
        self._hosts, self._name = hosts, name
        server, client = KeyPair.generate(), KeyPair.generate()
        self._server = interface_section(server.private, PORT)
        self._server += peer_section(client.public, OVERLAY["client"])
        self._client = interface_section(client.private, PORT)
        self._client += peer_section(server.public, OVERLAY["server"], f"{UNDERLAY['server']}:{PORT}")

    def measure(self) -> tuple[float, ...]:
        """A figure for each of METRICS."""
        hosts = self._hosts
        with ExitStack() as stack:
            serving = stack.enter_context(interface(hosts.server, self._name, self._server))
            stack.enter_context(interface(hosts.client, CLIENT, self._client))
            stack.enter_context(iperf_server(hosts.server))
            hosts.client.run("ping", "-n", "-c1", "-W5", OVERLAY["server"])
            probes = stack.enter_context(Probes())
            probes.answer(hosts.server)
            log = probes.ask(hosts.client, OVERLAY["server"], rate=RATE)
            load = stack.enter_context(loaded(hosts.client))
            if self._has_a_worker:
                wait_until(lambda: len(serving.children()) > 1, 10, "a worker and a spare")
            wait_until(lambda: log.settled(0), 10, "the first answers")
            calm = time.monotonic()
            time.sleep(CALM)
            self._is_loaded(load)
            at = time.monotonic()
            stack.callback(self._die(serving).kill)
            wait_until(lambda: log.settled(at), PATIENCE, "the client to be back")
            end = time.monotonic()
            time.sleep(AFTER)
            self._is_loaded(load)
        return (*_noticed(log, at, end), *_noticed(log, calm, at))

    @property
    def _has_a_worker(self) -> bool:
        return self._name.startswith("handfast")

    def _die(self, serving: Process) -> Process:
        """Returns what is to be ended later."""
        if self._has_a_worker:
            os.kill(serving.children()[0], signal.SIGKILL)
            return serving
        serving.kill()
        return start(self._hosts.server, self._name, self._server)

    @staticmethod
    def _is_loaded(load: Process) -> None:
        if load.poll() is not None:
            raise LabError(f"the TCP stream ended: {load.output()}")


def _noticed(log: Log, since: float, until: float) -> tuple[float, float]:
    return log.longest_silence(since, until) * 1000, float(lost_between(log, since, until))
