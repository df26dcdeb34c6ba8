"""`wg-quick up` and `down` start and end Handfast as they do wireguard-go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.conftest import Pair
from tests.lab.implementations import HANDFAST
from tests.lab.namespaces import Node, wait_until
from tests.lab.peer import Peer
from tests.lab.wg_quick import WgQuick


@pytest.fixture
def wg_quick(usual: Pair, tmp_path: Path) -> WgQuick:
    return WgQuick(usual.server.node, str(HANDFAST), tmp_path)


def with_address(peer: Peer) -> str:
    address = f"[Interface]\nAddress = {peer.ipv4}/24, {peer.ipv6}/64"
    return peer.configuration().replace("[Interface]", address, 1)


def test_up_and_down(usual: Pair, wg_quick: WgQuick) -> None:
    ours, theirs = usual.server, usual.client
    theirs.start()
    wg_quick("up", with_address(ours))
    theirs.reaches(ours)
    assert ours.ping(theirs, ipv6=True)
    assert "mtu 1420" in ours.node.run("ip", "link", "show", "wg0")

    wg_quick("down", with_address(ours))
    assert ours.node.attempt("ip", "link", "show", "wg0").returncode != 0
    wait_until(lambda: not _processes(ours.node), 5, "the process to end with its link")
    assert not ours.node.run("ls", "/run/wireguard")


def test_up_again_greets_the_peers(usual: Pair, wg_quick: WgQuick) -> None:
    ours, theirs = usual.server, usual.client
    ours.knows(theirs)
    theirs.start()
    for _ in range(2):
        wg_quick("up", with_address(ours))
        assert theirs.ping(ours)
        wg_quick("down", with_address(ours))


def test_a_default_route_through_the_tunnel(usual: Pair, wg_quick: WgQuick) -> None:
    """wg-quick then sets a fwmark, so that the tunnel's own packets do not go into the tunnel."""
    ours, theirs = usual.server, usual.client
    theirs.start()
    ours.knows(theirs, allowed_ips=("0.0.0.0/0", "::/0"))
    wg_quick("up", with_address(ours))
    assert ours.ping(theirs)
    assert ours.wg("show", "wg0", "fwmark").strip() == "0xca6c"
    wg_quick("down", with_address(ours))


def _processes(node: Node) -> list[str]:
    listed = node.run("ps", "-e", "-o", "args=").splitlines()
    return [line for line in listed if "handfast-tunnel" in line]
