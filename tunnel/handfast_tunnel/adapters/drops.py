"""Packets that are lost beside the core: refused by the kernel, or without room in its queues before us.

The kernel counts overflows as long as a socket and a device live, which is longer than a worker does. What
a worker saw of them last is kept, so that the next one knows how many were lost while it took over.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ..continuity.layout import QUEUE_DROPS, Words

if TYPE_CHECKING:
    from .link import LinkWatcher
    from .tun import Tun
    from .udp import UdpSockets

QUEUES: Final = ("udp_queue", "tun_queue", "tun_host")
"""Reasons: datagrams for us, packets for us, and what the host took from us and dropped."""
_COUNTER_MASK: Final = 0xFFFF_FFFF


class Drops:
    """Counts into `dropped`, which is by reason."""

    def __init__(self, dropped: Counter[str], tun: Tun, link: LinkWatcher, marks: Words) -> None:
        self._dropped = dropped
        self._tun = tun
        self._link = link
        self._marks = marks
        """Totals by reason; then what the present UDP sockets had counted when they were looked at last."""
        self._unsent_before = 0
        self.at_takeover = dict.fromkeys(QUEUES, 0)
        """By reason: since the former worker looked last, a second before its end at most."""

    @property
    def in_queues(self) -> dict[str, int]:
        """By reason: since the first worker began."""
        return {reason: self._marks[number] for number, reason in enumerate(QUEUES)}

    def take_over(self, udp: UdpSockets | None) -> None:
        """A former worker left off; nothing was read since."""
        before = self.in_queues
        self.look(udp)
        self.at_takeover = {reason: total - before[reason] for reason, total in self.in_queues.items()}

    def look(self, udp: UdpSockets | None) -> None:
        """To be called now and then."""
        marks, overflows = self._marks, udp.overflows if udp else 0
        marks[0] += (overflows - marks[QUEUE_DROPS - 1]) & _COUNTER_MASK
        marks[QUEUE_DROPS - 1] = overflows
        marks[1], marks[2] = self._link.dropped() or (marks[1], marks[2])
        counts = self.in_queues
        counts["tun_write"] = self._tun.dropped_packets
        counts["udp_send"] = self._unsent_before + (udp.dropped_datagrams if udp else 0)
        self._dropped.update({reason: n - self._dropped[reason] for reason, n in counts.items() if n})

    def closing(self, udp: UdpSockets) -> None:
        """The sockets are about to be closed, and what they counted is gone with them."""
        self.look(udp)
        self._unsent_before += udp.dropped_datagrams
        self._marks[QUEUE_DROPS - 1] = 0
