"""Pods that ask for a tunnel all the time, and who answers the API server about them."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any, Final, Self

from kubernetes.client.exceptions import ApiException

from .api import Api, Object
from .cluster import Cluster
from .gateways import SYSTEM
from .injected import SIDECAR, WEBHOOK, pod

INTERVAL: Final = 0.05
WEBHOOK_PORT: Final = 8443
INJECTORS: Final = f"app.kubernetes.io/name={WEBHOOK}"
_LOOK = "import ssl, sys; print(ssl.get_server_certificate((sys.argv[1], int(sys.argv[2])), timeout=5))"


class Admissions:
    """Asks for pods with a Tunnel that nobody else has, and makes none of them; a context manager."""

    def __init__(self, api: Api, tunnel: str) -> None:
        # Their own: one client of the API serves one thread.
        self._api = Api(api.kubeconfig, api.namespace)
        self._pod: Any = pod("asked-for", tunnel=tunnel)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="admissions", daemon=True)
        self.admitted = 0
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._api.close()

    def _ask(self) -> None:
        began = time.monotonic()
        while not self._ended.wait(INTERVAL):
            try:
                made: Any = self._api.core.create_namespaced_pod(
                    self._api.namespace, self._pod, dry_run="All"
                )
            except ApiException as error:
                self.refused.append(f"after {time.monotonic() - began:.1f} s: {error.body}")
                continue
            assert made.spec.init_containers[0].name == SIDECAR
            self.admitted += 1


def served_certificate(cluster: Cluster, pod: Object, port: int) -> str:
    """What a pod shows to whoever begins a connection from the machine of the API server."""
    return cluster.control.run(sys.executable, "-c", _LOOK, pod["status"]["podIP"], str(port))


def injectors(cluster: Cluster) -> list[Object]:
    system = Api(cluster.settings.kubeconfig, SYSTEM)
    found = system.list("Pod", INJECTORS)
    system.close()
    return [each for each in found if "deletionTimestamp" not in each["metadata"]]
