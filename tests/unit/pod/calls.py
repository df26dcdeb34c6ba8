"""Calls of a pod's control API, by its client or by hand, and what tests make them with."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from handfast_tunnel.control import (
    Configuration,
    ControlClient,
    PeerSpec,
    Refused,
    TlsFiles,
    sidecar_uri,
)
from handfast_tunnel.control.trust import client_context

from .conftest import CONFIGURATION, SPEC, Pod, key

Ask = Callable[[Pod, Callable[[ControlClient], Awaitable[Any]]], Any]


def refused(ask: Ask, pod: Pod, call: Callable[[ControlClient], Awaitable[Any]]) -> Refused:
    with pytest.raises(Refused) as caught:
        ask(pod, call)
    assert caught.value.why
    return caught.value


def raw(pod: Pod, tls: TlsFiles, method: str, path: str, **request: Any) -> tuple[int, Any]:
    """A call by hand: (status, JSON)."""
    if "data" in request:
        request["data"] = io.BytesIO(
            request["data"].encode() if isinstance(request["data"], str) else request["data"]
        )

    async def call() -> tuple[int, Any]:
        context = client_context(tls, sidecar_uri("default", "office"))
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://127.0.0.1:{pod.port}{path}"
            async with session.request(method, url, **request) as response:
                return response.status, await response.json(content_type=None)

    return asyncio.run(call())


def newer(**changes: Any) -> Configuration:
    return replace(CONFIGURATION, generation=6, **changes)


def with_peers(*numbers: int) -> Configuration:
    peers = [PeerSpec(key(n), None, (f"10.8.0.{n}/32",)) for n in numbers]
    return Configuration.of(6, SPEC, peers)


def peers_of(pod: Pod) -> set[int]:
    return {int.from_bytes(public_key, "big") for public_key in pod.tunnel.device.peers}
