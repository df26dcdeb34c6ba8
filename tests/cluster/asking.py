"""Asking the workload over UDP: who answers, and whom it sees asking."""

from __future__ import annotations

import socket
from typing import NamedTuple

from tests.lab.namespaces import wait_until
from tests.lab.network import Host

from .api import Api
from .objects import WHO

_ASK = """
import socket, sys
asking = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(1)
asking.connect((sys.argv[1], int(sys.argv[2])))
for attempt in range(int(sys.argv[3])):
    asking.send(b"?")
    try:
        print(asking.recv(200).decode())
        break
    except (TimeoutError, ConnectionRefusedError):
        pass
"""


class Answer(NamedTuple):
    pod: str
    """Who answers."""
    client: str
    """The address that it sees asking."""


def ask_from_pod(api: Api, pod: str, target: str, port: int = WHO, attempts: int = 10) -> Answer | None:
    """Ask from inside a pod; None if nobody answers."""
    written = api.exec(pod, "python3", "-c", _ASK, target, str(port), str(attempts))
    return _parsed(written) if written else None


def ask_from_host(host: Host, target: str, port: int, attempts: int = 10) -> Answer | None:
    """Ask from outside, each time from a port of its own; None if nobody answers."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    for _ in range(attempts):
        with host.node.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(1)
            asking.connect((target, port))
            try:
                asking.send(b"?")
                return _parsed(asking.recv(200).decode())
            except (TimeoutError, ConnectionRefusedError):
                continue
    return None


def wait_for_answer(host: Host, target: str, port: int, timeout: float = 20) -> Answer:
    """Ask until somebody answers: rules of a new Service take a moment to reach every node."""
    answer: Answer | None = None

    def answered() -> bool:
        nonlocal answer
        answer = ask_from_host(host, target, port, attempts=1)
        return answer is not None

    wait_until(answered, timeout, f"an answer from {target} port {port}")
    assert answer
    return answer


def _parsed(text: str) -> Answer:
    pod, client, _ = text.split()
    return Answer(pod, client)
