"""The WireGuard programs under test, behind one interface: start on a node, wait for the socket, end."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from .namespaces import LabError, Node, Process, wait_until
from .tools import tool

HANDFAST = Path(sys.executable).with_name("handfast-tunnel")
"""As installed beside the running interpreter."""
NATIVE_IS_BUILT = find_spec("handfast_native") is not None
_HURRIED = Path(__file__).with_name("hurried.py")
_ACCEPTS = " 00010000 "
"""The flag of a listening socket in /proc/net/unix."""


@dataclass(frozen=True)
class Implementation:
    """How to start one program in the foreground; the interface name is the last argument."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    container: tuple[str, ...] = ()
    """The command that starts it, where that is to be process 1 of a PID namespace."""

    def __str__(self) -> str:
        return self.name

    def start(
        self, node: Node, interface: str = "wg0", environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start it and wait until it takes configuration."""
        process = self.launch(node, interface, environment)
        wait_until(lambda: _listens(node, interface, process), 10, f"{self} to take configuration")
        return process

    def launch(
        self, node: Node, interface: str = "wg0", environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start it and do not wait."""
        environment = {**self.environment, **(environment or {})}
        command = (*self.container, *self.command)
        return node.start(*command, interface, environment=environment, log=f"{self.name}-{interface}")

    def with_options(self, *options: str, **environment: str) -> Implementation:
        """The same program with more options before the interface name and more environment."""
        merged = {**self.environment, **environment}
        return replace(self, command=(*self.command, *options), environment=merged)

    def in_container(self) -> Implementation:
        """As process 1 of a PID namespace: what ends with it is all that a container runs."""
        return replace(self, container=("unshare", "--pid", "--fork", "--mount-proc", "--kill-child"))

    def hurried(self, **constants: object) -> Implementation:
        """Handfast with other values for constants of its core: what takes minutes takes seconds."""
        _, *options = self.command
        assignments = [f"{name}={value!r}" for name, value in constants.items()]
        command = (sys.executable, "-P", str(_HURRIED), *assignments, "--", *options)
        return replace(self, command=command)


def _listens(node: Node, interface: str, process: Process) -> bool:
    # Not by asking: `wg` removes a socket on which nobody listens yet.
    if (status := process.poll()) is not None:
        raise LabError(f"ended with {status}: {process.output()}")
    sockets = Path(f"/proc/{node.pid}/net/unix").read_text().splitlines()
    return any(line.endswith(f"/{interface}.sock") and _ACCEPTS in line for line in sockets)


def handfast() -> Implementation:
    """With the data plane in Python, whatever else is installed."""
    environment = {"LOG_LEVEL": "debug", "HANDFAST_DATA_PLANE": "pure"}
    return Implementation("handfast", (str(HANDFAST), "-f"), environment)


def handfast_native() -> Implementation:
    """With the compiled data plane: `NATIVE_IS_BUILT` says whether there is one."""
    native = handfast().with_options(HANDFAST_DATA_PLANE="native")
    return replace(native, name="handfast-native")


def wireguard_go() -> Implementation:
    """Debian's wireguard-go, 0.0.20220316."""
    program = shutil.which("wireguard-go") or str(tool("wireguard-go"))
    return Implementation("wireguard-go", (program, "-f"), {"LOG_LEVEL": "verbose"})


def wireguard_go_modern() -> Implementation:
    """wireguard-go of 2025."""
    program = str(tool("wireguard-go-modern"))
    return Implementation("wireguard-go-modern", (program, "-f"), {"LOG_LEVEL": "verbose"})


def boringtun() -> Implementation:
    """Cloudflare's implementation in Rust."""
    command = (str(tool("boringtun-cli")), "-f", "--disable-drop-privileges", "--verbosity", "debug")
    return Implementation("boringtun", command)


IMPLEMENTATIONS = {
    "handfast": handfast,
    "handfast-native": handfast_native,
    "wireguard-go": wireguard_go,
    "wireguard-go-modern": wireguard_go_modern,
    "boringtun": boringtun,
}
OTHERS = tuple(name for name in IMPLEMENTATIONS if not name.startswith("handfast"))
"""The implementations that Handfast has to get on with."""


def implementation(name: str) -> Implementation:
    return IMPLEMENTATIONS[name]()
