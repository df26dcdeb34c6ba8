"""How soon the first initiation is on the wire, from the exec of `handfast-tunnel` or of `wg-quick up`,
and from that of a new pod's program.

The configuration is there: it is pushed as soon as the configuration socket takes it, and the link is brought
up at once. Other work on the machine delays a start: the kernel counts how long it waited for a processor.
"""

from __future__ import annotations

import base64
import fcntl
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from tests.lab.implementations import handfast
from tests.lab.namespaces import LabError, Node, Process
from tests.lab.peer import PORT, KeyPair
from tests.lab.pods import PROGRAM, tunnel_spec
from tests.lab.wg_quick import WgQuick

from handfast_tunnel.control import Configuration, PeerSpec, RecoverySpec

from .commands import QUIET_LOG, bound, compile_tunnel, interface_section, peer_section, uapi_socket
from .hosts import OVERLAY, UNDERLAY, TwoHosts

CASES: Final = {
    "handfast-tunnel -f --state none wg0": ("--state", "none"),
    "handfast-tunnel -f wg0": (),
}
WG_QUICK: Final = "wg-quick up wg0"
POD: Final = "handfast-tunnel run --config DIR"
_PEER_PORT: Final = 5555
_PATIENCE: Final = 10.0
_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 1
_INITIATION_BYTES: Final = 148


class Start(NamedTuple):
    """Seconds from the exec."""

    initiates: float
    """Until the first initiation reaches the peer."""
    waited: float | None = None
    """How much of that it was ready to run, but had no processor; wg-quick has too many processes to tell."""
    listens: float | None = None
    """Until the configuration socket takes a configuration."""

    @property
    def alone(self) -> float:
        """Until the first initiation, on a machine with nothing else to do."""
        return self.initiates - (self.waited or 0.0)


def start(hosts: TwoHosts, options: Sequence[str] = ()) -> Start:
    """One start on the server's host, whose one peer is on the client's; then it is killed."""
    path = str(uapi_socket(hosts.server, "wg0"))
    hosts.server.run("rm", "-f", "/run/wireguard/wg0.sock")
    request = _set_request()
    with (
        closing(bound(hosts.client, UNDERLAY["client"], _PEER_PORT)) as peer,
        closing(hosts.server.socket(socket.AF_INET, socket.SOCK_DGRAM)) as control,
        _started(hosts.server, [*handfast().command, *options, "wg0"]) as started,
    ):
        process = started.process
        peer.settimeout(_PATIENCE)
        with closing(_connected(path, process)) as uapi:
            listens = time.monotonic()
            uapi.sendall(request)
            answer = uapi.recv(64)
            if answer != b"errno=0\n\n":
                raise LabError(f"the configuration was refused: {answer!r}")
            fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", b"wg0", _IFF_UP))
            initiates = _initiation_at(peer)
            waited = started.waited()
    return Start(initiates - started.at, waited, listens - started.at)


def start_pod(hosts: TwoHosts) -> Start:
    """The same of a new pod, which reads its configuration, sets up its network, and announces itself."""
    hosts.server.run("rm", "-rf", "/run/handfast")
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(bound(hosts.client, UNDERLAY["client"], _PEER_PORT)) as peer,
    ):
        peer.settimeout(_PATIENCE)
        (Path(folder) / "config.jsonl.gz").write_bytes(_pod_configuration().dump())
        with _started(hosts.server, [PROGRAM, "run", f"--config={folder}"]) as started:
            initiates = _initiation_at(peer)
            return Start(initiates - started.at, started.waited())


def _pod_configuration() -> Configuration:
    endpoint, allowed = f"{UNDERLAY['client']}:{_PEER_PORT}", (f"{OVERLAY['client']}/32",)
    peer = PeerSpec(KeyPair.generate().public, None, allowed, endpoint)
    return Configuration.of(1, tunnel_spec(KeyPair.generate(), recovery=RecoverySpec("always")), [peer])


def _set_request() -> bytes:
    keys = (KeyPair.generate().private, KeyPair.generate().public)
    ours, theirs = (base64.b64decode(key).hex() for key in keys)
    lines = [
        "set=1",
        f"private_key={ours}",
        f"listen_port={PORT}",
        f"public_key={theirs}",
        f"endpoint={UNDERLAY['client']}:{_PEER_PORT}",
        f"allowed_ip={OVERLAY['client']}/32",
    ]
    return "".join(f"{line}\n" for line in [*lines, ""]).encode()


class _Started(NamedTuple):
    process: Process
    at: float
    """When it was executed,"""
    waited_before: float
    """and how long its process had waited for a processor by then."""

    def waited(self) -> float:
        """Since then, with its children."""
        return sum(map(_waited, (self.process.pid, *self.process.children()))) - self.waited_before


@contextmanager
def _started(node: Node, command: Sequence[str]) -> Iterator[_Started]:
    with tempfile.TemporaryDirectory() as folder:
        gate = Path(folder) / "gate"
        os.mkfifo(gate)
        wait = ["sh", "-c", 'read -r _ <"$0"; exec "$@"', str(gate)]
        process = node.start(*wait, *command, environment=QUIET_LOG, log="handfast")
        try:
            with gate.open("w"):
                waited = _waited(process.pid)
                exec_at = time.monotonic()
            yield _Started(process, exec_at, waited)
        finally:
            process.kill()


def _waited(pid: int) -> float:
    """Seconds in which a process was ready, but others had the processors."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def _connected(path: str, process: Process) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        uapi = socket.socket(socket.AF_UNIX)
        if uapi.connect_ex(path) == 0:
            return uapi
        uapi.close()
        if process.poll() is not None or time.monotonic() > deadline:
            raise LabError(f"it does not listen: {process.output() or 'and says nothing'}")
        time.sleep(0.0005)


def _initiation_at(peer: socket.socket) -> float:
    datagram = peer.recv(2048)
    if len(datagram) != _INITIATION_BYTES or datagram[0] != 1:
        raise LabError(f"the first datagram was no initiation, but {datagram[:4].hex()}...")
    return time.monotonic()


def wg_quick_up(hosts: TwoHosts, wg_quick: WgQuick) -> float:
    """Seconds from the start of `wg-quick up` to the first initiation."""
    address = f"Address = {OVERLAY['server']}/24\n"
    endpoint = f"{UNDERLAY['client']}:{_PEER_PORT}"
    configuration = interface_section(KeyPair.generate().private, PORT) + address
    configuration += peer_section(KeyPair.generate().public, OVERLAY["client"], endpoint)
    with closing(bound(hosts.client, UNDERLAY["client"], _PEER_PORT)) as peer:
        peer.settimeout(_PATIENCE)
        began = time.monotonic()
        up = threading.Thread(target=wg_quick, args=("up", configuration))
        up.start()
        try:
            return _initiation_at(peer) - began
        finally:
            up.join()
            wg_quick("down", configuration)


def run(rounds: int, say: Callable[[str], None]) -> dict[str, list[Start]]:
    """Per case its starts. With state memory, each but the first finds that of the one before."""
    compile_tunnel()
    starts: dict[str, list[Start]] = {case: [] for case in (*CASES, WG_QUICK, POD)}
    with TwoHosts() as hosts, tempfile.TemporaryDirectory() as folder:
        wg_quick = WgQuick(hosts.server, handfast().command[0], Path(folder))
        for _ in range(rounds):
            for case, options in CASES.items():
                starts[case].append(start(hosts, options))
            starts[WG_QUICK].append(Start(wg_quick_up(hosts, wg_quick)))
            starts[POD].append(start_pod(hosts))
    for line in table(starts)[1]:
        say(f"  {', '.join(line)}")
    return starts


def to_json(starts: dict[str, list[Start]]) -> dict[str, Any]:
    return {"seconds": {case: [each._asdict() for each in found] for case, found in starts.items()}}


def from_json(data: dict[str, Any]) -> dict[str, list[Start]]:
    return {case: [Start(**each) for each in found] for case, found in data["seconds"].items()}


def table(starts: dict[str, list[Start]]) -> tuple[list[str], list[list[str]]]:
    """Milliseconds; KeyError where a case was not measured."""
    columns = ["started by", "n", "takes configuration (ms)", "first initiation (ms)"]
    columns += ["without waiting for a processor (ms)", "the best (ms)"]
    lines = []
    for case in (*CASES, WG_QUICK, POD):
        found = starts[case]
        if not found:
            raise KeyError(f"no start by {case}")
        figures = [
            [s.listens for s in found if s.listens is not None],
            [s.initiates for s in found],
            [s.alone for s in found if s.waited is not None],
        ]
        medians = [f"{median(each) * 1000:.0f}" if each else "-" for each in figures]
        best = f"{min(s.initiates for s in found) * 1000:.0f}"
        lines.append([f"`{case}`", str(len(found)), *medians, best])
    return columns, lines
