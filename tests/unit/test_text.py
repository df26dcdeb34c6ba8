from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters.text import (
    format_key,
    format_prefix,
    parse_base64_key,
    parse_endpoint,
    parse_hex_key,
    parse_number,
    parse_prefix,
)
from handfast_tunnel.core.configuration import Prefix
from handfast_tunnel.core.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:51820", Endpoint("192.0.2.1", 51820)),
        ("[2001:db8::1]:1", Endpoint("2001:db8::1", 1)),
        ("[2001:DB8:0:0::1]:1", Endpoint("2001:db8::1", 1)),
        ("[::ffff:192.0.2.1]:65535", Endpoint("192.0.2.1", 65535)),
        ("[fe80::1%7]:2", Endpoint("fe80::1", 2, scope=7)),
        ("[fe80::1%lo]:2", Endpoint("fe80::1", 2, scope=socket.if_nametoindex("lo"))),
    ],
)
def test_endpoint(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "192.0.2.1",
        "192.0.2.1:",
        "192.0.2.1:65536",
        "192.0.2.1:+1",
        "192.0.2.1:1 ",
        "192.0.2.01:1",
        "192.0.2:1",
        "[192.0.2.1]:1",
        "2001:db8::1:1",
        "[2001:db8::1]",
        "[2001:db8::1]1",
        "[2001:db8::1:1",
        "[fe80::1%]:1",
        "[fe80::1%no-such-link]:1",
        "example.org:1",
        "\0:1",
    ],
)
def test_bad_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match=r"endpoint|is not an address and port"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.1.2.3/32", "10.1.2.3/32"),
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("10.1.2.3/0", "0.0.0.0/0"),
        ("2001:db8::1/128", "2001:db8::1/128"),
        ("2001:db8:ffff::1/33", "2001:db8:8000::/33"),
        ("::/0", "::/0"),
    ],
)
def test_prefix_clears_host_bits(text: str, canonical: str) -> None:
    assert format_prefix(parse_prefix(text)) == canonical


@pytest.mark.parametrize(
    "text",
    ["", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "::/129", "::1%lo/128", "x/1", "10/8"],
)
def test_bad_prefix(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        parse_prefix(text)


@given(st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)), st.data())
def test_prefix_survives_its_text(network: bytes, data: st.DataObject) -> None:
    bits = len(network) * 8
    length = data.draw(st.integers(0, bits))
    mask = (2**bits - 1) >> (bits - length) << (bits - length)
    prefix = Prefix((int.from_bytes(network, "big") & mask).to_bytes(len(network), "big"), length)
    assert parse_prefix(format_prefix(prefix)) == prefix


@given(st.binary(min_size=32, max_size=32))
def test_key_survives_its_texts(key: bytes) -> None:
    assert parse_base64_key(format_key(key)) == key
    assert parse_hex_key(key.hex()) == parse_hex_key(key.hex().upper()) == key


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "zz" * 32, " " + "ab" * 31 + "a", "é" * 64])
def test_bad_hex_key_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not 64 hexadecimal digits$"):
        parse_hex_key(text)


@pytest.mark.parametrize("text", ["", "A" * 43, "A" * 44, "A" * 42 + "==", "!" * 43 + "=", "A" * 44 + "="])
def test_bad_base64_key_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"^not a key of 44 base64 characters$"):
        parse_base64_key(text)


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", " 1", "1.0", "٣", "²", "65536", "9" * 5000])
def test_bad_number(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number from 0 to 65535"):
        parse_number(text, 65535)
