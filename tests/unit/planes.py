"""The data planes that there are: in Python always, compiled where it was built."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Final

import pytest

from handfast_tunnel.adapters.data_plane import PURE, PacketPlane, choose
from handfast_tunnel.core.data_plane import Batch

NATIVE: Final[PacketPlane | None] = choose("native") if find_spec("handfast_native") else None
PLANES: Final[tuple[PacketPlane, ...]] = (PURE,) if NATIVE is None else (PURE, NATIVE)

planes = pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)


def plain(value: Any) -> Any:
    """Sequences as lists, so that both planes' answers compare."""
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)
    return value if value is None or isinstance(value, int) else [plain(each) for each in value]


def same(answers: Iterable[Any]) -> Any:
    first, *others = map(plain, answers)
    for other in others:
        assert other == first
    return first


def written(plane: PacketPlane, batch: Batch, *, tcp: bool, udp: bool) -> list[tuple[bytes, list[bytes]]]:
    frames = plane.frames(batch, tcp=tcp, udp=udp)
    return [(b"".join(buffers), list(group)) for buffers, group in frames]


def sorted_by_receiver(plane: PacketPlane, datagrams: Batch) -> list[tuple[int | None, bytes]]:
    return [(index, datagram) for index, run in plane.by_receiver(datagrams) for datagram in run]
