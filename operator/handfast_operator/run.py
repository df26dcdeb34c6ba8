"""The life of the operator's process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from typing import Any, cast

import kopf

from . import handlers, health
from .leader import Operator
from .lease import LeaseLostError
from .settings import Settings
from .store import Store, configuration

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> int:
    """Returns the process's exit code: 1 where it lost the Lease, or could not go on."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    found = await configuration()
    async with Store(found) as store:
        operator = Operator(settings, store, found)
        async with health.served(operator):
            return await _lead(operator, stop)


async def _lead(operator: Operator, stop: asyncio.Event) -> int:
    async with _until(stop, operator.lease.acquire()) as acquired:
        if not acquired:
            return 0
    logger.info("Leading, for the %d. time that somebody does", operator.lease.transitions)
    holding = asyncio.create_task(operator.lease.hold())
    working = asyncio.create_task(_work(operator, stop))
    done, _ = await asyncio.wait({holding, working}, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    failed = 0
    for task in done:
        if (error := task.exception()) is not None:
            logger.error("%s", error, exc_info=None if isinstance(error, LeaseLostError) else error)
            failed = 1
    if holding in done:
        # Another one may lead by now: nothing may be called any more.
        working.cancel()
    else:
        holding.cancel()
        await operator.lease.release()
    await asyncio.gather(holding, working, return_exceptions=True)
    return failed


async def _work(operator: Operator, stop: asyncio.Event) -> None:
    await operator.prepare()
    namespaces = operator.settings.watch_namespaces
    await kopf.operator(
        registry=handlers.registry(operator),
        standalone=True,
        # Else kopf asks for the user's name, and this one has none.
        identity=cast(Any, operator.settings.identity),
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )


@contextlib.asynccontextmanager
async def _until(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> Any:
    """Whether `work` was done before `stop` was set."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        if not task.done():
            task.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    if working.done() and not working.cancelled():
        working.result()
        yield True
    else:
        yield False
