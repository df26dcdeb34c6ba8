"""The first packets leave within 150 ms after the program was executed (DESIGN, section 1).

Measured in what every program with Python and its cryptography takes: a machine may be slow, or busy.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from functools import partial

import pytest
from bench.commands import compile_tunnel
from bench.hosts import TwoHosts
from bench.start import CASES, Start, start, start_pod

LIMIT = 0.150
CRYPTOGRAPHY_TAKES = 0.046
"""Where 150 ms were asked for."""
ATTEMPTS = 10
_CRYPTOGRAPHY = """
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
X25519PrivateKey.generate().exchange(X25519PrivateKey.generate().public_key())
ChaCha20Poly1305(bytes(32)).encrypt(bytes(12), b"", b"")
"""


@pytest.mark.parametrize("options", CASES.values(), ids=["without-state", "with-state"])
def test_the_first_initiation_leaves_soon(options: tuple[str, ...]) -> None:
    _leaves_soon(partial(start, options=options))


def test_a_pods_first_initiation_leaves_soon() -> None:
    """It sets up addresses, routes, forwarding and a firewall before."""
    _leaves_soon(start_pod)


def _leaves_soon(begin: Callable[[TwoHosts], Start]) -> None:
    """In the best of some starts, without what it waited for a processor that was another program's."""
    compile_tunnel()
    best = unit = math.inf
    with TwoHosts() as hosts:
        for _ in range(ATTEMPTS):
            unit = min(unit, _processor_seconds(sys.executable, "-c", _CRYPTOGRAPHY))
            best = min(best, begin(hosts).alone)
            if best / unit <= LIMIT / CRYPTOGRAPHY_TAKES:
                return
    pytest.fail(f"{best * 1000:.0f} ms, where Python and its cryptography take {unit * 1000:.0f}")


def _processor_seconds(*command: str) -> float:
    _, status, used = os.wait4(os.posix_spawn(command[0], command, os.environ), 0)
    assert status == 0
    return used.ru_utime + used.ru_stime
