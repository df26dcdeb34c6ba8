from __future__ import annotations

import errno
from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters import uapi
from handfast_tunnel.adapters.text import parse_prefix
from handfast_tunnel.adapters.uapi import SetParser, format_get, format_status
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.errors import ConfigurationError

ONE = "b85996fecc9c7f1fc6d2572a76eda11d59bcd20be8e543b15ce4bd85a8e75a33"
TWO = "58402e695ba1772b1cc9309755f043251ea77fdcf10fbe63989ceb7e19321376"
THREE = "662e14fd594556f522604703340351258903b64f35553763f19426ab2a515c58"
PRIVATE = "e84b5a6d2717c1003a13b431570353dbaca9146cf150c5f8575680feba52027a"
SHARED = "188515093e952f5f22e865cef3012e72f8b5f0b598ac0309d5dacce3b70fcf52"

EXAMPLE = f"""private_key={PRIVATE}
fwmark=0
listen_port=12912
replace_peers=true
public_key={ONE}
preshared_key={SHARED}
replace_allowed_ips=true
allowed_ip=192.168.4.4/32
endpoint=[abcd:23::33%2]:51820
public_key={TWO}
replace_allowed_ips=true
allowed_ip=192.168.4.6/32
persistent_keepalive_interval=111
endpoint=182.122.22.19:3233
public_key={THREE}
remove=true

"""
"""The shape of the example of the protocol's own page."""

EXAMPLE_CHANGE = InterfaceChange(
    private_key=bytes.fromhex(PRIVATE),
    fwmark=0,
    listen_port=12912,
    replace_peers=True,
    peers=(
        PeerChange(
            bytes.fromhex(ONE),
            preshared_key=bytes.fromhex(SHARED),
            replace_allowed_ips=True,
            allowed_ips=(parse_prefix("192.168.4.4/32"),),
            endpoint=Endpoint("abcd:23::33", 51820, scope=2),
        ),
        PeerChange(
            bytes.fromhex(TWO),
            replace_allowed_ips=True,
            allowed_ips=(parse_prefix("192.168.4.6/32"),),
            persistent_keepalive=111,
            endpoint=Endpoint("182.122.22.19", 3233),
        ),
        PeerChange(bytes.fromhex(THREE), remove=True),
    ),
)


def parse(text: str) -> InterfaceChange:
    parser = SetParser()
    parser.feed(text.encode() + b"\n")
    assert parser.finished
    return parser.result()


def peer(*lines: str) -> PeerChange:
    return parse("".join(f"{line}\n" for line in (f"public_key={ONE}", *lines))).peers[0]


def refusal(text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        parse(text)
    return caught.value


def test_example_of_the_protocol() -> None:
    parser = SetParser()
    parser.feed(EXAMPLE.encode())
    assert parser.result() == EXAMPLE_CHANGE


@given(st.lists(st.integers(0, len(EXAMPLE) - 1), max_size=20))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    parser = SetParser()
    bounds = [0, *sorted(cuts), len(EXAMPLE)]
    for start, end in pairwise(bounds):
        assert not parser.finished
        parser.feed(EXAMPLE[start:end].encode())
    assert parser.finished
    assert parser.result() == EXAMPLE_CHANGE


def test_what_follows_the_blank_line_is_the_next_operation() -> None:
    parser = SetParser()
    parser.feed(b"fwmark=1\n\nget=1\n\nse")
    assert parser.finished
    assert parser.remainder == b"get=1\n\nse"
    assert parser.result() == InterfaceChange(fwmark=1)


def test_empty_set() -> None:
    assert parse("") == InterfaceChange()


@pytest.mark.parametrize("text", ["true", "false"])
def test_drain(text: str) -> None:
    assert parse(f"drain={text}\n") == InterfaceChange(drain=text == "true")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("update_only=true", {"update_only": True}),
        ("remove=true", {"remove": True}),
        (f"preshared_key={SHARED.upper()}", {"preshared_key": bytes.fromhex(SHARED)}),
        ("persistent_keepalive_interval=0", {"persistent_keepalive": 0}),
        ("persistent_keepalive_interval=65535", {"persistent_keepalive": 65535}),
        ("endpoint=[::ffff:192.0.2.1]:7", {"endpoint": Endpoint("192.0.2.1", 7)}),
        ("protocol_version=1", {}),
        ("allowed_ip=-10.0.0.9/8", {"removed_allowed_ips": (parse_prefix("10.0.0.0/8"),)}),
    ],
)
def test_peer_key(line: str, expected: dict[str, Any]) -> None:
    assert peer(line) == PeerChange(bytes.fromhex(ONE), **expected)


@pytest.mark.parametrize(
    ("lines", "allowed", "removed", "replace"),
    [
        (
            ["allowed_ip=10.0.0.1/32", "replace_allowed_ips=true", "allowed_ip=10.0.0.2/32"],
            ["10.0.0.2/32"],
            [],
            True,
        ),
        (["allowed_ip=10.0.0.1/32", "allowed_ip=-10.0.0.1/32"], [], ["10.0.0.1/32"], False),
        (["allowed_ip=-10.0.0.1/32", "allowed_ip=10.0.0.1/32"], ["10.0.0.1/32"], [], False),
        (["allowed_ip=10.0.0.1/32", "allowed_ip=10.0.0.1/32"], ["10.0.0.1/32"], [], False),
    ],
)
def test_lines_of_a_peer_act_in_their_order(
    lines: list[str], allowed: list[str], removed: list[str], replace: bool
) -> None:
    change = peer(*lines)
    assert change.allowed_ips == tuple(map(parse_prefix, allowed))
    assert change.removed_allowed_ips == tuple(map(parse_prefix, removed))
    assert change.replace_allowed_ips is replace


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("private_key=12", errno.EINVAL),
        ("listen_port=65536", errno.EINVAL),
        ("listen_port=", errno.EINVAL),
        ("fwmark=4294967296", errno.EINVAL),
        ("fwmark=0x1", errno.EINVAL),
        ("replace_peers=false", errno.EINVAL),
        ("drain=1", errno.EINVAL),
        ("endpoint=192.0.2.1:1", errno.EINVAL),
        ("unheard_of=1", errno.EINVAL),
        ("listen_port", errno.EPROTO),
        ("public_key=12", errno.EINVAL),
    ],
)
def test_bad_line_of_the_interface(line: str, code: int) -> None:
    error = refusal(f"fwmark=7\n{line}\nlisten_port=1\n")
    assert error.code == code
    assert "the interface" in str(error)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("preshared_key=12", errno.EINVAL),
        ("endpoint=example.org:1", errno.EINVAL),
        ("persistent_keepalive_interval=65536", errno.EINVAL),
        ("allowed_ip=10.0.0.1", errno.EINVAL),
        ("allowed_ip=--10.0.0.1/32", errno.EINVAL),
        ("remove=false", errno.EINVAL),
        ("update_only=1", errno.EINVAL),
        ("replace_allowed_ips=", errno.EINVAL),
        ("protocol_version=2", errno.EINVAL),
        ("listen_port=1", errno.EINVAL),
        ("drain=true", errno.EINVAL),
        ("remove", errno.EPROTO),
    ],
)
def test_bad_line_of_a_peer_names_the_peer(line: str, code: int) -> None:
    error = refusal(f"public_key={ONE}\n{line}\n")
    assert error.code == code
    assert "peer uFmW/sycfx/G0lcqdu2hHVm80gvo5UOxXOS9hajnWjM=" in str(error)


def test_the_first_mistake_is_told_and_the_rest_is_skipped_up_to_the_blank_line() -> None:
    parser = SetParser()
    parser.feed(b"listen_port=x\nfwmark=y\n")
    assert not parser.finished
    parser.feed(b"neither key nor value\n\nget=1\n\n")
    assert parser.finished
    assert parser.remainder == b"get=1\n\n"
    with pytest.raises(ConfigurationError, match="'x' is not a number"):
        parser.result()


@pytest.mark.parametrize(
    "line", ["private_key=SECRET", "private_key SECRET", "preshared_key=SECRET", "private_key=SECRET\0"]
)
def test_secrets_are_not_repeated(line: str) -> None:
    assert "SECRET" not in str(refusal(f"{line}\n"))
    assert "SECRET" not in str(refusal(f"public_key={ONE}\n{line}\n"))


def test_endless_line() -> None:
    parser = SetParser()
    for _ in range(10):
        parser.feed(b"x" * uapi.LINE_LIMIT)
    parser.feed(b"\n\n")
    with pytest.raises(ConfigurationError) as caught:
        parser.result()
    assert caught.value.code == errno.EIO


def test_endless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uapi, "SET_LIMIT", 1000)
    parser = SetParser()
    for _ in range(20):
        parser.feed(f"public_key={ONE}\n".encode())
    parser.feed(b"\n")
    with pytest.raises(ConfigurationError) as caught:
        parser.result()
    assert caught.value.code == errno.E2BIG


LINES = st.one_of(
    st.sampled_from(EXAMPLE.splitlines()),
    st.builds(
        "{}={}".format,
        st.sampled_from(["endpoint", "allowed_ip", "listen_port", "private_key", "public_key", "drain"]),
        st.text(max_size=70),
    ),
    st.text(max_size=20),
)


@given(st.lists(LINES, max_size=30))
def test_whatever_comes_is_a_change_or_a_refusal(lines: list[str]) -> None:
    parser = SetParser()
    parser.feed("\n".join(lines).encode(errors="replace") + b"\n\n")
    assert parser.finished
    with suppress(ConfigurationError):
        parser.result()


def configured(change: InterfaceChange) -> Device:
    device = Device(Settings())
    device.configure(change, now=100.0)
    return device


def test_get_has_the_keys_and_the_order_of_wireguard_go() -> None:
    device = configured(
        InterfaceChange(
            private_key=bytes.fromhex(PRIVATE),
            listen_port=12912,
            fwmark=51,
            peers=(
                PeerChange(
                    bytes.fromhex(ONE),
                    preshared_key=bytes.fromhex(SHARED),
                    endpoint=Endpoint("2001:db8::1", 51820),
                    persistent_keepalive=25,
                    allowed_ips=(parse_prefix("10.0.0.1/32"), parse_prefix("fd00::/64")),
                ),
                PeerChange(bytes.fromhex(TWO)),
            ),
        )
    )
    first = device.peers[bytes.fromhex(ONE)]
    first.last_handshake_wall = 1_700_000_000_000_000_007
    first.sent_bytes, first.received_bytes = 38, 2224
    assert "".join(format_get(device)) == (
        f"private_key={PRIVATE}\n"
        "listen_port=12912\n"
        "fwmark=51\n"
        f"public_key={ONE}\n"
        f"preshared_key={SHARED}\n"
        "protocol_version=1\n"
        "endpoint=[2001:db8::1]:51820\n"
        "last_handshake_time_sec=1700000000\n"
        "last_handshake_time_nsec=7\n"
        "tx_bytes=38\n"
        "rx_bytes=2224\n"
        "persistent_keepalive_interval=25\n"
        "allowed_ip=10.0.0.1/32\n"
        "allowed_ip=fd00::/64\n"
        f"public_key={TWO}\n"
        f"preshared_key={'0' * 64}\n"
        "protocol_version=1\n"
        "last_handshake_time_sec=0\n"
        "last_handshake_time_nsec=0\n"
        "tx_bytes=0\n"
        "rx_bytes=0\n"
        "persistent_keepalive_interval=0\n"
    )


def test_get_of_a_fresh_interface_is_empty() -> None:
    assert "".join(format_get(Device(Settings()))) == ""


def test_get_of_many_peers_comes_in_small_pieces() -> None:
    peers = tuple(PeerChange(number.to_bytes(32, "big")) for number in range(1, 1001))
    pieces = list(format_get(configured(InterfaceChange(peers=peers))))
    assert len(pieces) > 1000 // uapi.PEERS_A_PIECE
    assert "".join(pieces).count("public_key=") == 1000


@pytest.mark.parametrize(("code", "text"), [(0, "errno=0\n\n"), (errno.EINVAL, "errno=-22\n\n")])
def test_status_is_negated_as_wg_expects_of_a_set(code: int, text: str) -> None:
    assert format_status(code) == text
