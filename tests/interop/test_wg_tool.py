"""`wg` works unchanged: show, showconf, set, setconf, addconf, syncconf, and its refusals."""

from __future__ import annotations

import socket

import pytest

from tests.interop.conftest import Pair
from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.network import Network
from tests.lab.peer import KeyPair, Peer, introduce, preshared_key


def sections(configuration: str) -> list[list[str]]:
    """Comparable whatever the order of peers and of lines in a section."""
    return sorted(sorted(part.split("\n")) for part in configuration.strip().split("\n\n"))


@pytest.fixture
def ours(network: Network, handfast: Implementation, wireguard_go: Implementation) -> Peer:
    """A running server that knows two clients."""
    server_host, *client_hosts = network.add("server", "first", "second")
    server = Peer(server_host, handfast)
    for host in client_hosts:
        introduce(Peer(host, wireguard_go), server, preshared_key=preshared_key())
    server.start()
    return server


def test_show_says_what_was_set(usual: Pair) -> None:
    introduce(usual.client, usual.server, preshared_key=preshared_key())
    usual.start()
    usual.client.reaches(usual.server)
    shown = usual.server.wg("show")
    status = usual.server.status(usual.client)
    assert f"public key: {usual.server.keys.public}" in shown
    assert "listening port: 51820" in shown
    assert f"endpoint: {usual.client.host.ipv4}:51820" in shown
    assert "latest handshake:" in shown
    assert status.received > 0
    assert status.sent > 0
    assert status.preshared_key != "(none)"
    assert status.allowed_ips.split(",") == [f"{usual.client.ipv4}/32", f"{usual.client.ipv6}/128"]
    theirs = usual.client.status(usual.server)
    assert abs(theirs.sent - status.received) <= 148, "counted as others count"
    assert abs(theirs.received - status.sent) <= 148


def test_showconf_is_what_wireguard_go_shows(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    hosts = network.add("ours", "theirs")
    shown = []
    strangers = [KeyPair.generate() for _ in range(3)]
    for host, implementation in zip(hosts, (handfast, wireguard_go), strict=True):
        peer = Peer(host, implementation)
        peer.start()
        peer.set("private-key", "/dev/stdin", input=strangers[0].private + "\n")
        peer.set("fwmark", "0x2a")
        peer.set("peer", strangers[1].public, "endpoint", "[fd00::1]:7", "persistent-keepalive", "25")
        peer.set("peer", strangers[1].public, "allowed-ips", "10.1.0.0/16,fd01::/16,0.0.0.0/0,::/0")
        peer.set("peer", strangers[2].public, "endpoint", "192.0.2.1:9", "allowed-ips", "10.1.2.3/24")
        shown.append(sections(peer.wg("showconf", "wg0")))
    assert shown[0] == shown[1]


def test_a_shown_configuration_can_be_set_again(ours: Peer) -> None:
    shown = ours.wg("showconf", "wg0")
    ours.wg("setconf", "wg0", "/dev/stdin", input=shown)
    assert sections(ours.wg("showconf", "wg0")) == sections(shown)


def test_setconf_replaces_and_addconf_adds(ours: Peer) -> None:
    stranger = f"[Peer]\nPublicKey = {KeyPair.generate().public}\nAllowedIPs = 10.9.0.0/24\n"
    ours.wg("addconf", "wg0", "/dev/stdin", input=stranger)
    assert ours.wg("showconf", "wg0").count("[Peer]") == 3
    interface = ours.configuration().split("[Peer]")[0]
    ours.wg("setconf", "wg0", "/dev/stdin", input=interface + stranger)
    assert ours.wg("showconf", "wg0").count("[Peer]") == 1


def test_an_allowed_ip_moves_to_the_peer_that_got_it_last(ours: Peer) -> None:
    first, second = list(ours.known.values())
    ours.set("peer", second.other.keys.public, "allowed-ips", ",".join(first.allowed_ips))
    assert ours.status(first.other).allowed_ips == "(none)"
    assert ours.status(second.other).allowed_ips.split(",") == list(first.allowed_ips)


def test_syncconf_keeps_the_sessions_of_unchanged_peers(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    before = ours.status(theirs)
    stranger = f"\n[Peer]\nPublicKey = {KeyPair.generate().public}\nAllowedIPs = 10.9.0.0/24\n"
    for configuration in (ours.configuration() + stranger, ours.configuration()):
        ours.wg("syncconf", "wg0", "/dev/stdin", input=configuration)
        assert theirs.ping(ours)
    after = ours.status(theirs)
    assert after.latest_handshake == before.latest_handshake
    assert after.received > before.received
    assert len(usual.on_client_cable.matching(Message.RESPONSE)) == 1


def test_a_removed_peer_is_gone(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    ours.set("peer", theirs.keys.public, "remove")
    assert not theirs.ping(ours, timeout=1)
    assert theirs.keys.public not in ours.wg("show")


def test_another_private_key(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    ours.keys = KeyPair.generate()
    ours.set("private-key", "/dev/stdin", input=ours.keys.private + "\n")
    assert not theirs.ping(ours, timeout=1), "the sessions of the old key are gone"
    theirs.known.clear()
    theirs.knows(ours)
    theirs.configure()
    theirs.reaches(ours)


@pytest.mark.parametrize(
    "wrong",
    [
        "[Peer]\nPublicKey = AAAA",
        "[Interface]\nFwMark = -1",
        "[Peer]\nPublicKey = {key}\nAllowedIPs = 10.0.0.0/33",
        "[Peer]\nPublicKey = {key}\nPersistentKeepalive = 70000",
    ],
)
def test_wg_refuses_wrong_values(ours: Peer, wrong: str) -> None:
    before = ours.wg("showconf", "wg0")
    configuration = ours.configuration() + "\n" + wrong.format(key=KeyPair.generate().public) + "\n"
    done = ours.node.attempt("wg", "setconf", "wg0", "/dev/stdin", input=configuration)
    assert done.returncode != 0
    assert ours.wg("showconf", "wg0") == before


@pytest.mark.parametrize(
    "wrong",
    [
        "public_key=00",
        "listen_port=70000",
        "fwmark=-1",
        "no_such_key=1",
        "public_key={key}\nallowed_ip=10.0.0.0/33",
        "public_key={key}\nendpoint=nowhere",
        "public_key={key}\npersistent_keepalive_interval=-1",
        "public_key={key}\npreshared_key=12",
        "public_key={key}\nprotocol_version=2",
        "drain=perhaps",
    ],
)
def test_a_set_is_refused_whole(ours: Peer, wrong: str) -> None:
    before = ours.wg("showconf", "wg0")
    request = f"set=1\nlisten_port=51888\nreplace_peers=true\n{wrong.format(key='ab' * 32)}\n\n"
    answer = ours.uapi(request)
    assert answer.startswith("errno=")
    assert int(answer.split("=")[1]) != 0
    assert ours.wg("showconf", "wg0") == before


def test_a_port_in_use_is_refused(ours: Peer) -> None:
    before = ours.wg("showconf", "wg0")
    with ours.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("", 4242))
        done = ours.node.attempt("wg", "set", "wg0", "listen-port", "4242", "fwmark", "7")
    assert "Address already in use" in done.stderr
    assert ours.wg("showconf", "wg0") == before
