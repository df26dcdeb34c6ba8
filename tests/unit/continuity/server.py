"""A tunnel's process on the in-memory network: it dies, hangs, and comes back as the daemon does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from random import Random

from handfast_tunnel.continuity.packed_configuration import PackedConfiguration, pack
from handfast_tunnel.continuity.storage import PlainMemory
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.device import Device, Transmission
from handfast_tunnel.core.endpoint import Endpoint
from tests.unit.core.network import PORT, Host, Network
from tests.unit.core.packets import ip_packet

from .words import Crash, StateDouble

Configuration = tuple[bytes, dict[bytes, PeerChange]]
"""The private key and the peers."""
Lineage = tuple[int, int]
"""Which memory a process has: its generation, and for memory of its own the process's number."""


class Server(Host):
    """A host whose sessions lie in `state`. It can die at each store, each packet and each datagram."""

    def __init__(self, network: Network, settings: Settings, state: StateDouble) -> None:
        self.state = state
        self.alive = False
        self.waiting: list[tuple[Sequence[bytes], Endpoint, int]] = []
        """What the kernel's queue holds while no worker reads it."""
        self.former: tuple[Device, int, Lineage] | None = None
        """A process that hangs and still owns the state."""
        self.consumed: set[bytes] = set()
        """Datagrams that a process with the state's keys has looked at: none of them is worth anything."""
        self.had_rival = False
        """Whether a process ever ran without the state, because another owned it."""
        self.saved: tuple[bytes, Configuration] | None = None
        """The configuration that a worker last accepted: as it left it, and what it was."""
        self._unsaved: Configuration | None = None
        whim = Random(network.random.random())
        self.builds_in_this_turn: Callable[[], bool] = lambda: whim.random() < 0.5
        self.lineage: Lineage = (0, 0)
        self.lineages: dict[int, Lineage] = {}
        """By incarnation."""
        self.on_told: Callable[[], None] = lambda: None
        """Called when a start is told of all peers that there are."""
        super().__init__(network, len(network.hosts) + 1, settings, PlainMemory())
        self.expects = True
        network.hosts[self.endpoint.address] = self

    # --- life -------------------------------------------------------------------------------------

    def boot(self, *, up: bool = True) -> None:
        self.start(up_first=up)

    def start(self, *, same_keeper: bool = False, up_first: bool = True) -> None:
        """A new process."""
        self.incarnation += 1
        self.alive = True
        with self._mortal():
            memory = self.state.open(self.incarnation)
            self.lineage = (self.state.generation, 0 if memory else self.incarnation)
            self.lineages[self.incarnation] = self.lineage
            self.had_rival = self.had_rival or memory is None
            self.device = Device(self.settings, memory, Random(self.incarnation))
            if not same_keeper:
                self.saved = None
            if memory is not None and not same_keeper:
                memory.drained = False
            if memory is not None and memory.drained:
                self.device.freeze(self.network.now)
            self._set_clock()
            if self._come_up_configured(up_first=up_first):
                self.on_told()
            self.turn()
        self._read_what_waits(same_keeper=same_keeper)

    def _come_up_configured(self, *, up_first: bool) -> bool:
        """A worker of the same keeper goes on with what the last one accepted; people make up the rest.

        Whether it was told of all peers that there are, and so of those that there are no more.
        """
        if up_first:
            self.device.up(self.network.now)
        if self.saved is not None:
            self.device.succeed(PackedConfiguration(self.saved[0]), self.network.now)
        is_told = self.saved is None or self.saved[1] != self._configuration()
        if is_told:
            peers = tuple(self.peers.values())
            self._apply(InterfaceChange(self.key.secret, listen_port=PORT, replace_peers=True, peers=peers))
        if not up_first:
            self.device.up(self.network.now)
        return is_told

    def _configuration(self) -> Configuration:
        return self.key.secret, self.peers.copy()

    def _apply(self, change: InterfaceChange) -> None:
        """As a tunnel does: what was there is looked at before, what comes is looked at later."""
        self.finish()
        transaction = self.device.transaction()
        transaction.stage_interface(change)
        for peer in change.peers:
            transaction.stage(peer)
        self._unsaved = self._configuration()
        self.device.commit(transaction, self.network.now)
        self._save_if_done()

    def build(self) -> None:
        """One step of looking at peers that no packet has asked for."""
        self.device.build_up(self.network.now)
        self._save_if_done()

    def finish(self) -> None:
        self.device.settle()
        while self.device.building_up:
            self.build()

    def _save_if_done(self) -> None:
        if self._unsaved is not None and not self.device.building_up:
            self.state.steps.take()
            self.saved = b"".join(pack(self.device)), self._unsaved
            self._unsaved = None

    def _read_what_waits(self, *, same_keeper: bool) -> None:
        waiting, self.waiting = self.waiting, []
        for datagrams, source, traffic_class in waiting if same_keeper else ():
            self.deliver(datagrams, source, traffic_class)

    @contextmanager
    def _mortal(self) -> Iterator[None]:
        try:
            yield
        except Crash:
            self.die()

    def die(self) -> None:
        """SIGKILL."""
        self.alive = False
        self.state.release(self.incarnation)
        self._nobody_runs()

    def _nobody_runs(self) -> None:
        self.device = Device(self.settings)
        self._unsaved = None
        self.wake = inf

    def end(self) -> None:
        """SIGTERM."""
        self.drain()
        if self.alive:
            self.die()

    def drain(self) -> None:
        with self._mortal():
            self.device.settle()
            self.device.freeze(self.network.now)
            if self.lineage[1] == 0:
                self.device._interface.memory.drained = True  # type: ignore[attr-defined]

    def thaw(self) -> None:
        with self._mortal():
            self.device.settle()
            if self.lineage[1] == 0:
                self.device._interface.memory.drained = False  # type: ignore[attr-defined]
            self.device.thaw()

    # --- a process that hangs ---------------------------------------------------------------------

    def hang(self) -> None:
        """It stops, and keeps what it owns."""
        self.former = (self.device, self.incarnation, self.lineage)
        self.alive = False
        self._nobody_runs()

    def former_sends(self, other: Host, payload: bytes) -> None:
        """The process that hung goes on for a moment."""
        assert self.former is not None
        device, incarnation, lineage = self.former
        running, self.device = self.device, device
        own, self.incarnation = self.incarnation, incarnation
        newer, self.lineage = self.lineage, lineage
        try:
            device.settle()
            device.send([ip_packet(self.inner, other.inner, payload)], self.network.now)
            device.handle_timers(self.network.now)
            self._transmit()
        except Crash:
            self.former_dies()
        finally:
            self.device, self.incarnation, self.lineage = running, own, newer

    def former_dies(self) -> None:
        if self.former is not None:
            self.state.release(self.former[1])
            self.former = None

    # --- what it does -----------------------------------------------------------------------------

    def configure(self, change: InterfaceChange) -> None:
        if self.alive:
            with self._mortal():
                self.device.settle()
                self._apply(change)
                super().turn()

    def send(self, other: Host, *payloads: bytes) -> None:
        if self.alive:
            with self._mortal():
                super().send(other, *payloads)

    def turn(self) -> None:
        if self.alive:
            with self._mortal():
                self.device.settle()
                if self.builds_in_this_turn():
                    self.build()
                super().turn()

    def deliver(self, datagrams: Sequence[bytes], source: Endpoint, traffic_class: int = 0) -> None:
        if not self.alive:
            self.waiting.append((datagrams, source, traffic_class))
            return
        looks = self.device.is_up and not self.device.frozen and self.lineage[1] == 0
        with self._mortal():
            super().deliver(datagrams, source, traffic_class)
            if looks:
                self.consumed.update(datagrams)

    def _give(self, packets: Sequence[bytes]) -> None:
        """A crash can come before each packet that is written to the TUN."""
        for packet in packets:
            self.state.steps.take()
            super()._give([packet])

    def _put(self, transmission: Transmission) -> None:
        """A crash can come before each datagram that is sent."""
        for datagram in transmission.datagrams:
            self.state.steps.take()
            super()._put(transmission._replace(datagrams=[datagram]))
