"""A small internet: hosts around one router that forwards, translates addresses and loses what it is told to.

    server ---- router ---- client
                     \\----- phone (behind NAT)

Host number i has 10.77.i.2 and fd77:i::2; the router is .1. A host behind NAT is seen from everywhere
else as the router's own address on that side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from .adversary import Injector
from .filters import Filters
from .namespaces import Lab, Node, wait_until
from .wire import Capture

UNDERLAY_MTU = 1500


@dataclass
class Host:
    """A node with one cable to the router. `name` is also the name of the router's end of the cable."""

    name: str
    node: Node
    number: int
    nat: bool
    last: int = 2
    """What the host's addresses end in."""

    @property
    def ipv4(self) -> str:
        return f"10.77.{self.number}.{self.last}"

    @property
    def ipv6(self) -> str:
        return f"fd77:{self.number:x}::{self.last:x}"

    @property
    def router_ipv4(self) -> str:
        """What hosts behind NAT look like from here."""
        return f"10.77.{self.number}.1"

    def add_address(self, address: str) -> None:
        """Add one more address of the host's own network."""
        length, options = ("64", ["nodad"]) if ":" in address else ("24", [])
        self.node.run("ip", "address", "add", f"{address}/{length}", "dev", "eth0", *options)

    def plug_in(self) -> None:
        self._batch("link set eth0 up", *self._addressing())

    def move_to(self, last: int) -> None:
        """Leave the present addresses for ones that end in `last`: to the others, it roams."""
        self.last = last
        self._batch("address flush dev eth0 scope global", *self._addressing())

    def _addressing(self) -> list[str]:
        return [
            f"address add {self.ipv4}/24 dev eth0",
            f"address add {self.ipv6}/64 dev eth0 nodad",
            f"route replace default via {self.router_ipv4}",
            f"route replace default via fd77:{self.number:x}::1",
        ]

    def _batch(self, *commands: str) -> None:
        self.node.run("ip", "-batch", "-", input="\n".join(commands))


class Network:
    """Lab, router and hosts together; a context manager that takes everything down again."""

    def __init__(self) -> None:
        self.lab = Lab()
        self.hosts: dict[str, Host] = {}
        self._captures: list[Capture] = []
        self._injectors: list[Injector] = []
        try:
            (self.router,) = self.lab.add_nodes("router")
            self.router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
            self.filters = Filters(self.router)
        except BaseException:
            self.lab.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self, *names: str, nat: bool = False) -> list[Host]:
        """Add hosts, each on a cable of its own; names are at most 15 characters."""
        first = len(self.hosts) + 1
        hosts = [Host(n, node, first + i, nat) for i, (n, node) in enumerate(self._nodes(names))]
        for host in hosts:
            self._plug(host)
            self.hosts[host.name] = host
        return hosts

    def _nodes(self, names: tuple[str, ...]) -> list[tuple[str, Node]]:
        return list(zip(names, self.lab.add_nodes(*names), strict=True))

    def _plug(self, host: Host) -> None:
        self.lab.cable(host.node, "eth0", self.router, host.name, UNDERLAY_MTU)
        v4, v6 = f"10.77.{host.number}.1/24", f"fd77:{host.number:x}::1/64"
        up = [f"link set {host.name} up", f"address add {v4} dev {host.name}"]
        up.append(f"address add {v6} dev {host.name} nodad")
        self.router.run("ip", "-batch", "-", input="\n".join(up))
        # The host's routes need carrier, so the router's end goes up first.
        host.plug_in()
        # Neighbours know each other before anything is measured: the first question may take a second.
        for address in (host.ipv4, host.ipv6):
            wait_until(partial(self._pings, address), 10, f"{address} to answer the router")
        if host.nat:
            self.filters.masquerade(host.name)

    def _pings(self, address: str) -> bool:
        return self.router.attempt("ping", "-n", "-c1", "-W1", address).returncode == 0

    def capture(self, host: Host) -> Capture:
        """Watch all WireGuard messages on the cable of `host`, as the router sees them, from now on."""
        capture = Capture(self.router, host.name)
        self._captures.append(capture)
        return capture

    def injector(self) -> Injector:
        """What an attacker on the path can do; with a capture and a filter: delay and reorder."""
        self._injectors.append(Injector(self.router))
        return self._injectors[-1]

    def report(self) -> str:
        """What the captures saw and the programs wrote, for people."""
        captured = [f"--- {capture.name}{capture.summary()}" for capture in self._captures]
        written = [f"--- {log.name}\n{log.read_text()[-4000:]}" for log in self.lab.directory.glob("*.log")]
        return "\n".join([*captured, *written])

    def close(self) -> None:
        for capture in self._captures:
            capture.close()
        for injector in self._injectors:
            injector.close()
        self.lab.close()
