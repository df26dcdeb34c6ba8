"""The interface while it runs: marks, ports, link down and up, its end; and a second one of the same name."""

from __future__ import annotations

import re

import pytest

from tests.interop.conftest import Pair
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import Peer, introduce

_OUTPUT_CHAIN = """
table inet marks {
    chain output {
        type filter hook output priority filter
        meta mark 42 counter
    }
}
"""


def test_fwmark(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    ours.node.run("nft", "-f", "-", input=_OUTPUT_CHAIN)

    def marked() -> int:
        found = re.search(r"packets (\d+)", ours.node.run("nft", "list", "table", "inet", "marks"))
        assert found
        return int(found[1])

    theirs.reaches(ours)
    assert marked() == 0
    ours.set("fwmark", "42")
    assert theirs.ping(ours)
    assert marked() > 0
    ours.set("fwmark", "off")
    before = marked()
    assert theirs.ping(ours)
    assert marked() == before


def test_the_port_changes_while_it_runs(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    pair.ours.set("listen-port", "51900")
    pair.ours.reaches(pair.theirs)
    assert pair.theirs.status(pair.ours).endpoint == f"{pair.ours.host.ipv4}:51900"
    assert pair.theirs.ping(pair.ours)


def test_port_0_chooses_one(usual: Pair) -> None:
    usual.start()
    usual.client.reaches(usual.server)
    usual.server.set("listen-port", "0")
    chosen = int(usual.server.wg("show", "wg0", "listen-port"))
    assert chosen not in (0, 51820)
    usual.client.set("peer", usual.server.keys.public, "endpoint", f"{usual.server.host.ipv4}:{chosen}")
    usual.client.reaches(usual.server)


def test_down_closes_the_sockets_and_up_opens_them(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    ours = pair.ours
    ours.link("down")
    wait_until(lambda: not _listens(ours), 5, "the sockets to be closed")
    ours.bring_up()
    wait_until(lambda: _listens(ours), 5, "the sockets to be open")
    pair.ours.reaches(pair.theirs)
    assert pair.theirs.ping(pair.ours)


def _listens(peer: Peer) -> bool:
    return f":{peer.port} " in peer.node.run("ss", "-uanH")


def test_configured_before_and_after_the_link_is_down(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    ours.link("down")
    ours.set("listen-port", "51901")
    ours.configure()
    ours.bring_up()
    theirs.set("peer", ours.keys.public, "endpoint", f"{ours.host.ipv4}:{ours.port}")
    theirs.reaches(ours)


def test_the_mtu_leaves_room_for_the_tunnels_own_headers(usual: Pair) -> None:
    usual.server.launch()
    assert "mtu 1420" in usual.server.node.run("ip", "link", "show", "wg0")


def test_the_process_ends_with_its_link(usual: Pair) -> None:
    usual.server.start()
    usual.server.node.run("ip", "link", "delete", "wg0")
    assert usual.server.running.wait() == 0
    assert not usual.server.node.run("ls", "/run/wireguard")


def test_the_process_ends_with_its_socket(usual: Pair) -> None:
    usual.server.start()
    usual.server.node.run("rm", "/run/wireguard/wg0.sock")
    assert usual.server.running.wait() == 0


def test_killed_and_started_again_it_finds_no_leftovers(usual: Pair) -> None:
    usual.server.knows(usual.client)
    usual.start()
    for _ in range(2):
        usual.client.reaches(usual.server)
        usual.server.kill()
        usual.server.start()
    usual.client.reaches(usual.server)


def test_a_second_one_is_refused_and_the_first_lives(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    second = ours.implementation.launch(ours.node)
    assert second.wait() != 0
    said = second.output().strip()
    assert "wg0" in said
    assert theirs.ping(ours)
    assert ours.wg("show", "wg0", "listen-port").strip() == "51820"


def test_several_interfaces_on_one_host(
    network: Network, handfast: Implementation, wireguard_go: Implementation
) -> None:
    server_host, client_host = network.add("server", "client")
    pairs = []
    for n in range(2):
        ours, theirs = (
            Peer(host, implementation, interface=f"wg{n}", port=51820 + n, subnet=88 + n)
            for host, implementation in ((server_host, handfast), (client_host, wireguard_go))
        )
        introduce(theirs, ours)
        pairs.append((ours, theirs))
        ours.start()
        theirs.start()
    for ours, theirs in pairs:
        theirs.reaches(ours)


@pytest.mark.parametrize("name", ["a-name-that-is-too-long", "has space", ""])
def test_a_bad_name_is_refused(network: Network, handfast: Implementation, name: str) -> None:
    (host,) = network.add("server")
    process = handfast.launch(host.node, name)
    assert process.wait() != 0
    assert process.output().strip()
