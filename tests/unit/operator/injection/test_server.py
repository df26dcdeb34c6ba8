"""The server over TLS, as the API server sees it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import aiohttp
import pytest

from handfast_operator import certificates
from handfast_operator.injection import certificate, server
from handfast_operator.injection.server import Injector, serve

from .pods import SETTINGS, pod, reader, review

NOW = time.time()
HOST = "localhost"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Renewed:
    """A certificate that is another one whenever a test says so."""

    authority: certificates.Credentials
    wanted: int = 1
    loaded: int = 0
    expiry: float | None = None

    async def look(self, context: ssl.SSLContext) -> float:
        if not self.wanted:
            raise LookupError("not yet")
        if self.loaded != self.wanted:
            leaf = certificates.webhook_leaf(self.authority, [HOST, f"n{self.wanted}"], NOW)
            certificate.load(context, leaf)
            self.loaded, self.expiry = self.wanted, certificates.expiry(leaf.certificate)
        return 0.02


class Bench:
    def __init__(self, wanted: int = 1) -> None:
        self.certificate = Renewed(certificates.make_authority(NOW), wanted)
        self.settings = replace(SETTINGS, injector_port=free_port(), metrics_port=free_port())
        self.injector = Injector(reader(), self.settings, self.certificate)
        self.stop = asyncio.Event()
        self.trust = ssl.create_default_context(cadata=self.certificate.authority.certificate)

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.settings.injector_port}"

    @asynccontextmanager
    async def running(self, leaving: float = 0) -> AsyncIterator[aiohttp.ClientSession]:
        task = asyncio.create_task(
            serve(self.injector, self.settings, self.certificate, self.stop, leaving=leaving)
        )
        connector = aiohttp.TCPConnector(ssl=self.trust, force_close=True)
        try:
            async with aiohttp.ClientSession(connector=connector) as client:
                yield client
        finally:
            self.stop.set()
            await asyncio.wait_for(task, 5)

    async def answers(self, client: aiohttp.ClientSession) -> bool:
        try:
            async with client.get(f"{self.url}/healthz") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    async def wait(self, client: aiohttp.ClientSession) -> None:
        async with asyncio.timeout(10):
            while not await self.answers(client):  # noqa: ASYNC110  it is asked over a socket
                await asyncio.sleep(0.02)

    async def names(self) -> tuple[str, ...]:
        """Of the certificate that a new connection is shown."""
        _, writer = await asyncio.open_connection(HOST, self.settings.injector_port, ssl=self.trust)
        peer: Any = writer.get_extra_info("peercert")
        writer.close()
        await writer.wait_closed()
        return tuple(value for _, value in peer["subjectAltName"])


def test_it_answers_reviews() -> None:
    async def scene() -> None:
        bench = Bench()
        async with bench.running() as client:
            await bench.wait(client)
            async with client.post(f"{bench.url}/inject", json=review(pod())) as response:
                answer = await response.json()
            assert answer["response"]["allowed"]
            async with client.post(f"{bench.url}/inject", json=review(pod(hostNetwork=True))) as response:
                assert not (await response.json())["response"]["allowed"]
            async with client.post(f"{bench.url}/inject", data=b"{") as response:
                assert response.status == 400
            figures = f"http://127.0.0.1:{bench.settings.metrics_port}/metrics"
            async with client.get(figures) as response:
                text = await response.text()
        for result in ("injected", "refused", "unreadable"):
            assert f'handfast_injector_answers_total{{result="{result}"}} 1' in text
        assert "handfast_injector_certificate_expiry_timestamp_seconds" in text

    asyncio.run(scene())


def test_whoever_asks_too_much_or_too_slowly_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody in the cluster may ask."""
    monkeypatch.setattr(server, "READ_SECONDS", 0.2)

    async def slowly() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1)

    async def scene() -> None:
        bench = Bench()
        async with bench.running() as client:
            await bench.wait(client)
            url = f"{bench.url}/inject"
            async with client.post(url, data=BytesIO(b"{}," * (2**20 + 1))) as response:
                assert response.status == 413
            async with client.post(url, data=slowly()) as response:
                assert response.status == 408
            async with client.post(url, json=review(pod())) as response:
                assert (await response.json())["response"]["allowed"]

    asyncio.run(scene())


def test_a_renewed_certificate_is_shown_without_a_restart() -> None:
    async def scene() -> None:
        bench = Bench()
        async with bench.running() as client:
            await bench.wait(client)
            assert await bench.names() == (HOST, "n1")
            bench.certificate.wanted = 2
            async with asyncio.timeout(10):
                while await bench.names() != (HOST, "n2"):  # noqa: ASYNC110  as above
                    await asyncio.sleep(0.02)

    asyncio.run(scene())


def test_nothing_listens_before_there_is_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready means: the API server can ask, and trusts the answer."""
    monkeypatch.setattr(server, "RETRY_SECONDS", 0.02)

    async def scene() -> None:
        bench = Bench(wanted=0)
        async with bench.running() as client:
            await asyncio.sleep(0.2)
            assert not await bench.answers(client)
            bench.certificate.wanted = 1
            await bench.wait(client)

    asyncio.run(scene())


def test_one_that_ends_answers_a_while() -> None:
    """The API server hears later than it that it is to end."""

    async def scene() -> None:
        bench = Bench()
        async with bench.running(leaving=1) as client:
            await bench.wait(client)
            bench.stop.set()
            await asyncio.sleep(0.1)
            assert await bench.answers(client)

    asyncio.run(scene())


def test_one_that_is_stopped_before_it_began_ends() -> None:
    async def scene() -> None:
        bench = Bench(wanted=0)
        async with bench.running():
            bench.stop.set()

    asyncio.run(scene())
