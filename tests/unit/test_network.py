"""Addresses, routes and forwarding around an interface, by netlink, in namespaces of their own."""

from __future__ import annotations

import json

import pytest

from handfast_tunnel.adapters import network
from handfast_tunnel.adapters.netlink import attribute, attributes
from handfast_tunnel.adapters.network import Network

from .isolated import isolated, shell


def networks(*texts: str) -> list[Network]:
    return list(map(Network.parse, texts))


def addresses() -> set[str]:
    (link,) = json.loads(shell("ip -j address show dev wg0"))
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}


def routes() -> set[str]:
    shown = [
        *json.loads(shell("ip -j route show dev wg0")),
        *json.loads(shell("ip -j -6 route show dev wg0")),
    ]
    return {route["dst"] for route in shown if route.get("protocol") != "kernel"}


def device() -> None:
    shell("ip tuntap add mode tun name wg0")
    network.bring_up("wg0", 1300)


@isolated
def test_addresses_are_what_is_asked_for() -> None:
    device()
    network.set_addresses("wg0", networks("10.8.0.1/24", "fd00:8::1/64"))
    assert addresses() == {"10.8.0.1/24", "fd00:8::1/64"}
    network.set_addresses("wg0", networks("10.8.0.1/24", "10.9.0.1/16"))
    assert addresses() == {"10.8.0.1/24", "10.9.0.1/16"}
    network.set_addresses("wg0", [])
    assert addresses() == set()


@isolated
def test_an_address_that_stays_is_not_touched() -> None:
    """Taking it away for a moment would end connections and routes."""
    device()
    network.set_addresses("wg0", networks("10.8.0.1/24"))
    shell("ip route add 10.77.0.0/16 via 10.8.0.9 dev wg0 proto static")
    network.set_addresses("wg0", networks("10.8.0.1/24", "10.9.0.1/24"))
    assert "10.77.0.0/16" in routes()


@isolated
def test_ipv6_addresses_work_at_once() -> None:
    device()
    network.set_addresses("wg0", networks("fd00:8::1/64"))
    assert "tentative" not in shell("ip address show dev wg0")


@isolated
def test_only_our_routes_are_removed() -> None:
    device()
    shell("ip route add 10.66.0.0/16 dev wg0")
    network.set_routes("wg0", networks("10.77.0.0/16", "fd77::/16", "10.78.1.1/32"))
    assert routes() == {"10.66.0.0/16", "10.77.0.0/16", "10.78.1.1", "fd77::/16"}
    network.set_routes("wg0", networks("10.77.0.0/16"))
    assert routes() == {"10.66.0.0/16", "10.77.0.0/16"}


@isolated
def test_a_default_route_can_be_one() -> None:
    device()
    network.set_routes("wg0", networks("0.0.0.0/0", "::/0"))
    assert routes() == {"default"}
    network.set_routes("wg0", [])
    assert routes() == set()


@isolated
def test_what_the_kernel_refuses_is_named() -> None:
    device()
    with pytest.raises(OSError, match="ff02::1/64") as caught:
        network.set_addresses("wg0", networks("ff02::1/64"))
    assert caught.value.filename == "ff02::1/64"


@isolated
def test_mtu_and_state() -> None:
    device()
    (link,) = json.loads(shell("ip -j link show dev wg0"))
    assert link["mtu"] == 1300
    assert "UP" in link["flags"]


@isolated
def test_the_underlay_is_what_is_up_and_not_ours() -> None:
    device()
    assert network.underlay_mtu("wg0") is None
    shell("ip link add eth0 type veth peer name eth1; ip link set eth0 mtu 1450 up; ip link set eth1 up")
    assert network.underlay_mtu("wg0") == 1450
    shell("ip link set eth0 down; ip link set eth1 mtu 9000")
    assert network.underlay_mtu("wg0") == 9000


@isolated
def test_ipv4_forwarding_is_on_for_every_interface_by_netlink_alone() -> None:
    shell("ip link add eth0 type veth peer name eth1")
    device()
    assert not network.forwards_ipv4(["wg0"])
    network.allow_ipv4_forwarding()
    assert network.forwards_ipv4(["wg0", "eth0", "eth1"])
    assert not network.forwards_ipv4(["lo"])
    assert shell("cat /proc/sys/net/ipv4/ip_forward").strip() == "0"


@isolated
def test_ipv6_forwarding_is_on_where_it_can_be() -> None:
    assert not network.forwards_ipv6()
    network.allow_ipv6_forwarding()
    assert network.forwards_ipv6()


def test_attributes_come_back_as_they_were() -> None:
    data = attribute(1, b"abcde") + attribute(2 | 0x8000, attribute(3, b"")) + attribute(4, b"1234")
    assert len(data) % 4 == 0
    assert [(key, bytes(value)) for key, value in attributes(data)] == [
        (1, b"abcde"),
        (2, attribute(3, b"")),
        (4, b"1234"),
    ]


def test_attributes_of_no_length_end() -> None:
    assert len(list(attributes(bytes(40)))) == 10


@pytest.mark.parametrize("text", ["10.8.0.1/24", "fd00::1/64"])
def test_networks_are_shown_as_they_are_read(text: str) -> None:
    assert str(Network.parse(text)) == text
