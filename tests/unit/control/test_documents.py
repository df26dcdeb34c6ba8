"""Configuration and state documents: what is read, what is refused, and that nothing secret is repeated."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.control import (
    Configuration,
    DocumentError,
    ForwardingSpec,
    MetricsSpec,
    Patch,
    PeerSpec,
    PeerState,
    RecoverySpec,
    State,
    TunnelSpec,
)
from handfast_tunnel.control.fields import SIZE_LIMIT


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


SECRET = base64.b64encode(bytes(range(200, 232))).decode()
SPEC = TunnelSpec(
    namespace="default",
    name="office",
    uid="u-1",
    private_key=SECRET,
    addresses=("10.8.0.1/24", "fd00:8::1/64"),
    interface="wg0",
    listen_port=51820,
    mtu=1380,
    routes=("192.168.7.0/24",),
    forwarding=ForwardingSpec(ipv6=False),
    recovery=RecoverySpec("always", "strict", 100),
    replicas=2,
    metrics=MetricsSpec(per_peer=True, per_peer_limit=9),
    shared_networks=("10.96.0.0/12",),
)
PEER = PeerSpec(key(7), key(8), ("10.8.0.7/32", "fd00:8::7/128"), "[2001:db8::1]:7", 25, "alice-phone")
CONFIGURATION = Configuration.of(4182, SPEC, [PEER, PeerSpec(key(9)), PeerSpec(key(1))])
STATE = State.of(1.7e9, 12, "QAAAAGf///8AAAAA", [PeerState(key(7), "192.0.2.1:7", "QAAAAGf///8AAAAA", 1.7e9)])


@pytest.mark.parametrize("compressed", [True, False])
def test_a_configuration_comes_back_as_it_was(compressed: bool) -> None:
    data = CONFIGURATION.dump(compressed=compressed)
    assert data.startswith(b"\x1f\x8b") == compressed
    assert Configuration.parse(data) == CONFIGURATION
    assert list(CONFIGURATION.peers) == [key(1), key(7), key(9)], "sorted"
    assert CONFIGURATION.dump() == Configuration.parse(data).dump(), "the same bytes"


@pytest.mark.parametrize("compressed", [True, False])
def test_a_state_comes_back_as_it_was(compressed: bool) -> None:
    assert State.parse(STATE.dump(compressed=compressed)) == STATE


def test_what_may_be_left_out() -> None:
    tunnel = {"namespace": "n", "name": "t", "uid": "u", "privateKey": SECRET, "addresses": ["10.0.0.1/24"]}
    head = {"kind": "config", "version": 1, "generation": 1, "tunnel": tunnel}
    parsed = Configuration.parse((json.dumps(head) + "\n" + json.dumps({"publicKey": key(3)})).encode())
    assert parsed == Configuration.of(
        1, TunnelSpec("n", "t", "u", SECRET, ("10.0.0.1/24",)), [PeerSpec(key(3))]
    )


def _head(**changes: Any) -> dict[str, Any]:
    return {"kind": "config", "version": 1, "generation": 1, "tunnel": SPEC.to_json()} | changes


def _tunnel(**changes: Any) -> dict[str, Any]:
    return _head(tunnel=SPEC.to_json() | changes)


def _peer(**changes: Any) -> list[dict[str, Any]]:
    return [_head(), PEER.to_json() | changes]


WRONG: list[tuple[Any, str]] = [
    ([], "config: it is empty"),
    ([[]], "line 1 of the config: it is not a JSON object"),
    ([_head(kind="state")], "kind of line 1 of the config: it is not 'config'"),
    ([_head(version=2)], "version"),
    ([_head(generation=-1)], "generation"),
    ([_head(generation=1.0)], "generation"),
    ([_head(generation=True)], "generation"),
    ([_head(x=1)], "there is no field 'x'"),
    ([_tunnel(x=1)], "there is no field 'x'"),
    ([_tunnel(name=3)], "name of tunnel"),
    ([_tunnel(name="a\nb")], "printable"),
    ([_tunnel(interface="wg 0")], "interface"),
    ([_tunnel(interface="..")], "interface"),
    ([_tunnel(interface='w"; flush')], "interface"),
    ([_tunnel(interface="a" * 16)], "interface"),
    ([_tunnel(listenPort=0)], "listenPort"),
    ([_tunnel(listenPort=65536)], "listenPort"),
    ([_tunnel(addresses=["10.8.0.1"])], "addresses"),
    ([_tunnel(addresses=["10.8.0.1/33"])], "addresses"),
    ([_tunnel(addresses="10.8.0.1/24")], "addresses"),
    ([_tunnel(addresses=[7])], "addresses"),
    ([_tunnel(routes=["10.8.0.1/24"])], "bits behind its /24"),
    ([_tunnel(mtu=100)], "mtu"),
    ([_tunnel(mtu="1420")], "mtu"),
    ([_tunnel(privateKey=SECRET[:-1])], "privateKey"),
    ([_tunnel(privateKey=None)], "privateKey"),
    ([_tunnel(privateKey=SECRET[:-2] + "n=")], "privateKey"),
    ([_tunnel(forwarding={"ipv4": "yes"})], "ipv4 of forwarding of tunnel"),
    ([_tunnel(forwarding=[])], "forwarding"),
    ([_tunnel(recovery={"announce": "Always"})], "announce"),
    ([_tunnel(recovery={"burstPerSecond": 0})], "burstPerSecond"),
    ([_tunnel(metrics={"perPeerLimit": -1})], "perPeerLimit"),
    ([_tunnel(sharedNetworks=["x"])], "sharedNetworks"),
    (_peer(publicKey="x"), "publicKey of line 2"),
    (_peer(presharedKey=SECRET + "="), f"presharedKey of peer {key(7)}"),
    (_peer(allowedIPs=["10.8.0.7"]), "allowedIPs"),
    (_peer(allowedIPs=["10.8.0.7/24"]), "allowedIPs"),
    (_peer(allowedIPs=[None]), "allowedIPs"),
    (_peer(endpoint="host:7"), "endpoint"),
    (_peer(endpoint="192.0.2.1:0"), "endpoint"),
    (_peer(endpoint="192.0.2.256:7"), "endpoint"),
    (_peer(endpoint="2001:db8::1:7"), "endpoint"),
    (_peer(persistentKeepalive=65536), "persistentKeepalive"),
    (_peer(name="a" * 254), "name"),
    (_peer(disabled=True), "there is no field 'disabled'"),
    ([*_peer(), PEER.to_json() | {"allowedIPs": []}], "a public key comes twice"),
    ([*_peer(), {"publicKey": key(9), "allowedIPs": ["10.8.0.7/32"]}], "has 10.8.0.7/32 too"),
]


@pytest.mark.parametrize(("lines", "why"), WRONG)
def test_a_mistake_refuses_all_of_it_and_no_secret_is_repeated(lines: list[Any], why: str) -> None:
    with pytest.raises(DocumentError, match=why) as caught:
        Configuration.parse("\n".join(map(json.dumps, lines)).encode())
    assert SECRET[:20] not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"\x1f\x8b", b"\x1f\x8b" + bytes(100), CONFIGURATION.dump()[:-9], b"\xff", b"{"]
)
def test_what_is_damaged(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Configuration.parse(data)


def test_a_small_document_does_not_become_a_large_one() -> None:
    for data in (gzip.compress(bytes(SIZE_LIMIT + 1)), b" " * (SIZE_LIMIT + 1)):
        with pytest.raises(DocumentError, match="longer than"):
            Configuration.parse(data)


@pytest.mark.parametrize(
    "parse", [Configuration.parse, State.parse, Patch.parse], ids=["configuration", "state", "patch"]
)
@given(data=st.data())
def test_whatever_comes_it_is_read_or_refused(parse: Callable[[bytes], object], data: st.DataObject) -> None:
    patch = json.dumps(Patch(3, 2, (PEER,), (key(9),)).to_json()).encode()
    good = data.draw(
        st.sampled_from([CONFIGURATION.dump(compressed=False), STATE.dump(compressed=False), patch])
    )
    at = data.draw(st.integers(0, len(good)))
    cut = data.draw(st.integers(0, 20))
    piece = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"null", b"[]", b"{}", b"-1", b"1e9", b'""', b"NaN"])
    )
    with suppress(DocumentError):
        parse(good[:at] + piece + good[at + cut :])


# --- differences ------------------------------------------------------------------------------------


def test_a_difference_makes_one_of_the_other() -> None:
    new = Configuration.of(
        4183, SPEC, [replace(PEER, name="alice"), PeerSpec(key(1)), PeerSpec(key(2), None, ("10.8.0.2/32",))]
    )
    patch = Patch.between(CONFIGURATION, new)
    assert {peer.public_key for peer in patch.put} == {key(7), key(2)}
    assert patch.remove == (key(9),)
    assert CONFIGURATION.patched(patch) == new
    assert Patch.parse(json.dumps(patch.to_json()).encode()) == patch


def test_a_difference_that_conflicts_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"has 10\.8\.0\.7/32 too"):
        CONFIGURATION.patched(Patch(4183, 4182, (PeerSpec(key(2), None, ("10.8.0.7/32",)),)))
    taken_over = Patch(4183, 4182, (PeerSpec(key(2), None, ("10.8.0.7/32",)),), (key(7),))
    assert key(2) in CONFIGURATION.patched(taken_over).peers


@pytest.mark.parametrize(
    "fields",
    [
        {"generation": 2, "baseGeneration": 2},
        {"generation": 3},
        {"generation": 3, "baseGeneration": 2, "put": {}},
        {"generation": 3, "baseGeneration": 2, "remove": ["x"]},
        {"generation": 3, "baseGeneration": 2, "remove": [key(1), key(1)]},
        {"generation": 3, "baseGeneration": 2, "remove": [key(7)], "put": [PEER.to_json()]},
        {"generation": 3, "baseGeneration": 2, "x": 1},
    ],
)
def test_what_is_no_difference(fields: dict[str, Any]) -> None:
    with pytest.raises(DocumentError):
        Patch.parse(json.dumps(fields).encode())


def test_a_private_key_is_in_no_repr() -> None:
    assert SECRET not in repr(CONFIGURATION)
    assert key(8) not in repr(CONFIGURATION)


def test_ten_thousand_peers_fit_into_a_secret() -> None:
    peers = [
        PeerSpec(
            base64.b64encode(os.urandom(32)).decode(),
            base64.b64encode(os.urandom(32)).decode(),
            (f"10.8.{n >> 8}.{n & 255}/32",),
            name=f"peer-{n}",
        )
        for n in range(10_000)
    ]
    assert len(Configuration.of(1, SPEC, peers).dump()) < 1_000_000
