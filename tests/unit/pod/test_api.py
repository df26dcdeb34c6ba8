"""The control API over real mutual TLS: who may call, what is refused, and what nobody sees half done."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
import ssl
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handfast_tunnel.adapters.text import parse_base64_key
from handfast_tunnel.control import (
    Configuration,
    ControlClient,
    ControlError,
    Export,
    Patch,
    PeerSpec,
    Refused,
    Role,
    TlsFiles,
    sidecar_uri,
)
from handfast_tunnel.control.export import Handover
from handfast_tunnel.control.fields import SIZE_LIMIT
from handfast_tunnel.control.roles import Standing
from handfast_tunnel.control.trust import OPERATOR_URI, client_context
from handfast_tunnel.pod import api, sites
from handfast_tunnel.pod.surroundings import SurroundingsError
from tests.lab.certificates import CLIENT, SERVER, Authority

from .conftest import CONFIGURATION, PRIVATE, SPEC, Pod, key

Ask = Callable[[Pod, Callable[[ControlClient], Awaitable[Any]]], Any]

ACTIVE = Standing(Role.ACTIVE, 3, 3)
STANDBY = Standing(Role.STANDBY, 3, 3)


@pytest.fixture
def active(pods: Callable[[str], Pod]) -> Pod:
    return pods("a").start(standing=ACTIVE)


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


# --- who may call -----------------------------------------------------------------------------------


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


# --- configuration ----------------------------------------------------------------------------------


def newer(**changes: Any) -> Configuration:
    return replace(CONFIGURATION, generation=6, **changes)


def with_peers(*numbers: int) -> Configuration:
    peers = [PeerSpec(key(n), None, (f"10.8.0.{n}/32",)) for n in numbers]
    return Configuration.of(6, SPEC, peers)


def peers_of(pod: Pod) -> set[int]:
    return {int.from_bytes(public_key, "big") for public_key in pod.tunnel.device.peers}


def test_a_newer_configuration_is_in_force_and_stored_before_the_answer(active: Pod, ask: Ask) -> None:
    status = ask(active, lambda s: s.put_config(with_peers(3, 7), term=3))
    assert status.generation == 6
    assert peers_of(active) == {3, 7}
    assert active.accepted.load_configuration() == with_peers(3, 7)
    assert ask(active, lambda s: s.put_config(with_peers(3, 7), term=3)).generation == 6


def test_an_older_one_is_refused(active: Pod, ask: Ask) -> None:
    assert refused(ask, active, lambda s: s.put_config(CONFIGURATION.at(4))).status == 409
    assert refused(ask, active, lambda s: s.put_config(with_peers(9).at(5))).status == 409
    assert active.gateway.configuration == CONFIGURATION
    assert peers_of(active) == {2, 3, 4}


@pytest.mark.parametrize(
    "change",
    [{"name": "cellar"}, {"namespace": "x"}, {"uid": "x"}, {"interface": "wg1"}, {"private_key": key(77)}],
)
def test_another_tunnels_is_refused(active: Pod, ask: Ask, change: dict[str, str]) -> None:
    answer = refused(ask, active, lambda s: s.put_config(newer(tunnel=replace(SPEC, **change))))  # type: ignore[arg-type]
    assert answer.status == 422
    assert next(iter(change)) in answer.why
    assert active.gateway.configuration == CONFIGURATION


def test_what_the_kernel_refuses_is_taken_back(active: Pod, ask: Ask) -> None:
    active.surroundings.failure = SurroundingsError("the kernel refused 10.9.0.1/24")
    spec = replace(SPEC, addresses=("10.9.0.1/24",))
    answer = refused(ask, active, lambda s: s.put_config(newer(tunnel=spec)))
    assert (answer.status, answer.why) == (422, "the kernel refused 10.9.0.1/24")
    assert active.surroundings.specs == [spec, SPEC]
    assert active.gateway.configuration == CONFIGURATION
    assert active.accepted.load_configuration() is None


def test_what_the_secret_says_comes_by_the_mount_too(
    pods: Callable[[str], Pod], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "FOLLOW_INTERVAL", 0.02)
    pod = pods("a").start(standing=ACTIVE)

    def mount(configuration: Configuration) -> None:
        (pod.mounted / "new").write_bytes(configuration.dump())
        (pod.mounted / "new").replace(pod.mounted / "config.jsonl.gz")

    def wait_for(generation: int) -> None:
        deadline = time.monotonic() + 10
        while ask(pod, lambda s: s.status()).generation != generation:
            assert time.monotonic() < deadline

    mount(with_peers(3, 9))
    wait_for(6)
    assert peers_of(pod) == {3, 9}
    assert pod.accepted.load_configuration() == with_peers(3, 9)
    mount(with_peers(3).at(4))
    mount(replace(with_peers(3).at(7), tunnel=replace(SPEC, uid="another")))
    mount(with_peers(8).at(8))
    wait_for(8)
    assert peers_of(pod) == {8}
    mount(with_peers(3).at(7))
    time.sleep(0.2)
    assert pod.gateway.configuration == with_peers(8).at(8), "an older one is late, not new"


def test_peers_by_difference(active: Pod, ask: Ask) -> None:
    patch = Patch(6, 5, (PeerSpec(key(9), None, ("10.8.0.9/32",)),), (key(2),))
    status = ask(active, lambda s: s.patch_peers(patch))
    assert status.generation == 6
    assert peers_of(active) == {3, 4, 9}
    assert active.accepted.load_configuration() == CONFIGURATION.patched(patch)
    assert ask(active, lambda s: s.patch_peers(patch)).generation == 6, "its answer may have been lost"


def test_a_difference_to_something_else_is_refused(active: Pod, ask: Ask) -> None:
    patch = Patch(8, 7, (PeerSpec(key(9)),))
    answer = refused(ask, active, lambda s: s.patch_peers(patch))
    assert answer.status == 409
    assert "generation 5" in answer.why
    other = Patch(5, 4, (PeerSpec(key(9)),))
    assert refused(ask, active, lambda s: s.patch_peers(other)).status == 409


def test_a_peer_that_roamed_stays_where_it_is(active: Pod, ask: Ask) -> None:
    peer = active.tunnel.device.peers[parse_base64_key(key(2))]
    assert str(peer.endpoint) == "192.0.2.2:7"
    assert peer.endpoint is not None
    peer.endpoint = peer.endpoint._replace(host="198.51.100.9")
    ask(active, lambda s: s.put_config(CONFIGURATION.at(6)))
    assert str(peer.endpoint) == "198.51.100.9:7"
    changed = replace(CONFIGURATION.peers[key(2)], endpoint="192.0.2.77:7")
    ask(active, lambda s: s.patch_peers(Patch(7, 6, (changed,))))
    assert str(peer.endpoint) == "192.0.2.77:7"


def test_a_higher_term_displaces(active: Pod, ask: Ask) -> None:
    status = ask(active, lambda s: s.put_config(CONFIGURATION, term=4))
    assert (status.role, status.term) == (Role.STANDBY, 4)
    assert active.tunnel.device.frozen
    assert refused(ask, active, lambda s: s.put_config(with_peers(3), term=3)).status == 409


# --- roles ------------------------------------------------------------------------------------------


def drain(
    term: int = 4, generation: int = 5, successor: str = "b"
) -> Callable[[ControlClient], Awaitable[Any]]:
    return lambda s: s.drain(term=term, generation=generation, successor_uid=successor)


def test_drain_freezes_and_exports(active: Pod, ask: Ask) -> None:
    export = ask(active, drain())
    assert active.tunnel.device.frozen
    handover = export.open(parse_base64_key(PRIVATE), SPEC.uid)
    assert (handover.source, handover.successor, handover.term, handover.generation) == ("a", "b", 4, 5)
    assert [peer.endpoint for peer in handover.peers] == [f"192.0.2.{n}:7" for n in (2, 3, 4)]
    status = ask(active, lambda s: s.status())
    assert (status.role, status.term, status.heard) == (Role.DRAINING, 3, 4)
    assert status.draining.successor_uid == "b"
    assert 0 < status.draining.seconds_left <= 5
    assert ask(active, drain()) == export, "the same call, the same answer"


def test_no_export_holds_a_secret(active: Pod, ask: Ask) -> None:
    body = gzip.decompress(ask(active, drain()).body)
    assert PRIVATE.encode() not in body
    assert b64decode(PRIVATE).hex().encode() not in body


def test_it_thaws_by_itself(active: Pod, ask: Ask) -> None:
    ask(active, lambda s: s.drain(term=4, generation=5, successor_uid="b", seconds=0.2))
    deadline = time.monotonic() + 5
    while ask(active, lambda s: s.status()).role is not Role.ACTIVE:
        assert time.monotonic() < deadline
    assert not active.tunnel.device.frozen
    assert ask(active, lambda s: s.status()).term == 3
    assert active.gateway.handovers == {"timeout": 1}


def test_thaw(active: Pod, ask: Ask) -> None:
    ask(active, drain())
    assert ask(active, lambda s: s.thaw(term=4)).role is Role.ACTIVE
    assert not active.tunnel.device.frozen
    assert refused(ask, active, drain()).status == 409
    ask(active, drain(term=5))


def test_commit_is_for_ever(active: Pod, ask: Ask) -> None:
    ask(active, drain())
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert refused(ask, active, lambda s: s.activate(term=9, generation=5)).status == 410
    assert refused(ask, active, drain(term=9)).status == 410
    active.stop()
    active.start()
    assert ask(active, lambda s: s.status()).role is Role.COMMITTED, "the next container knows it"
    assert active.tunnel.device.frozen
    assert active.tunnel.device.committed


def test_a_whole_handover(active: Pod, ask: Ask, pods: Callable[[str], Pod]) -> None:
    new = pods("b").start(standing=STANDBY)
    export = ask(active, drain())
    status = ask(new, lambda s: s.activate(term=4, generation=5, export=export))
    assert (status.role, status.term) == (Role.ACTIVE, 4)
    assert not new.tunnel.device.frozen
    assert ask(new, lambda s: s.activate(term=4, generation=5, export=export)).role is Role.ACTIVE
    assert ask(active, lambda s: s.commit(term=4)).role is Role.COMMITTED
    assert refused(ask, new, lambda s: s.activate(term=4, generation=5)).status == 409
    assert new.accepted.load_standing(SPEC.uid) == new.gateway.standing


def sealed(**changes: Any) -> Export:
    handover = Handover("a", "b", 4, 5, time.time())
    return Export.seal(replace(handover, **changes), parse_base64_key(PRIVATE), SPEC.uid)


def forged() -> Export:
    return Export.seal(Handover("a", "b", 4, 5, time.time()), bytes(32), SPEC.uid)


def bent() -> Export:
    good = sealed()
    return replace(good, body=good.body[:-1] + bytes([good.body[-1] ^ 1]))


@pytest.mark.parametrize(
    ("export", "why"),
    [
        (forged, "not made by a pod of this tunnel"),
        (bent, "not made by a pod of this tunnel"),
        (
            lambda: Export.seal(Handover("a", "b", 4, 5, time.time()), parse_base64_key(PRIVATE), "x"),
            "not made",
        ),
        (lambda: sealed(successor="c"), "for another pod"),
        (lambda: sealed(source="b"), "this pod's own"),
        (lambda: sealed(term=3), "of term 3"),
        (lambda: sealed(created=time.time() - 31), "not younger"),
        (lambda: sealed(created=time.time() + 31), "not younger"),
    ],
)
def test_an_export_that_is_not_for_this_is_refused(
    pods: Callable[[str], Pod], ask: Ask, export: Callable[[], Export], why: str
) -> None:
    new = pods("b").start(standing=STANDBY)
    answer = refused(ask, new, lambda s: s.activate(term=4, generation=5, export=export()))
    assert answer.status == 409
    assert why in answer.why
    assert new.gateway.standing == STANDBY
    assert new.tunnel.device.frozen
    assert ask(new, lambda s: s.activate(term=4, generation=5, export=sealed())).role is Role.ACTIVE


def test_an_export_is_taken_once(pods: Callable[[str], Pod], ask: Ask) -> None:
    new = pods("b").start(standing=STANDBY)
    export = sealed()
    ask(new, lambda s: s.activate(term=4, generation=5, export=export))
    ask(new, lambda s: s.put_config(CONFIGURATION, term=6))
    for term in (4, 7):
        answer = refused(ask, new, lambda s: s.activate(term=term, generation=5, export=export))  # noqa: B023
        assert answer.status == 409


def test_only_a_standby_takes_one(pods: Callable[[str], Pod], ask: Ask) -> None:
    new = pods("b").start(standing=ACTIVE)
    answer = refused(ask, new, lambda s: s.activate(term=4, generation=5, export=sealed()))
    assert "only a standby" in answer.why


def test_activation_needs_the_configuration(pod: Pod, ask: Ask) -> None:
    assert "PUT" in refused(ask, pod, lambda s: s.activate(term=4, generation=6)).remedy
    assert refused(ask, pod, lambda s: s.activate(term=4, generation=4)).status == 409
    assert pod.tunnel.device.frozen


def test_stamps_begin_above_what_others_may_have_sent(pod: Pod, ask: Ask) -> None:
    ceiling = "QAAAAHD////AAAAA"  # some decades ahead
    assert ask(pod, lambda s: s.status()).outbound_stamp is None
    status = ask(pod, lambda s: s.activate(term=4, generation=5, outbound_timestamp_ceiling=ceiling))
    assert status.outbound_stamp >= ceiling[:10]
    pod.stop()
    pod.start()
    assert pod.tunnel.device.highest_stamp >= pod.gateway.standing.stamp_floor > 0


# --- handshakes -------------------------------------------------------------------------------------


def test_handshake(active: Pod, ask: Ask) -> None:
    assert ask(active, lambda s: s.handshake()) == 3
    assert ask(active, lambda s: s.handshake([key(2)])) == 1
    assert refused(ask, active, lambda s: s.handshake([key(99)])).status == 404
    assert refused(ask, active, lambda s: s.handshake(["x"])).status == 422
    assert active.tunnel.handshakes == [None, [parse_base64_key(key(2))]]


# --- what is no call --------------------------------------------------------------------------------

CALLS = [
    ("PUT", "/v1/config"),
    ("PATCH", "/v1/peers"),
    ("POST", "/v1/drain"),
    ("POST", "/v1/activate"),
    ("POST", "/v1/commit"),
    ("POST", "/v1/thaw"),
    ("POST", "/v1/handshake"),
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
