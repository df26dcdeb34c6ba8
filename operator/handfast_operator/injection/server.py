"""`handfast-operator inject`: the HTTPS server that the API server asks about pods with the label."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from ..settings import Settings
from ..store import Store, configuration
from .certificate import Certificate, FolderCertificate, OwnCertificate
from .origin import Reader
from .review import Unreadable, answer, read

PATH: Final = "/inject"
MOST_BYTES: Final = 3 * 2**20
"""Of a review: a pod has at most 1.5 MiB in etcd. Read as JSON it may take 30 times as much."""
READ_AT_ONCE: Final = 8
READ_SECONDS: Final = 3.0
"""Whoever asks, a review is all that is in memory as an object, and few are as bytes."""
RETRY_SECONDS: Final = 2.0
LEAVING_SECONDS: Final = 5.0
"""An injector that ends answers for so long: until then the API server may still come to it."""

logger = logging.getLogger(__name__)


class Injector:
    """Counts what it answers."""

    def __init__(self, reader: Reader, settings: Settings, certificate: Certificate) -> None:
        self._reader = reader
        self._settings = settings
        self._certificate = certificate
        self._reading = asyncio.Semaphore(READ_AT_ONCE)
        self._reviewing = asyncio.Lock()
        self.answers: Counter[str] = Counter({"injected": 0, "unchanged": 0, "refused": 0, "unreadable": 0})

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post(PATH, self._inject)
        app.router.add_get("/healthz", self._alive)
        return app

    def figures(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _alive(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _inject(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(READ_SECONDS), self._reading:
                text = await request.read()
            async with self._reviewing:
                reviewed = await answer(read(text), self._reader, self._settings)
        except TimeoutError:
            self.answers["unreadable"] += 1
            return web.Response(status=408, text=f"it was not read within {READ_SECONDS:g} s\n")
        except Unreadable as error:
            self.answers["unreadable"] += 1
            return web.Response(status=400, text=f"{error}\n")
        response = reviewed["response"]
        outcome = "injected" if "patch" in response else "unchanged" if response["allowed"] else "refused"
        self.answers[outcome] += 1
        return web.json_response(reviewed)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.render(), content_type="text/plain")

    def render(self) -> str:
        """In the form that Prometheus reads."""
        lines = [
            "# HELP handfast_injector_answers_total Pods that the API server has asked about, by the answer.",
            "# TYPE handfast_injector_answers_total counter",
            *(
                f'handfast_injector_answers_total{{result="{result}"}} {count}'
                for result, count in self.answers.items()
            ),
        ]
        if self._certificate.expiry is not None:
            name = "handfast_injector_certificate_expiry_timestamp_seconds"
            lines += [
                f"# HELP {name} When the certificate ends, in Unix time.",
                f"# TYPE {name} gauge",
                f"{name} {self._certificate.expiry:.0f}",
            ]
        return "\n".join([*lines, ""])


async def run(settings: Settings) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Store(await configuration()) as store:
        certificate = certificate_of(settings, store)
        await serve(Injector(store, settings, certificate), settings, certificate, stop)
    return 0


def certificate_of(settings: Settings, store: Store) -> Certificate:
    if settings.injector_tls:
        return FolderCertificate(Path(settings.injector_tls))
    return OwnCertificate(store, settings.namespace, settings.injector)


async def serve(
    injector: Injector,
    settings: Settings,
    certificate: Certificate,
    stop: asyncio.Event,
    leaving: float = LEAVING_SECONDS,
) -> None:
    """Until it is to stop. Nothing listens before there is a certificate that the API server trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    ready = asyncio.Event()
    keeping = asyncio.create_task(_keep(certificate, context, ready.set))
    runners = [web.AppRunner(each, access_log=None) for each in (injector.figures(), injector.application())]
    for runner in runners:
        await runner.setup()
    try:
        await web.TCPSite(runners[0], None, settings.metrics_port).start()
        if await _first(ready, stop):
            await web.TCPSite(runners[1], None, settings.injector_port, ssl_context=context).start()
            logger.info("Answers at port %d", settings.injector_port)
            await stop.wait()
            await asyncio.sleep(leaving)
    finally:
        keeping.cancel()
        for runner in runners:
            await runner.cleanup()


async def _first(ready: asyncio.Event, stop: asyncio.Event) -> bool:
    """Whether it is ready before it is to stop."""
    waiting = [asyncio.create_task(each.wait()) for each in (ready, stop)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return ready.is_set()


async def _keep(certificate: Certificate, context: ssl.SSLContext, ready: Callable[[], Any]) -> None:
    while True:
        try:
            again = await certificate.look(context)
        except Exception as error:  # noqa: BLE001
            # What was loaded goes on; it is renewed long before its end.
            logger.warning("The certificate: %s", str(error) or type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if again:
            ready()
        await asyncio.sleep(again or RETRY_SECONDS / 10)
