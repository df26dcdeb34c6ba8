"""The data planes that there are: in Python always, compiled where it was built."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Final

import pytest

from handfast_tunnel.adapters.data_plane import PURE, PacketPlane, choose

NATIVE: Final[PacketPlane | None] = choose("native") if find_spec("handfast_native") else None
PLANES: Final[tuple[PacketPlane, ...]] = (PURE,) if NATIVE is None else (PURE, NATIVE)

planes = pytest.mark.parametrize("plane", PLANES, ids=lambda plane: plane.name)
