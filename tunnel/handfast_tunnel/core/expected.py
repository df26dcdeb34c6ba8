"""What comes next on a session, if it is like what came last: somebody waits for it, so all that can be
decided about it is decided before it comes, and what can be done about it afterwards is done afterwards.

An expectation is good for a few packets, and void once anything else is done with the device: `Device.settle`
comes before, and does what was put off.
"""

from __future__ import annotations

from typing import Final

from .batch import source_of, trim
from .constants import REJECT_AFTER_TIME
from .endpoint import Endpoint
from .messages import TYPE_TRANSPORT
from .session import Keypair

IP_HEADER: Final = 40
"""As much of a packet as tells where it goes and where it is from."""
EXPECTED: Final = 8
"""So many packets each way, before what was put off is done."""

_LOOKS: Final = 2
"""Bytes of an IP packet that tell its version and its traffic class."""
_DESTINATION: Final = {4: slice(16, 20), 6: slice(24, 40)}


class ExpectedPackets:
    """IP packets with the destination and the traffic class of `like`. Their counters are stored already."""

    __slots__ = (
        "_at", "_destination", "_end", "_looks", "_mtu", "_passed", "_receiver", "_seal", "_until",
        "ecn", "endpoint", "keypair", "next_counter",
    )  # fmt: skip

    def __init__(
        self, keypair: Keypair, endpoint: Endpoint, ecn: int, like: bytes, mtu: int, passed: list[Passed]
    ) -> None:
        self.keypair = keypair
        self.endpoint = endpoint
        self.ecn = ecn
        self._passed = passed
        self._looks = like[:_LOOKS]
        self._at = at = _DESTINATION[like[0] >> 4]
        self._destination = like[at]
        self._until = keypair.born + REJECT_AFTER_TIME
        self._seal = keypair.sealer.seal
        self._receiver = keypair.remote_index
        self._mtu = mtu
        self.next_counter, count = keypair.reserve(EXPECTED)
        self._end = self.next_counter + count

    def seal(self, packet: bytes, now: float) -> bytes | None:
        """The datagram that carries it; None if it is not expected."""
        counter = self.next_counter
        if (
            packet[self._at] != self._destination
            or packet[:_LOOKS] != self._looks
            or counter == self._end
            or now >= self._until
        ):
            return None
        self.next_counter = counter + 1
        datagram = self._seal(self._receiver, counter, packet, self._mtu)
        self._passed.append((self, counter, len(datagram), now))
        return datagram

    def give_back(self) -> None:
        """The counters that were not used, unless others were taken since."""
        if self.keypair.counter == self._end:
            self.keypair.counter = self.next_counter


class ExpectedDatagrams:
    """Transport messages of one session, from where its peer is, whose packets have the source of `like`."""

    __slots__ = (
        "_address", "_head", "_highest", "_left", "_numbers", "_open", "_passed", "_until",
        "keypair", "source",
    )  # fmt: skip

    def __init__(self, keypair: Keypair, source: Endpoint, like: bytes, passed: list[Passed]) -> None:
        self.keypair = keypair
        self.source = source
        self._passed = passed
        self._left = EXPECTED
        self._numbers = keypair.numbers
        self._highest = keypair.window.highest
        self._head = TYPE_TRANSPORT.to_bytes(4, "little") + keypair.local_index.to_bytes(4, "little")
        self._address = source_of(like)
        self._until = keypair.born + REJECT_AFTER_TIME
        self._open = keypair.opener.open

    def open(self, datagram: bytes, now: float) -> bytes | None:
        """The IP packet in it, stored as seen; None if the datagram is not expected: older ones are not."""
        if datagram[:8] != self._head or now >= self._until or not self._left:
            return None
        opened = self._open(datagram)
        if opened is None:
            return None
        counter, plaintext = opened
        found = trim(plaintext) if plaintext else None
        if found is None or found[1] != self._address or counter <= self._highest:
            return None
        self._highest = self._numbers.highest_received = counter
        self._left -= 1
        self._passed.append((self, counter, len(datagram), now))
        return found[0]


Passed = tuple[ExpectedPackets | ExpectedDatagrams, int, int, float]
"""What met an expectation: which, its counter, the bytes of the datagram, and when."""
