"""A long-lived UDP flow: one socket, one source port, and who answers it when."""

from __future__ import annotations

import socket
import time
from typing import Self

from tests.lab.namespaces import LabError, wait_until
from tests.lab.network import Host

_PATIENCE = 0.3


class Flow:
    """A client that never changes its port, as a WireGuard client behind a Service; a context manager."""

    def __init__(self, host: Host, target: str, port: int) -> None:
        self._socket = host.node.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect((target, port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self) -> str | None:
        """Who answers now? None if nobody does for a moment."""
        question = f"{time.monotonic()}".encode()
        try:
            self._socket.send(question)
            return self._socket.recv(200).decode().split()[0]
        except (TimeoutError, ConnectionRefusedError):
            return None

    def wait_for(self, pod: str, timeout: float = 20) -> float:
        """Ask until this pod answers; returns how long that took."""
        began = time.monotonic()
        wait_until(lambda: self.ask() == pod, timeout, f"{pod} to answer the flow", interval=0.05)
        return time.monotonic() - began


def answered_flow(host: Host, target: str, port: int, timeout: float = 20) -> Flow:
    """A flow that somebody answers. Each try is a new one.

    conntrack remembers one that came before a load balancer's address had rules as going nowhere, and
    kube-proxy makes it forget only when endpoints change (v1.36, pkg/proxy/iptables/proxier.go).
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        flow = Flow(host, target, port)
        if flow.ask():
            return flow
        flow.close()
    raise LabError(f"waited {timeout:g} s for an answer of {target}:{port}")
