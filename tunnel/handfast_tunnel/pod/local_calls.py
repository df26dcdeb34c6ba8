"""What hooks and people may ask of a pod's tunnel on its local socket, which needs no certificate.

It takes no role away from the operator: a drain is an offer here, and nobody but the operator's word, or
time, thaws what is handing over.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from ..adapters import calls
from ..adapters.calls import Answer, Request
from ..control.roles import Role
from ..errors import ConfigurationError

if TYPE_CHECKING:
    from .gateway import Gateway


def answer(gateway: Gateway, request: bytes) -> Answer:
    """Raises ConfigurationError for a request that is refused, then or when it is iterated."""
    name, fields = calls.parse(request, {**calls.CALLS, **_CALLS})
    if name in _CALLS:
        return _CALLS[name](gateway, fields)
    return calls.CALLS[name](gateway.tunnel, fields)


def _drain(gateway: Gateway, _request: Request) -> Answer:
    raise ConfigurationError(
        f"{gateway.tunnel.name} belongs to a pod, whose operator drains it: offer it with `drain --offer`"
    )


def _offer(gateway: Gateway, _request: Request) -> Answer:
    """The hook then asks for the role until that is gone, or the offer."""
    gateway.offer()
    yield json.dumps(gateway.stance())


def _tell_role(gateway: Gateway, _request: Request) -> Answer:
    yield json.dumps(gateway.stance())


def _handshake(gateway: Gateway, request: Request) -> Answer:
    """A pod that is not active greets nobody, and that is no mistake of whoever asks."""
    if gateway.standing.role is not Role.ACTIVE:
        yield json.dumps({"initiated": 0})
        return
    yield from calls.handshake(gateway.tunnel, request)


def _status(gateway: Gateway, request: Request) -> Answer:
    yield json.dumps(gateway.stance())[:-1] + ", "
    pieces = calls.status(gateway.tunnel, request)
    yield next(pieces)[1:]
    yield from pieces


_CALLS: Final[Mapping[str, Callable[[Gateway, Request], Answer]]] = {
    "drain": _drain,
    "handshake": _handshake,
    "offer": _offer,
    "role": _tell_role,
    "status": _status,
}
