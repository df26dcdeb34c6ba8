"""A default route's rules: which packets stay outside of the tunnel."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from handfast_tunnel.adapters.network import Network
from handfast_tunnel.adapters.rules import present_rules
from handfast_tunnel.pod import firewall
from handfast_tunnel.pod.surroundings import Surroundings, SurroundingsError
from handfast_tunnel.pod.translate import whole
from handfast_tunnel.pod.way_out import MARK, mark_of, nameservers, rules
from tests.unit.isolated import isolated, shell

from .conftest import CONFIGURATION, SPEC

RESOLVER = """\
# nameserver 10.0.0.1
nameserver 10.96.0.10
nameserver fd96::a
nameserver nonsense
search vpn.svc.cluster.local
options ndots:5
"""


@pytest.fixture
def resolver(tmp_path: Path) -> Path:
    path = tmp_path / "resolv.conf"
    path.write_text(RESOLVER)
    return path


def test_nameservers_are_those_that_a_resolver_asks(resolver: Path, tmp_path: Path) -> None:
    assert [str(each) for each in nameservers(resolver)] == ["10.96.0.10/32", "fd96::a/128"]
    assert not list(nameservers(tmp_path / "none"))


def test_only_a_default_route_has_rules_and_only_of_its_family(resolver: Path) -> None:
    assert not rules(replace(SPEC, routes=("10.0.0.0/8", "128.0.0.0/1")), resolver)
    made = rules(replace(SPEC, routes=("0.0.0.0/0", "fd00::/8")), resolver)
    assert {each.family for each in made} == {socket.AF_INET}
    assert [each.destination for each in made if each.destination] == [Network.parse("10.96.0.10/32")]
    both = rules(replace(SPEC, routes=("0.0.0.0/0", "::/0")), resolver)
    assert len(both) == 2 * len(made)


def test_its_own_packets_are_marked_where_there_is_one() -> None:
    for routes, mark in ((("10.0.0.0/8",), 0), (("::/0",), MARK)):
        spec = replace(SPEC, routes=routes)
        assert mark_of(spec) == mark
        assert whole(replace(CONFIGURATION, tunnel=spec), None).fwmark == mark


def device() -> Surroundings:
    shell("ip tuntap add mode tun name wg0; ip link add eth0 type veth peer name eth1; ip link set eth0 up")
    return Surroundings("wg0")


@isolated
def test_what_a_former_process_has_set_up_stays_untouched() -> None:
    """Its connections go on; and without the route all of it is gone."""
    spec = replace(SPEC, routes=("0.0.0.0/0",))
    device().set_up(spec)
    shell(f"nft add chain inet {firewall.marking_name('wg0')} untouched")
    Surroundings("wg0").set_up(spec)
    assert "untouched" in shell("nft list ruleset")
    Surroundings("wg0").set_up(replace(SPEC, routes=()))
    assert not set(present_rules())
    assert firewall.marking_name("wg0") not in shell("nft list tables")


@isolated
def test_beside_an_app_its_networks_have_barriers_and_elsewhere_none() -> None:
    """A gateway's may be a node's network, which it would leave them to."""
    spec = replace(SPEC, routes=("10.77.0.0/16",))
    device().set_up(spec)
    assert "unreachable" not in shell("ip route show")
    Surroundings("wg0", beside_app=True).set_up(spec)
    shown = shell("ip route show")
    assert "unreachable 10.77.0.0/16" in shown
    assert "unreachable 10.8.0.0/24" in shown


@isolated
def test_without_marks_there_is_no_default_route() -> None:
    """The operator could not reach such a pod any more."""
    surroundings = device()
    surroundings.set_up(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nonexistent")
        with pytest.raises(SurroundingsError, match="a default route needs its marks"):
            surroundings.set_up(replace(SPEC, routes=("0.0.0.0/0",)))
    assert not set(present_rules())
    assert "wg0" not in shell("ip route show table 145 || true")
