"""A tunnel without a kernel: the real event loop in a thread, the real device, no TUN and no sockets."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

from handfast_tunnel.adapters.data_plane import PURE
from handfast_tunnel.adapters.event_loop import EventLoop
from handfast_tunnel.core.configuration import InterfaceChange, Settings
from handfast_tunnel.core.device import Device

if TYPE_CHECKING:
    from handfast_tunnel.adapters.tunnel import Tunnel


class FakeDrops:
    def __init__(self) -> None:
        self.at_takeover = {"udp_queue": 2, "tun_queue": 1, "tun_host": 0}
        self.in_queues = {"udp_queue": 4, "tun_queue": 3, "tun_host": 0}


class FakeTunnel:
    def __init__(self, name: str = "wg0") -> None:
        self.name = name
        self.loop = EventLoop()
        self.plane = PURE
        self.device = Device(Settings())
        self.features = ["TUN: none", "UDP: none"]
        self.incarnation: int | None = 3
        self.drops = FakeDrops()
        self.applying = 0
        self.most_applying = 0
        self.handshakes: list[Sequence[bytes] | None] = []
        self.greetings = 0
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self.loop.run, args=[lambda: math.inf])

    @property
    def as_tunnel(self) -> Tunnel:
        return cast("Tunnel", self)

    def apply(self, change: InterfaceChange) -> Iterator[None]:
        self.applying += 1
        self.most_applying = max(self.applying, self.most_applying)
        try:
            transaction = self.device.transaction()
            transaction.stage_interface(change)
            for peer in change.peers:
                transaction.stage(peer)
                yield
            if self.failure is not None:
                raise self.failure
            self.device.commit(transaction, self.loop.now)
            yield from self.build_up()
        finally:
            self.applying -= 1
        if change.drain is not None:
            self.drain(change.drain)

    def build_up(self) -> Iterator[None]:
        while self.device.building_up:
            self.device.build_up(self.loop.now)
            yield

    def drain(self, on: bool) -> None:
        if on:
            self.device.freeze(self.loop.now)
        else:
            self.device.thaw()

    def handshake(self, public_keys: Sequence[bytes] | None) -> int:
        self.handshakes.append(public_keys)
        return len(self.device.peers if public_keys is None else public_keys)

    def greet(self) -> int:
        self.greetings += 1
        return 1

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.loop.stop()
        self.join()

    def join(self) -> None:
        """Waits until the loop has stopped."""
        self._thread.join(10)
        assert not self._thread.is_alive()

    def close(self) -> None:
        self.loop.close()
