"""Holding the Lease in a thread of its own.

Ten thousand objects at start can keep the other loop busy for longer than a Lease lasts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import NoReturn

from .lease import Lease, LeaseLostError
from .settings import Settings
from .store import Store, configuration

logger = logging.getLogger(__name__)


class Holding:
    """Whoever loses the Lease ends at once, in the middle of whatever it does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._main = asyncio.get_running_loop()
        self._acquired: asyncio.Future[int] = self._main.create_future()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        self._thread.start()

    async def acquired(self) -> int:
        """The Lease's transitions."""
        return await asyncio.shield(self._acquired)

    async def release(self) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        await asyncio.to_thread(self._thread.join, 5)

    def _run(self) -> None:
        try:
            asyncio.run(self._hold())
        except LeaseLostError as error:
            _end(error)
        except Exception as error:
            logger.exception("The Lease cannot be held")
            _end(error)

    async def _hold(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Store(await configuration()) as store:
            lease = Lease(store, self._settings.namespace, self._settings.identity)
            if not await self._unless_stopped(lease.acquire()):
                return
            self._main.call_soon_threadsafe(self._acquired.set_result, lease.transitions)
            await self._unless_stopped(lease.hold())
            await lease.release()

    async def _unless_stopped(self, work: object) -> bool:
        """Whether it came to its end before it was to stop; what it raises is raised."""
        assert self._stop is not None
        assert asyncio.iscoroutine(work)
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            stopping.cancel()
            working.result()
            return True
        working.cancel()
        return False


def _end(error: Exception) -> NoReturn:
    logger.error("%s", error)
    logging.shutdown()
    os._exit(1)
