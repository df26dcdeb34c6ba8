"""The compiled data plane: `tunnel/native/`, a wheel of its own. Only `data_plane.choose` imports this."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial, reduce
from operator import add

import handfast_native
from handfast_native import Datagrams, Opener, Packets, Sealer

from ..core.data_plane import Batch
from .data_plane import PURE, Frame, Run


class Native:
    """A `PacketPlane`. Takes lists of `bytes`, too: what is rare is made in Python."""

    name = "native"
    takes_large_reads = True

    sealer = Sealer
    opener = Opener
    by_receiver = staticmethod(handfast_native.by_receiver)
    by_destination = staticmethod(handfast_native.by_destination)
    by_source = staticmethod(handfast_native.by_source)
    datagrams = Datagrams
    split = staticmethod(handfast_native.split)
    join = staticmethod(partial(reduce, add))

    def size(self, batch: Batch) -> int:
        return batch.nbytes if isinstance(batch, (Packets, Datagrams)) else sum(map(len, batch))

    def runs(self, datagrams: Batch) -> Iterable[Run]:
        if isinstance(datagrams, Datagrams):
            return [Run((data,), size, count) for data, size, count in datagrams.runs()]
        return PURE.runs(datagrams)

    def frames(self, packets: Batch, *, tcp: bool, udp: bool) -> Iterable[Frame]:
        return [((frame,), group) for frame, group in handfast_native.join(packets, tcp, udp)]
