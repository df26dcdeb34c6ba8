"""The one module that talks to pods: a client for each, with the operator's certificate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from handfast_tunnel.control import Configuration, ControlError, Patch, Status

from .certificates import Credentials


class Sidecar(Protocol):
    async def status(self, *, peers: bool = False) -> Status: ...
    async def put_config(self, config: Configuration, *, term: int | None) -> None: ...
    async def patch_peers(self, patch: Patch, *, term: int | None) -> None: ...
    async def drain(self, term: int, generation: int, successor: str, seconds: float) -> dict[str, Any]: ...
    async def activate(
        self, term: int, generation: int, export: dict[str, Any] | None, ceiling: str | None
    ) -> Status: ...
    async def commit(self, term: int) -> None: ...
    async def thaw(self, term: int) -> None: ...
    async def hear(self, term: int) -> None: ...


class Sidecars:
    def __init__(self, credentials: Callable[[], tuple[Credentials, str]]) -> None:
        self._credentials = credentials

    def at(self, address: str, namespace: str, tunnel: str) -> Sidecar:
        raise ControlError(f"no client yet for {address} of {namespace}/{tunnel}")

    async def close(self) -> None:
        return
