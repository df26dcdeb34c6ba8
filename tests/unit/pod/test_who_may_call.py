"""The control API's mutual TLS: who may call, and whom the operator calls."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from handfast_tunnel.control import (
    ControlClient,
    ControlError,
    Role,
    TlsFiles,
    sidecar_uri,
)
from handfast_tunnel.control.trust import OPERATOR_URI, client_context
from handfast_tunnel.pod import sites
from tests.lab.certificates import CLIENT, SERVER, Authority

from .calls import Ask, raw
from .conftest import ACTIVE, CONFIGURATION, Pod


def test_the_operator_may(pod: Pod, ask: Ask) -> None:
    status = ask(pod, lambda s: s.status())
    assert status.role is Role.STANDBY
    assert status.pod_uid == "a"
    assert status.generation == 5


def answers(port: int, context: ssl.SSLContext) -> bool:
    """Whether a request is answered at all. (TLS 1.3 refuses a client only after its last message.)"""
    with (
        suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain) as tls,
    ):
        tls.settimeout(10)
        tls.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        return tls.recv(1) != b""
    return False


def test_nobody_without_a_certificate(pod: Pod, operator_tls: TlsFiles) -> None:
    context = client_context(operator_tls, sidecar_uri("default", "office"))
    assert answers(pod.port, context)
    context = ssl.create_default_context(cafile=str(pod.tls.authority))
    context.check_hostname = False
    assert not answers(pod.port, context)


def test_nobody_in_plain(pod: Pod) -> None:
    with socket.create_connection(("127.0.0.1", pod.port)) as plain:
        plain.settimeout(10)
        plain.sendall(b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)


def test_no_older_tls(pod: Pod, operator_tls: TlsFiles) -> None:
    context = client_context(operator_tls, sidecar_uri("default", "office"))
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", pod.port)) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain)


def test_nobody_of_another_authority(pod: Pod, tmp_path: Path) -> None:
    strangers = Authority().operator(tmp_path / "stranger")
    strangers.authority.write_bytes(pod.tls.authority.read_bytes())
    with pytest.raises(aiohttp.ClientError):
        raw(pod, strangers, "GET", "/v1/status")


@pytest.mark.parametrize(
    ("uris", "purposes"),
    [
        ([sidecar_uri("default", "office")], [CLIENT]),
        ([OPERATOR_URI, "handfast://other"], [CLIENT]),
        ([], [CLIENT]),
        ([OPERATOR_URI], [CLIENT, SERVER]),
        ([OPERATOR_URI], []),
        ([f"{OPERATOR_URI}/"], [CLIENT]),
    ],
)
def test_nobody_in_another_role(
    pod: Pod, authority: Authority, tmp_path: Path, uris: list[str], purposes: list[Any]
) -> None:
    tls = authority.issue(tmp_path / "other", uris, purposes)
    for method, path in (("GET", "/v1/status"), ("POST", "/v1/drain"), ("GET", "/")):
        status, answer = raw(pod, tls, method, path)
        assert status == 403
        assert "role" in answer["error"]["why"]


def test_a_sidecar_of_the_same_tunnel_cannot_drain(active: Pod) -> None:
    with pytest.raises(aiohttp.ClientError):
        raw(active, active.tls, "POST", "/v1/drain", json={"term": 9})
    assert active.gateway.standing == ACTIVE


def test_the_operator_tells_nothing_to_another_tunnels_pod(pod: Pod, operator_tls: TlsFiles) -> None:
    async def put(tunnel: str) -> None:
        async with ControlClient(
            "127.0.0.1", pod.port, operator_tls, namespace="default", tunnel=tunnel
        ) as sidecar:
            await sidecar.put_config(CONFIGURATION)

    asyncio.run(put("office"))
    with pytest.raises(ControlError, match="not handfast://default/cellar"):
        asyncio.run(put("cellar"))


def test_renewed_certificates_are_used(
    pods: Callable[[str], Pod], ask: Ask, monkeypatch: pytest.MonkeyPatch, operator_tls: TlsFiles
) -> None:
    monkeypatch.setattr(sites, "RELOAD_INTERVAL", 0.05)
    pod = pods("a").start()
    ask(pod, lambda s: s.status())
    authority = Authority()
    authority.sidecar(pod.tls.certificate.parent)
    authority.operator(operator_tls.certificate.parent)
    deadline = time.monotonic() + 10
    while True:
        try:
            ask(pod, lambda s: s.status())
            return
        except ControlError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
