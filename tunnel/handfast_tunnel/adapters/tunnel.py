"""One running interface: the device between its TUN, its UDP sockets and the clock."""

from __future__ import annotations

import errno
import gc
import logging
import math
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final, Protocol

from ..continuity.layout import QUEUE_DROPS, WORD, Words
from ..continuity.packed_configuration import PackedConfiguration
from ..continuity.storage import Memory
from ..core.configuration import InterfaceChange, Settings
from ..core.constants import REJECT_AFTER_TIME
from ..core.data_plane import Batch
from ..core.device import Device, Transmission
from ..errors import ConfigurationError
from .data_plane import PURE, PacketPlane
from .drops import Drops
from .event_loop import EventLoop
from .express import Express
from .features import tell
from .handshake_share import HandshakeShare
from .link import LinkState, LinkWatcher
from .outliving import Outliving
from .tun import LinkDeletedError, Tun
from .udp import Received, UdpSockets

logger = logging.getLogger(__name__)

_PEERS_PER_STEP: Final = 32
_PREFIXES_PER_STEP: Final = 256
_HOUSEKEEPING: Final = 1.0
"""Seconds between looks at the wall clock and signs of life for the keeper's watchdog."""
_FIRST_PACKETS: Final = 0.02
"""Seconds in which a successor looks only at peers whose packets waited for it."""


class SignsOfLife(Protocol):
    """Who wants to know whether the tunnel serves: a keeper, a service manager."""

    def ready(self) -> None: ...

    def alive(self) -> None: ...


class Tunnel:
    """The interface `name`. Its methods are called from the event loop's thread only."""

    def __init__(
        self,
        tun: Tun,
        loop: EventLoop,
        settings: Settings,
        life: SignsOfLife,
        memory: Memory | None = None,
        outliving: Outliving | None = None,
        *,
        plane: PacketPlane = PURE,
    ) -> None:
        self.name = tun.name
        self.loop = loop
        self.plane = plane
        self.device = Device(settings, memory, plane=plane)
        self._life = life
        self._outliving = outliving
        self._is_bystander = memory is not None and outliving is None
        self._tun = tun
        self._udp: UdpSockets | None = None
        self._handshakes = HandshakeShare(self.device, lambda: loop.now, self._transmit)
        self._express = Express(self.device, tun, lambda: self._handshakes.data_came(loop.now))
        self._comes_singly = True
        """Whether no two packets of this turn came together."""
        self._link_is_up = False
        self._link = LinkWatcher(tun.name)
        plain = memoryview(bytearray(QUEUE_DROPS * WORD)).cast("Q")
        marks: Words = outliving.state.queue_drops if outliving else plain
        self.drops = Drops(self.device.statistics.dropped, tun, self._link, marks)
        self._applying = False
        self._told_of_port = False
        self._former_port = outliving.listen_port if outliving else 0
        """Where others last found a former process."""
        self._next_housekeeping = 0.0
        self.held: str | None = None
        """Why it must stay frozen, whoever asks it to thaw."""
        self._sweep_at = loop.now + REJECT_AFTER_TIME if outliving else math.inf
        loop.watch(self._link.fileno(), self._on_link)

    @property
    def incarnation(self) -> int | None:
        """Counts the owners of the state memory; None without one."""
        return self._outliving.state.incarnation if self._outliving is not None else None

    @property
    def features(self) -> list[str]:
        """What the kernel lends a hand with, in sentences."""
        return [self._tun.features] + ([self._udp.features] if self._udp else [])

    def run(self) -> int:
        """Serves until the loop is stopped; returns its status.

        What it raises leaves all as it is, for the next worker, as a kill would.
        """
        tell(self.name, self._tun)
        self._read_wall_clock(self.loop.now)
        self._take_over()
        self._link_changed(self._link.current())
        self.loop.call_at(self.loop.now + _FIRST_PACKETS, self._look_around)
        self._keep_for_good()
        self._life.ready()
        self._next_housekeeping = self.loop.now + _HOUSEKEEPING
        status = self.loop.run(self._end_turn, self._go_long)
        self._close()
        return status

    def boot(self, begin: InterfaceChange | PackedConfiguration, *, frozen: bool) -> None:
        """Begins with a whole configuration, before any packet is read: frozen, it answers nobody. Peers of
        one that a former process left are looked at when packets ask for them, and afterwards."""
        if self._outliving is not None:
            self._outliving.note_drained(frozen)
        if frozen:
            self.device.freeze(self.loop.now)
        self._read_wall_clock(self.loop.now)
        if isinstance(begin, PackedConfiguration):
            self._succeed(begin)
        else:
            self.device.configure(begin, self.loop.now)

    def _take_over(self) -> None:
        """Goes on where a former worker of the same keeper stopped, before any packet is read."""
        if self._outliving is None or not self._outliving.is_successor:
            return
        if self._outliving.drained:
            self.device.freeze(self.loop.now)
        left = self._outliving.load_configuration()
        if left is not None:
            self._succeed(left)

    def _keep_for_good(self) -> None:
        """What is there by now will stay: no collection need look at it."""
        gc.freeze()

    def _look_around(self) -> None:
        """What packets that waited need not wait for, too."""
        if self._outliving is not None:
            self.loop.spawn(self._outliving.lock_into_memory())
            if self._outliving.is_successor:
                self.drops.take_over(self._udp)

    def _succeed(self, left: PackedConfiguration) -> None:
        self.device.succeed(left, self.loop.now)
        self.loop.call_at(self.loop.now + _FIRST_PACKETS, lambda: self.loop.spawn(self._build_up()))

    def _build_up(self) -> Iterator[None]:
        """A job of its own, because nobody's leaving may end it: looks at peers that no packet asked for."""
        if self._outliving is not None and self.device.building_up:
            yield from self._outliving.read_ahead()
        while self.device.building_up:
            self.device.build_up(self.loop.now)
            self._keep_for_good()
            yield

    def _keep_house(self, now: float) -> None:
        """What need not be done each turn."""
        self._next_housekeeping = now + _HOUSEKEEPING
        self._read_wall_clock(now)
        self.drops.look(self._udp)
        if self._link_is_up and not self.device.is_up:
            self._up()
        self._life.alive()
        if self._outliving is not None:
            self._sweep(self._outliving, now)

    def _sweep(self, outliving: Outliving, now: float) -> None:
        """Zeroes, once, what a former process left for peers that were never configured again."""
        if now >= self._sweep_at:
            self._sweep_at = math.inf
            self.loop.spawn(outliving.sweep())

    def _close(self) -> None:
        if not self.device.frozen:
            self.device.freeze(self.loop.now)
        self._close_sockets()
        self._link.close()
        self._tun.close()
        if self._outliving is not None:
            self._outliving.end()

    # --- a turn -----------------------------------------------------------------------------------

    def _on_tun(self, _events: int) -> None:
        if self._is_bystander and self._stands_by():
            return
        now = self.loop.now
        try:
            self._send(self._tun.read_batch(), now)
        except LinkDeletedError:
            self._deleted()

    def _send(self, packets: Batch, now: float) -> None:
        if packets:
            self._comes_singly = self._comes_singly and len(packets) == 1
            self.device.send(packets, now)
            self._transmit()
            self._handshakes.data_came(now)

    def _on_udp(self, fd: int, _events: int) -> None:
        if self._is_bystander and self._stands_by():
            return
        if self._udp is not None:
            self._receive(self._udp.receive_batch(fd), self.loop.now)

    def _receive(self, received: list[Received], now: float) -> None:
        receive = self.device.receive
        batches = [
            packets
            for datagrams, source, traffic_class in received
            if (packets := receive(datagrams, source, now, traffic_class))
        ]
        if batches:
            self._write(self.plane.join(batches))
            self._handshakes.data_came(now)
        self._transmit()

    def _write(self, packets: Batch) -> None:
        self._comes_singly = self._comes_singly and len(packets) == 1
        try:
            self._tun.write_batch(packets)
        except LinkDeletedError:
            self._deleted()

    def _go_long(self) -> None:
        """Does what was put off, and with what did not go the short way what is done with all."""
        left = self._express.settle()
        if left is None:
            return
        now = self.loop.now
        if left.received:
            self._receive(left.received, now)
        if left.opened:
            self._write(left.opened)
        self._send(left.packets, now)
        self._put(left.transmissions)

    def _transmit(self) -> None:
        self._put(self.device.take_transmissions())

    def _put(self, transmissions: list[Transmission]) -> None:
        if transmissions and self._udp is not None:
            for refused in self._udp.send(transmissions):
                self.device.local_address_refused(refused)

    def _end_turn(self) -> float:
        """Handshakes within their budget, then timers; returns when the next turn is due."""
        device = self.device
        now = self.loop.now
        if self._is_bystander:
            self._stands_by()
        if now >= self._next_housekeeping:
            self._keep_house(now)
        if device.handshake_backlog:
            self._read_wall_clock(now)
            now = self._handshakes.work_off(now)
        deadline = device.next_deadline(now)
        if deadline <= now:
            self._read_wall_clock(now)
            device.handle_timers(now)
            deadline = device.next_deadline(now)
        self._transmit()
        for event in device.take_events():
            who = "" if event.public_key is None else f"peer {event.public_key.hex()[:8]}: "
            logger.log(
                logging.WARNING if event.warning else logging.DEBUG, "%s: %s%s", self.name, who, event.what
            )
        self._handshakes.end_turn()
        if self._comes_singly and self._udp is not None and not self._is_bystander:
            self._express.expect(self._udp, now)
        self._comes_singly = True
        return now if device.handshake_backlog else min(deadline, self._next_housekeeping)

    def _stands_by(self) -> bool:
        """Whether the owner of our state memory was told that another took over: it is over here, too."""
        if self.device.committed:
            self.drain(True)
        return self.device.frozen

    def _read_wall_clock(self, now: float) -> None:
        """For stamps: it may have been set since."""
        self.device.set_wall_offset(time.time() - now)

    # --- link -------------------------------------------------------------------------------------

    def _on_link(self, _events: int) -> None:
        state = self._link.read()
        if state is not None:
            self._link_changed(state)

    def _link_changed(self, state: LinkState) -> None:
        if state.deleted:
            self._deleted()
            return
        self.device.set_mtu(state.mtu)
        self._link_is_up = state.up
        if state.up and not self.device.is_up:
            self._up()
        elif not state.up and self.device.is_up:
            self._down()

    def _up(self) -> None:
        port = self.device.listen_port
        try:
            inherited = self._outliving.adopt_sockets(self.plane) if self._outliving else None
            self._open_sockets(inherited or self._bind(port, self.device.fwmark))
        except OSError as error:
            if not self._told_of_port:
                remedy = f"free it, or choose another with `wg set {self.name} listen-port`"
                logger.error("%s: cannot open UDP port %d: %s; %s", self.name, port, error.strerror, remedy)  # noqa: TRY400
            self._told_of_port = True
            return
        self._go_up()

    def _go_up(self) -> None:
        self._told_of_port = False
        self.device.up(self.loop.now)
        if not self.device.frozen:
            self.loop.watch(self._tun.fileno(), self._on_tun, short_way=self._express.outward)
        logger.debug("%s: up on port %d", self.name, self.device.listen_port)

    def _down(self) -> None:
        if not self.device.frozen:
            self.loop.unwatch(self._tun.fileno())
        self._close_sockets()
        self.device.down(self.loop.now)
        logger.debug("%s: down", self.name)

    def _deleted(self) -> None:
        logger.debug("%s: the interface was deleted", self.name)
        self.loop.stop(0)

    # --- sockets ----------------------------------------------------------------------------------

    def _bind(self, port: int, fwmark: int) -> UdpSockets:
        """Where any port will do, the one that clients know is better, if it is free."""
        if not port and self._former_port:
            try:
                return self._bound_sockets(self._former_port, fwmark)
            except OSError as error:
                logger.debug("%s: the former UDP port %d: %s", self.name, self._former_port, error.strerror)
        return self._bound_sockets(port, fwmark)

    def _bound_sockets(self, port: int, fwmark: int) -> UdpSockets:
        sockets = UdpSockets(plane=self.plane)
        sockets.bind(port, fwmark)
        return sockets

    def _open_sockets(self, udp: UdpSockets) -> None:
        tell(self.name, udp)
        self._udp = udp
        self.device.listen_port = udp.port
        if self._outliving is not None:
            self._former_port = 0
            self._outliving.note_listen_port(udp.port)
            self._outliving.hold_sockets(udp)
        if not self.device.frozen:
            self._watch_sockets()

    def _watch_sockets(self) -> None:
        udp = self._udp
        if udp is None:
            return
        for fd in udp.filenos:
            self.loop.watch(fd, partial(self._on_udp, fd), short_way=self._express.inward)

    def _unwatch_sockets(self) -> None:
        for fd in self._udp.filenos if self._udp else ():
            self.loop.unwatch(fd)

    def _close_sockets(self) -> None:
        if self._udp is not None:
            if not self.device.frozen:
                self._unwatch_sockets()
            self.drops.closing(self._udp)
            self._udp.close()
            self._udp = None
            if self._outliving is not None:
                self._outliving.release_sockets()

    # --- what people ask for ----------------------------------------------------------------------

    def apply(self, change: InterfaceChange) -> Iterator[None]:
        """A job that applies a whole change in one swap, or raises ConfigurationError and changes nothing."""
        while self._applying or self.device.building_up:
            yield
        self._applying = True
        try:
            yield from self._apply(change)
        finally:
            self._applying = False

    def _apply(self, change: InterfaceChange) -> Iterator[None]:
        if change.drain is False:
            self._check_thaw()
        transaction = self.device.transaction()
        transaction.stage_interface(change)
        pieces = (piece for peer in change.peers for piece in peer.pieces(_PREFIXES_PER_STEP))
        for count, piece in enumerate(pieces, 1):
            transaction.stage(piece)
            if count % _PEERS_PER_STEP == 0 or len(piece.allowed_ips) == _PREFIXES_PER_STEP:
                yield
        self._reserve(change)
        sockets = self._sockets_for(change)
        self.device.commit(transaction, self.loop.now)
        if sockets is not None:
            self._close_sockets()
            self._open_sockets(sockets)
            if not self.device.is_up:
                self._go_up()
        self.loop.spawn(self._build_up())
        while self.device.building_up:
            yield
        if self._outliving is not None:
            yield from self._outliving.save_configuration(self.device)
        if change.drain is not None:
            self.drain(change.drain)
        self._keep_for_good()
        self._transmit()

    def _reserve(self, change: InterfaceChange) -> None:
        """Room for the configuration as it will be at most, so that storing it cannot fail afterwards."""
        if self._outliving is None or not self._outliving.keeps_configuration:
            return
        former = self.device.peers.values()
        peers = len(former) + len(change.peers)
        prefixes = sum(len(peer.allowed_ips) for peer in former) + sum(
            len(peer.allowed_ips) for peer in change.peers
        )
        try:
            self._outliving.reserve(peers, prefixes)
        except OSError as error:
            raise ConfigurationError(
                f"{self.name}: no room to store the configuration: {error.strerror}; "
                "free the file system that --state names",
                error.errno or errno.ENOSPC,
            ) from error

    def _sockets_for(self, change: InterfaceChange) -> UdpSockets | None:
        """New sockets where the change asks for another port and the link is up; else marks the old ones."""
        if self._udp is None and (not self._link_is_up or change.listen_port is None):
            return None
        fwmark = self.device.fwmark if change.fwmark is None else change.fwmark
        port = change.listen_port
        try:
            if self._udp is None or (port is not None and port != self._udp.port):
                return self._bind(port or 0, fwmark)
            if fwmark != self.device.fwmark:
                self._udp.set_mark(fwmark)
        except OSError as error:
            what = f"listen on UDP port {port}" if port is not None else f"mark packets with {fwmark}"
            raise ConfigurationError(
                f"{self.name}: cannot {what}: {error.strerror}; "
                "is the port another program's, or CAP_NET_ADMIN missing?",
                error.errno or errno.EADDRINUSE,
            ) from error
        return None

    def drain(self, on: bool) -> None:
        """Freezes the interface, packets waiting in the kernel's queues, or lets it go on."""
        if not on:
            self._check_thaw()
        if on == self.device.frozen:
            return
        if self._outliving is not None:
            self._outliving.note_drained(on)
        if on:
            if self.device.is_up:
                self._unwatch_sockets()
                self.loop.unwatch(self._tun.fileno())
            self.device.freeze(self.loop.now)
            logger.debug("%s: drained: nothing more is sent or opened", self.name)
            return
        self.device.thaw()
        self._watch_packets()
        logger.debug("%s: thawed", self.name)

    def take_charge(self) -> None:
        """Thaws and greets: from here on the peers are this process's."""
        self._check_thaw()
        was_frozen = self.device.frozen
        if self._outliving is not None:
            self._outliving.note_drained(False)
        self.device.take_charge(self.loop.now)
        if was_frozen:
            self._watch_packets()

    def _watch_packets(self) -> None:
        if self.device.is_up:
            self._watch_sockets()
            self.loop.watch(self._tun.fileno(), self._on_tun, short_way=self._express.outward)

    def _check_thaw(self) -> None:
        if self.device.committed:
            raise ConfigurationError(
                f"{self.name}: another took over for good: this one stays frozen", errno.EPERM
            )
        if self.held is not None:
            raise ConfigurationError(f"{self.name}: {self.held}", errno.EPERM)

    def handshake(self, public_keys: Sequence[bytes] | None) -> int:
        """Forces handshakes with the named peers, or all; how many were started."""
        self._check_sending()
        return self.device.initiate(public_keys, self.loop.now)

    def greet(self) -> int:
        """Starts handshakes with all who have no session, where it may announce; with how many."""
        self._check_sending()
        return self.device.greet(self.loop.now)

    def _check_sending(self) -> None:
        if self.device.frozen:
            raise ConfigurationError(f"{self.name} is drained and sends nothing: `drain --off` first")
        if not self.device.is_up:
            raise ConfigurationError(f"{self.name} is down: `ip link set {self.name} up` first")
