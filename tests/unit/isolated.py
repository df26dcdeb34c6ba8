"""Tests of the kernel's devices and sockets: each in a forked process with namespaces of its own.

    @isolated
    def test_device() -> None: ...          # is root there, with only a loopback device, which is up

That needs no root, cannot touch the machine's network, and leaves nothing behind.
"""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, ParamSpec

import pytest

from tests.lab.namespaces import wait_until

P = ParamSpec("P")

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
TIMEOUT = 60

_libc = ctypes.CDLL(None, use_errno=True)


def isolated(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test as root of a user and a network namespace of its own."""
    return _in_child(test, _own_network)


def unprivileged(test: Callable[P, None]) -> Callable[P, None]:
    """Run the test without any right over the network namespace that it is in."""
    return _in_child(test, functools.partial(_unshare, CLONE_NEWUSER))


def shell(commands: str) -> str:
    """Run shell commands; the first that fails fails the test."""
    done = subprocess.run(["sh", "-ec", commands], capture_output=True, text=True, timeout=20)
    assert not done.returncode, done.stderr
    return done.stdout


def wait_for_addresses(*addresses: str) -> None:
    """Until packets to them are delivered: for IPv6 the kernel sees to that later, in a work queue."""

    def local() -> str:
        return shell("ip -4 route show table local; ip -6 route show table local")

    wait_until(
        lambda: all(f"local {address} " in local() for address in addresses), 10, f"{addresses} to be there"
    )


def _in_child(test: Callable[P, None], prepare: Callable[[], None]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        reader, writer = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the child needs none of the other threads
            pid = os.fork()
        if not pid:
            _run_child(writer, prepare, functools.partial(test, *args, **kwargs))
        os.close(writer)
        with os.fdopen(reader, errors="replace") as report:
            failure = report.read()
        _, status = os.waitpid(pid, 0)
        if failure or status:
            pytest.fail(failure or f"the test's process ended with status {status}", pytrace=False)

    return run


def _run_child(report: int, prepare: Callable[[], None], test: Callable[[], None]) -> NoReturn:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TIMEOUT)
    try:
        prepare()
        test()
    except BaseException:  # noqa: BLE001 - pytest.fail() is no Exception
        os.write(report, traceback.format_exc().encode())
    os._exit(0)


def _own_network() -> None:
    _unshare(CLONE_NEWUSER | CLONE_NEWNET)
    shell("ip link set lo up")


def _unshare(flags: int) -> None:
    user, group = os.getuid(), os.getgid()
    if _libc.unshare(flags):
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}; are unprivileged user namespaces allowed?")
    process = Path("/proc/self")
    (process / "setgroups").write_text("deny")
    (process / "uid_map").write_text(f"0 {user} 1")
    (process / "gid_map").write_text(f"0 {group} 1")
