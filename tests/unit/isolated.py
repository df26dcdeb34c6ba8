"""Tests of the kernel's devices and sockets: each in a process with namespaces of its own.

    @isolated
    def test_device() -> None: ...          # is root there, with only a loopback device, which is up

The decorated test runs `python -m tests.unit.isolated` inside unshare(1): that needs no root, cannot touch
the machine's network, and ends with the process.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec

import pytest

P = ParamSpec("P")

_ROOT = Path(__file__).parents[2]
_UP = 'ip link set lo up && exec "$@"'


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test in user and network namespaces of its own."""
    return _in_child(test, ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", _UP, "sh"])


def unprivileged(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test without any right over the network namespace that it is in."""
    return _in_child(test, ["unshare", "--user"])


def _in_child(test: Callable[P, None], command: list[str]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        child = [*command, sys.executable, "-m", __name__, test.__module__, test.__name__]
        parameters = pickle.dumps((args, kwargs))
        done = subprocess.run(child, cwd=_ROOT, input=parameters, capture_output=True, timeout=60)
        if done.returncode:
            pytest.fail(done.stderr.decode(errors="replace"), pytrace=False)

    return run


def shell(commands: str) -> str:
    """Run shell commands; the first that fails fails the test."""
    done = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, timeout=20)
    assert not done.returncode, done.stderr
    return done.stdout


def _main(module: str, name: str) -> None:
    args, kwargs = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from the parent process
    getattr(importlib.import_module(module), name).__wrapped__(*args, **kwargs)


if __name__ == "__main__":
    _main(*sys.argv[1:])
