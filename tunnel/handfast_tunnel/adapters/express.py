"""The short way between the TUN device and a socket, for packets that come one at a time and are expected.

After a pause the processor's caches know nothing of us, so a packet's time is what it touches: here that is a
read, a comparison, the cipher and a send.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.data_plane import Batch
from ..core.interface import Transmission
from .tun import READ_BYTES
from .udp import CONTROL_BYTES, RECEIVE_BYTES

if TYPE_CHECKING:
    from ..core.device import Device
    from ..core.expected import ExpectedDatagrams, ExpectedPackets
    from .tun import Tun
    from .udp import Received, UdpSockets


class Left:
    """What was taken up and has to go the long way."""

    __slots__ = ("opened", "packets", "received", "transmissions")

    def __init__(self) -> None:
        self.received: list[Received] = []
        """From a socket."""
        self.opened: list[bytes] = []
        """What the TUN device did not take."""
        self.packets: Batch = ()
        """From the TUN device."""
        self.transmissions: list[Transmission] = []
        """What the socket did not take."""

    def __bool__(self) -> bool:
        return bool(self.received or self.opened or self.packets or self.transmissions)


class Express:
    """What the device expects, and how it is passed on."""

    __slots__ = (
        "_address", "_control", "_data_came", "_datagrams", "_device", "_fd", "_header", "_packets",
        "_receive", "_skip", "_tun", "_understand", "_way", "left",
    )  # fmt: skip

    def __init__(self, device: Device, tun: Tun, data_came: Callable[[], None]) -> None:
        """`data_came` is called when what came turns out to have gone the short way."""
        self._device = device
        self._data_came = data_came
        self._tun = tun
        self._fd = tun.fileno()
        self._header = tun.header
        self._skip = len(tun.header)
        self._packets: ExpectedPackets | None = None
        self._datagrams: ExpectedDatagrams | None = None
        self.left = Left()

    def expect(self, udp: UdpSockets, now: float) -> None:
        """A turn has ended in which nothing came but single packets."""
        device = self._device
        device.expect(now)
        if (packets := device.expected_packets) is not None:
            way_to = udp.way_to(packets.endpoint, packets.ecn)
            if way_to is not None:
                self._packets, self._way = packets, way_to
        if (datagrams := device.expected_datagrams) is not None:
            way_from = udp.way_from(datagrams.source)
            if way_from is not None:
                self._datagrams = datagrams
                self._receive, self._control, self._address, self._understand = way_from

    def settle(self) -> Left | None:
        """Void from here on; what is left to do, if anything."""
        self._packets = self._datagrams = None
        if self._device.settle():
            self._data_came()
        left = self.left
        if not left:
            return None
        self.left = Left()
        return left

    def outward(self) -> bool:
        """From the TUN device; whether that is all there is to do."""
        packets = self._packets
        if packets is None:
            return False
        try:
            frame = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False  # who comes the long way meets it, too
        whole = frame.startswith(self._header)
        read = [frame[self._skip :]] if whole else self._tun.packets([frame])
        datagram = packets.seal(read[0], time.clock_gettime(time.CLOCK_BOOTTIME)) if len(read) == 1 else None
        if datagram is None:
            self.left.packets = read
            return False
        send, control, address = self._way
        try:
            send((datagram,), control, 0, address)
        except OSError:
            self.left.transmissions.append(
                Transmission(packets.endpoint, [datagram], packets.ecn, packets.keypair.peer)
            )
            return False
        return True

    def inward(self) -> bool:
        """From the socket, and back if the kernel answers at once, as it does pings; whether that is all."""
        datagrams = self._datagrams
        if datagrams is None:
            return False
        try:
            data, control, _, address = self._receive(RECEIVE_BYTES, CONTROL_BYTES)
        except OSError:
            return False
        packet = None
        if address == self._address and control == self._control:
            packet = datagrams.open(data, time.clock_gettime(time.CLOCK_BOOTTIME))
        if packet is None:
            self.left.received.append(self._understand(data, control, address))
            return False
        try:
            os.writev(self._fd, (self._header, packet))
        except OSError:
            self.left.opened.append(packet)
            return False
        return self._packets is None or self.outward()
