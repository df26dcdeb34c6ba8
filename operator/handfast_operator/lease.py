"""One operator at a time: a Lease, held for 15 s, renewed every 2 s, given up after 10 s without success.

Its transitions count into the term of every activation, so that the calls of an operator that lost it are
refused.
(The library's own election does not count them.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

from .store import Conflict, Failure, Object, Store

DURATION: Final = 15.0
DEADLINE: Final = 10.0
RETRY: Final = 2.0
NAME: Final = "handfast-operator"
API: Final = ("coordination.k8s.io/v1", "Lease")

logger = logging.getLogger(__name__)


class LeaseLostError(Exception):
    """Another operator may act by now: this process must end."""


class Lease:
    """All times are in seconds."""

    def __init__(
        self,
        store: Store,
        namespace: str,
        identity: str,
        *,
        duration: float = DURATION,
        deadline: float = DEADLINE,
        retry: float = RETRY,
    ) -> None:
        self._store = store
        self._namespace = namespace
        self._identity = identity
        self._duration, self._deadline, self._retry = duration, deadline, retry
        self._seen: tuple[Any, float] = (None, 0.0)
        self.transitions = 0

    async def acquire(self) -> None:
        """Wait until it is ours."""
        while not await self._attempt():  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(self._retry)

    async def hold(self) -> None:
        """Renew it for ever. Raises LeaseLostError."""
        renewed = time.monotonic()
        while (left := renewed + self._deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await asyncio.sleep(self._retry)
                    began = time.monotonic()
                    if await self._renew():
                        renewed = began
        raise LeaseLostError(
            f"the Lease could not be renewed for {self._deadline:g} s: another operator may act by now"
        )

    async def release(self) -> None:
        """Let the next one have it without waiting."""
        try:
            lease = await self._read()
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                await self._write(lease, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except Failure as failure:
            logger.warning("The Lease stays until it expires: %s", failure)

    async def _attempt(self) -> bool:
        try:
            lease = await self._read()
            return await (self._create() if lease is None else self._take(lease))
        except Conflict:
            return False
        except (Failure, OSError) as failure:
            logger.warning("The Lease cannot be read or written: %s", failure)
            return False

    async def _renew(self) -> bool:
        """False where that failed and may be tried again. Raises LeaseLostError if it is somebody else's."""
        try:
            lease = await self._read()
            spec = lease["spec"] if lease else {}
            ours = spec.get("holderIdentity") == self._identity
            if lease is None or not ours or spec.get("leaseTransitions") != self.transitions:
                raise LeaseLostError("another operator has taken the Lease")
            await self._write(lease, {"renewTime": _micro_time()})
        except (Failure, OSError) as failure:
            logger.warning("The Lease cannot be renewed: %s", failure)
            return False
        return True

    async def _read(self) -> Object | None:
        return await self._store.get(*API, self._namespace, NAME)

    async def _create(self) -> bool:
        now = _micro_time()
        metadata = {"name": NAME, "namespace": self._namespace}
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(int(self._duration), 1),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 1,
        }
        await self._store.create({"apiVersion": API[0], "kind": API[1], "metadata": metadata, "spec": spec})
        self.transitions = 1
        return True

    async def _take(self, lease: Object) -> bool:
        spec = lease["spec"]
        holder, transitions = spec.get("holderIdentity"), spec.get("leaseTransitions") or 0
        now = _micro_time()
        if holder and holder != self._identity and not self._expired(spec):
            return False
        change = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(int(self._duration), 1),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions + 1,
        }
        await self._write(lease, change)
        self.transitions = transitions + 1
        return True

    def _expired(self, spec: Object) -> bool:
        """By our own clock, from when we saw the last renewal: clocks differ."""
        state = (spec.get("holderIdentity"), spec.get("renewTime"))
        if state != self._seen[0]:
            self._seen = (state, time.monotonic())
        return time.monotonic() - self._seen[1] > self._duration

    async def _write(self, lease: Object, change: Object) -> None:
        version = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        await self._store.merge(*API, self._namespace, NAME, {"metadata": version, "spec": change})


def _micro_time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
