"""The life of the operator's process."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any, cast

import kopf

from . import calm_toggles, handlers, health
from .holding import Holding
from .leader import Operator
from .settings import Settings
from .store import Store, configuration

logger = logging.getLogger(__name__)


async def run(settings: Settings) -> int:
    """Returns the process's exit code. (One that loses the Lease does not come back here.)"""
    stop = asyncio.Event()
    _listen(stop)
    found = await configuration()
    holding = Holding(settings)
    holding.start()
    try:
        async with Store(found) as store:
            operator = Operator(settings, store, found)
            async with health.served(operator):
                await _lead(operator, holding, stop)
    except Exception:
        logger.exception("The operator ends")
        return 1
    finally:
        await holding.release()
    return 0


def _listen(stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def _lead(operator: Operator, holding: Holding, stop: asyncio.Event) -> None:
    waiting, stopping = asyncio.create_task(holding.acquired()), asyncio.create_task(stop.wait())
    await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not waiting.done():
        waiting.cancel()
        return
    operator.transitions = waiting.result()
    logger.info("Leading, for the %d. time that somebody does", operator.transitions)
    await operator.prepare()
    calm_toggles.install()
    namespaces = operator.settings.watch_namespaces
    registry, finished = handlers.registry(operator), asyncio.Event()

    @kopf.on.startup(registry=registry)
    async def listen_again(**_: Any) -> None:
        # kopf takes the signals when it starts, and would end before anything is finished.
        await asyncio.sleep(0.1)
        _listen(stop)

    finishing = asyncio.create_task(_finish(operator, stop, finished))
    await kopf.operator(
        registry=registry,
        standalone=True,
        # Else kopf asks for the user's name, and this one has none.
        identity=cast(Any, operator.settings.identity),
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=finished,
    )
    finishing.cancel()


async def _finish(operator: Operator, stop: asyncio.Event, finished: asyncio.Event) -> None:
    await stop.wait()
    await operator.finish()
    finished.set()
