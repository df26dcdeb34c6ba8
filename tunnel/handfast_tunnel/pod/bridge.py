"""From the HTTP server's thread to the tunnel's: work is posted to the event loop, and awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ..adapters.event_loop import EventLoop

T = TypeVar("T")


async def run_job(loop: EventLoop, job: Generator[None, None, T]) -> T:
    """Has the event loop do `job` in turns; its result, or what it raised."""
    here = asyncio.get_running_loop()
    answer: asyncio.Future[T] = here.create_future()

    def deliver() -> Iterator[None]:
        try:
            result = yield from job
        except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
            _post(here, _settle, answer, None, error)
        else:
            _post(here, _settle, answer, result, None)

    loop.call_soon_threadsafe(lambda: loop.spawn(deliver()))
    return await answer


async def run(loop: EventLoop, call: Callable[[], T]) -> T:
    """The same for what takes no time."""

    def job() -> Generator[None, None, T]:
        return call()
        yield

    return await run_job(loop, job())


def _post(here: asyncio.AbstractEventLoop, *call: object) -> None:
    """The server may have ended meanwhile."""
    with suppress(RuntimeError):
        here.call_soon_threadsafe(*call)  # type: ignore[arg-type]


def _settle(answer: asyncio.Future[T], result: T, error: Exception | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)
