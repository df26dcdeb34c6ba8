"""What pods and clients are given."""

from __future__ import annotations

from typing import Any

import pytest

from handfast_operator import client_config, documents, keys
from handfast_operator.addresses import host_network, parse_host
from handfast_operator.resources import PeerSpec
from handfast_tunnel.control import Configuration

from .objects import OWNER, peer_object, tunnel_spec

OURS, THEIRS, PSK = keys.generate(), keys.generate(), keys.generate_preshared()


def configuration(*names: str, generation: int = 1, **spec: Any) -> Configuration:
    head = documents.tunnel(OWNER, tunnel_spec(**spec), OURS.private, ["10.96.0.0/12"])
    peers = [
        documents.peer(
            peer_object(name).spec, name, keys.pair(_private(name)).public, PSK, [f"10.8.0.{number}/32"]
        )
        for number, name in enumerate(names, 2)
    ]
    return Configuration.of(generation, head, peers)


def _private(name: str) -> str:
    import base64

    return base64.b64encode(name.encode().ljust(32, b"."))[:44].decode()


def test_a_pod_reads_what_is_written() -> None:
    written = configuration("alice", "bob", allowedRoutes=["192.168.0.0/16"], mtu=1400)
    assert Configuration.parse(written.dump()) == written


def test_defaults_are_those_of_the_design() -> None:
    head = configuration().tunnel
    assert (head.interface, head.listen_port, head.replicas) == ("wg0", 51820, 2)
    assert head.recovery.announce == "never"
    assert (head.forwarding.ipv4, head.forwarding.ipv6) == (True, True)


@pytest.mark.parametrize(
    ("announce", "exposure", "expected"),
    [
        ("Auto", "LoadBalancer", "never"),
        ("Auto", "HostPort", "never"),
        ("Auto", "HostNetwork", "always"),
        ("Always", "ClusterIP", "always"),
        ("Never", "HostNetwork", "never"),
    ],
)
def test_a_gateway_announces_only_from_an_address_that_clients_know(
    announce: str, exposure: str, expected: str
) -> None:
    gateway = {"exposure": exposure, "replicas": 1, "acceptHostNetwork": True}
    head = configuration(recovery={"announce": announce}, gateway=gateway).tunnel
    assert head.recovery.announce == expected


def test_ipv6_is_forwarded_only_where_there_is_some() -> None:
    head = configuration(addresses=["10.8.0.1/24"], pools=[]).tunnel
    assert (head.forwarding.ipv4, head.forwarding.ipv6) == (True, False)


def test_differences() -> None:
    old, new = configuration("alice", "bob"), configuration("alice", "carol", generation=2)
    patch = documents.difference(old, new)
    assert patch is not None
    assert [peer.name for peer in patch.put] == ["carol"]
    assert patch.remove == (keys.pair(_private("bob")).public,)
    assert old.patched(patch) == new
    assert documents.difference(old, configuration("alice", mtu=1300)) is None
    assert documents.same(old, old.at(7))
    assert not documents.same(old, new)


def rendered(
    peer: dict[str, Any] | None = None, own: Any = THEIRS, addresses: Any = None, **spec: Any
) -> str:
    gateway = client_config.Gateway(OURS.public, "vpn.example.com:51820", tunnel_spec(**spec))
    networks = [host_network(parse_host(text)) for text in addresses or ["10.8.0.7", "fd00:8::7"]]
    spec_of_peer = PeerSpec.model_validate({"tunnelRef": {"name": "office"}, **(peer or {})})
    return client_config.render("alice", spec_of_peer, networks, own, PSK, gateway)


def test_a_clients_file() -> None:
    assert (
        rendered()
        == f"""\
# alice
[Interface]
PrivateKey = {THEIRS.private}
Address = 10.8.0.7/32, fd00:8::7/128

[Peer]
PublicKey = {OURS.public}
PresharedKey = {PSK}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.com:51820
PersistentKeepalive = 25
"""
    )


def test_what_the_tunnel_and_the_peer_say_about_clients() -> None:
    defaults = {"dns": ["10.96.0.10"], "searchDomains": ["svc.cluster.local"], "persistentKeepalive": 15}
    text = rendered(client=defaults, mtu=1380)
    assert "DNS = 10.96.0.10, svc.cluster.local\n" in text
    assert "MTU = 1380\n" in text
    assert "PersistentKeepalive = 15\n" in text
    special = rendered(
        {"client": {"allowedIPs": ["10.0.0.0/8"], "persistentKeepalive": 0, "dns": []}}, client=defaults
    )
    assert "AllowedIPs = 10.0.0.0/8\n" in special
    assert "PersistentKeepalive" not in special
    assert "DNS = svc.cluster.local\n" in special


def test_a_key_that_stays_with_the_client_is_left_out() -> None:
    text = rendered(own=None)
    assert "# Add your own: PrivateKey" in text
    assert THEIRS.private not in text


def test_no_route_of_a_family_without_address() -> None:
    assert "AllowedIPs = 0.0.0.0/0\n" in rendered(addresses=["10.8.0.7"])


def test_keys_in_secrets_may_end_in_a_newline_and_must_be_keys() -> None:
    assert keys.pair(OURS.private + "\n") == OURS
    for wrong in ("", "abc", "QUJD", "!" * 44):
        with pytest.raises(keys.KeyMaterialError):
            keys.pair(wrong)
    assert OURS.private not in repr(OURS)
