from __future__ import annotations

import pytest

from handfast_tunnel.core.endpoint import Endpoint

V4 = Endpoint("192.0.2.7", 51820)
V6 = Endpoint("2001:db8::7", 51820)
LINK_LOCAL = Endpoint("fe80::7", 51820, scope=3)


@pytest.mark.parametrize(
    ("endpoint", "text"),
    [(V4, "192.0.2.7:51820"), (V6, "[2001:db8::7]:51820"), (LINK_LOCAL, "[fe80::7%3]:51820")],
)
def test_text_is_what_wg_shows(endpoint: Endpoint, text: str) -> None:
    assert str(endpoint) == text


@pytest.mark.parametrize(
    ("endpoint", "packed"),
    [
        (V4, bytes.fromhex("c0000207 ca6c")),
        (V6, bytes.fromhex("20010db8000000000000000000000007 ca6c")),
    ],
)
def test_packed_is_address_then_port_in_network_order(endpoint: Endpoint, packed: bytes) -> None:
    assert endpoint.packed() == packed


def test_family() -> None:
    assert not V4.is_ipv6
    assert V6.is_ipv6


def test_our_side_of_the_path_is_no_part_of_the_address() -> None:
    reached = V4._replace(local=b"\xc0\x00\x02\x01", interface=2)
    assert reached.address == V4.address
    assert reached != V4
    assert reached.without_local() == V4


def test_scope_tells_link_local_neighbours_apart() -> None:
    assert LINK_LOCAL.address != LINK_LOCAL._replace(scope=4).address
