"""Addresses, routes and forwarding around an interface, by netlink, in namespaces of their own."""

from __future__ import annotations

import json
import socket

import pytest

from handfast_tunnel.adapters import network
from handfast_tunnel.adapters.netlink import attribute, attributes
from handfast_tunnel.adapters.network import Network
from handfast_tunnel.adapters.rules import Rule, present_rules, set_rules

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
def test_a_default_route_leaves_the_main_table_as_it_is() -> None:
    shell("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up")
    shell("ip route add default dev eth0")
    device()
    network.set_routes("wg0", networks("0.0.0.0/0", "::/0"))
    assert routes() == set()
    assert "default dev wg0" in shell("ip route show table 145")
    assert "default dev wg0" in shell("ip -6 route show table 145")
    network.set_routes("wg0", [])
    assert "default dev eth0" in shell("ip route show")
    assert "wg0" not in shell("ip route show table 145; ip -6 route show table 145")


@isolated
def test_a_barrier_is_behind_the_interface_and_outlives_it() -> None:
    shell("ip link add eth0 type veth peer name eth1; ip link set eth0 up; ip link set eth1 up")
    shell("ip address add 10.1.0.1/24 dev eth0; ip route add default via 10.1.0.9")
    device()
    wanted = networks("0.0.0.0/0", "10.77.0.0/16", "fd77::/16")
    network.set_barriers(wanted)
    network.set_barriers(wanted)
    network.set_routes("wg0", wanted)
    assert "dev wg0" in shell("ip route get 10.77.1.1")
    assert "dev wg0" in shell("ip route get fd77::1")
    shell("ip link delete wg0")
    for command in ("ip route get 10.77.1.1", "ip route get fd77::1"):
        with pytest.raises(AssertionError, match=r"unreachable|No route"):
            shell(command)
    assert "unreachable default" in shell("ip route show table 145")
    assert "eth0" in shell("ip route get 10.99.1.1")
    network.set_barriers([])
    assert "eth0" in shell("ip route get 10.77.1.1")
    assert "unreachable" not in shell("ip route show table all; ip -6 route show table all type unreachable")


RULES = {
    Rule(socket.AF_INET, 100, 254, mark=0xCA6C),
    Rule(socket.AF_INET, 101, 254, destination=Network.parse("10.96.0.10/32")),
    Rule(socket.AF_INET6, 102, 254, no_default=True),
    Rule(socket.AF_INET6, 103, 145),
}


@isolated
def test_rules_are_what_is_asked_for_and_others_stay() -> None:
    shell("ip rule add priority 90 table 12")
    set_rules(RULES)
    set_rules(RULES)
    assert set(present_rules()) == RULES
    shown = shell("ip rule show")
    assert "100:\tfrom all fwmark 0xca6c lookup main" in shown
    assert "101:\tfrom all to 10.96.0.10 lookup main" in shown
    assert "102:\tfrom all lookup main suppress_prefixlength 0" in shell("ip -6 rule show")
    assert "103:\tfrom all lookup 145" in shell("ip -6 rule show")
    set_rules([])
    assert set(present_rules()) == set()
    assert "90:\tfrom all lookup 12" in shell("ip rule show")


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
def test_marks_are_believed_by_netlink_alone() -> None:
    device()
    network.believe_marks()
    assert shell("cat /proc/sys/net/ipv4/conf/wg0/src_valid_mark").strip() == "1"
    assert shell("cat /proc/sys/net/ipv4/conf/all/src_valid_mark").strip() == "0"


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


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("10.8.9.1/22", "10.8.8.0/22"),
        ("fd00:8::1/64", "fd00:8::/64"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("::1/128",) * 2,
    ],
)
def test_the_whole_network_of_an_address(text: str, whole: str) -> None:
    assert str(Network.parse(text).whole) == whole


@pytest.mark.parametrize("text", ["10.8.0.1/24", "fd00::1/64"])
def test_networks_are_shown_as_they_are_read(text: str) -> None:
    assert str(Network.parse(text)) == text
