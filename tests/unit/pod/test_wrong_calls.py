"""What is no call of the control API: garbage, slowness, too much of either."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handfast_tunnel.control import (
    Role,
    TlsFiles,
    sidecar_uri,
)
from handfast_tunnel.control.fields import SIZE_LIMIT
from handfast_tunnel.control.roles import Standing
from handfast_tunnel.control.trust import client_context
from handfast_tunnel.pod import sites

from .calls import Ask, raw, with_peers
from .conftest import ACTIVE, CONFIGURATION, Pod

CALLS = [
    ("PUT", "/v1/config"),
    ("PATCH", "/v1/peers"),
    ("POST", "/v1/drain"),
    ("POST", "/v1/activate"),
    ("POST", "/v1/commit"),
    ("POST", "/v1/thaw"),
    ("POST", "/v1/handshake"),
    ("POST", "/v1/sessions"),
]


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"1", b"\xff\xfe", b"null", b'{"term": 1e400}', b"[" * 5000]
)
def test_garbage_is_refused_with_a_sentence(
    active: Pod, operator_tls: TlsFiles, method: str, path: str, body: bytes
) -> None:
    status, answer = raw(active, operator_tls, method, path, data=body)
    assert status == 422
    assert answer["error"]["why"]
    assert active.gateway.standing == ACTIVE
    assert active.gateway.configuration == CONFIGURATION


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/drain", {"term": 4, "generation": 5, "successorUID": "b", "seconds": 6}),
        ("/v1/drain", {"term": 4, "generation": 5, "successorUID": "b", "seconds": True}),
        ("/v1/drain", {"term": 4, "generation": 5, "successorUID": "b", "x": 1}),
        ("/v1/drain", {"term": "4", "generation": 5, "successorUID": "b"}),
        ("/v1/drain", {"term": 4, "generation": 5}),
        ("/v1/activate", {"term": 4, "generation": 5, "export": {"body": "x", "mac": "y"}}),
        ("/v1/activate", {"term": 4, "generation": 5, "export": []}),
        ("/v1/activate", {"term": 4, "generation": 5, "outboundTimestampCeiling": "x"}),
        ("/v1/commit", {}),
        ("/v1/commit", {"term": -1}),
        ("/v1/commit", {"term": True}),
    ],
)
def test_calls_that_are_not_quite_right(
    active: Pod, operator_tls: TlsFiles, path: str, call: dict[str, Any]
) -> None:
    status, answer = raw(active, operator_tls, "POST", path, json=call)
    assert status == 422, answer
    assert active.gateway.standing == ACTIVE


def test_no_such_call(active: Pod, operator_tls: TlsFiles) -> None:
    assert raw(active, operator_tls, "GET", "/v1/nothing")[0] == 404
    assert raw(active, operator_tls, "GET", "/v1/drain")[0] == 405


@pytest.mark.parametrize("term", ["x", "-1", "1.0", "9" * 30, ""])
def test_a_term_that_is_none(active: Pod, operator_tls: TlsFiles, term: str) -> None:
    body = CONFIGURATION.at(6).dump(compressed=False)
    headers = {"Handfast-Term": term}
    status, _ = raw(active, operator_tls, "PUT", "/v1/config", data=body, headers=headers)
    assert status == 422
    assert active.gateway.configuration == CONFIGURATION


def test_oversized_bodies(active: Pod, operator_tls: TlsFiles) -> None:
    status, _ = raw(active, operator_tls, "PUT", "/v1/config", data=b" " * (SIZE_LIMIT + 1))
    assert status == 413
    status, _ = raw(active, operator_tls, "POST", "/v1/commit", data=b" " * (1 << 21))
    assert status == 413
    bomb = gzip.compress(b" " * (SIZE_LIMIT + 1))
    for headers in ({"Content-Encoding": "gzip"}, {}):
        status, _ = raw(active, operator_tls, "PUT", "/v1/config", data=bomb, headers=headers)
        assert status in {413, 422}
    assert active.gateway.configuration == CONFIGURATION


def test_slow_clients_keep_nobody_waiting(
    active: Pod, operator_tls: TlsFiles, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that says nothing, one that stops in its TLS handshake, and one that stops in its body."""
    monkeypatch.setattr(sites, "BODY_TIME", 1.0)
    context = client_context(operator_tls, sidecar_uri("default", "office"))
    connections = [socket.create_connection(("127.0.0.1", active.port)) for _ in range(3)]
    connections[1].sendall(b"\x16\x03\x01")
    connections[2] = context.wrap_socket(connections[2])
    connections[2].sendall(b"POST /v1/commit HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    began = time.monotonic()
    assert ask(active, lambda s: s.put_config(with_peers(3))).generation == 6
    assert time.monotonic() - began < 1, "it did not wait for the slow ones"
    connections[2].settimeout(10)
    assert b"408" in connections[2].recv(1000)
    for connection in connections:
        connection.close()


def test_too_many_connections_are_turned_away(active: Pod, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites, "CONNECTIONS", 2)
    silent = [socket.create_connection(("127.0.0.1", active.port)) for _ in range(10)]
    for connection in silent:
        connection.close()
    assert ask(active, lambda s: s.status()).role is Role.ACTIVE


@pytest.fixture
def settled(pods: Callable[[str], Pod]) -> Pod:
    """Active, at a term that no guess exceeds."""
    return pods("a").start(standing=Standing(Role.ACTIVE, 2**50, 2**50))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    call=st.sampled_from(CALLS),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "term",
                        "generation",
                        "baseGeneration",
                        "successorUID",
                        "seconds",
                        "export",
                        "accounts",
                        "put",
                        "remove",
                        "peers",
                        "publicKey",
                        "kind",
                        "version",
                        "tunnel",
                        "body",
                        "mac",
                    ]
                ),
                inner,
                max_size=6,
            )
        ),
        max_leaves=12,
    ),
)
def test_fuzzed_bodies(settled: Pod, operator_tls: TlsFiles, call: tuple[str, str], body: Any) -> None:
    """Whatever comes, the answer is JSON and no bug."""
    status, answer = raw(settled, operator_tls, *call, data=json.dumps(body))
    assert status in {200, 404, 409, 410, 422}, answer
    assert status == 200 or answer["error"]["why"]
