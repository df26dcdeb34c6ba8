"""What a user can run into: it is said in a sentence, changes nothing, and ends when its cause does."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from handfast_tunnel.core.configuration import PeerChange, Prefix
from tests.lab.namespaces import Lab, Node, Process, wait_until
from tests.lab.tools import tool

HANDFAST = str(tool("handfast-tunnel"))
WG = str(tool("wg"))
KEY = "2AyCHdKGQHbVjZG6Y6aBy4LSqTrqB8C9M5rW0T1Fqko="
PEER = "uFmW/sycfx/G0lcqdu2hHVm80gvo5UOxXOS9hajnWjM="


@pytest.fixture
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_nodes("node")[0]


def start(node: Node, *options: str) -> Process:
    process = node.start(HANDFAST, "-f", *options, "wg0")
    wait_until(lambda: node.attempt(WG, "show", "wg0").returncode == 0, 10, "the daemon")
    return process


def listens(node: Node, port: int) -> bool:
    return f":{port} " in node.run("ss", "-lun")


@pytest.mark.parametrize("remedy", ["another port", "the port is freed"])
def test_port_in_use_when_the_link_comes_up_is_not_for_ever(node: Node, remedy: str) -> None:
    process = start(node)
    taken = node.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken.bind(("", 5555))
    node.run(WG, "set", "wg0", "listen-port", "5555")
    node.run("ip", "link", "set", "wg0", "up")
    wait_until(lambda: "cannot open UDP port 5555" in process.output(), 5, "the error")
    if remedy == "another port":
        node.run(WG, "set", "wg0", "listen-port", "6666")
        assert listens(node, 6666)
    taken.close()
    if remedy != "another port":
        wait_until(lambda: listens(node, 5555), 5, "the port to be opened")


def test_no_room_for_the_configuration_refuses_the_whole_set(node: Node) -> None:
    node.run("mkdir", "/run/small")
    node.run("mount", "-t", "tmpfs", "-o", "size=1100k,mode=700", "tmpfs", "/run/small")
    start(node, "--state=/run/small")
    node.run(WG, "set", "wg0", "listen-port", "7001")
    node.attempt("dd", "if=/dev/zero", "of=/run/small/full", "bs=4k")
    refused = node.attempt(WG, "set", "wg0", "listen-port", "7002", "peer", PEER)
    assert refused.returncode != 0
    assert "No space left" in refused.stderr
    assert node.run(WG, "show", "wg0", "listen-port").strip() == "7001"
    assert node.run(WG, "show", "wg0", "peers") == ""
    node.run("rm", "/run/small/full")
    node.run(WG, "set", "wg0", "listen-port", "7002")


@pytest.mark.parametrize("options", [["-f"], []])
def test_a_refused_start_leaves_nothing(node: Node, options: list[str]) -> None:
    refused = node.attempt(HANDFAST, *options, "--state=/sys", "wg0")
    assert refused.returncode == 1
    assert "no state memory" in refused.stderr
    assert not node.run("find", "/run/wireguard", "/run/handfast", "-type", "s")
    start(node)


def test_a_drained_tunnel_does_not_claim_to_greet(node: Node) -> None:
    start(node)
    node.run("ip", "link", "set", "wg0", "up")
    node.run(HANDFAST, "drain")
    refused = node.attempt(HANDFAST, "handshake")
    assert refused.returncode == 1
    assert "drained" in refused.stderr


def test_what_is_in_the_wrong_place_is_not_logged(node: Node) -> None:
    process = start(node)
    for request in (f"PrivateKey = {KEY}\n", f"set=1\n{KEY}\n\n", f"set=1\n{KEY[:-1]}\n\n"):
        node.attempt(
            "python3", "-c",
            f"import socket; s=socket.socket(socket.AF_UNIX); s.connect('/var/run/wireguard/wg0.sock');"
            f"s.sendall({request!r}.encode()); s.shutdown(1); s.recv(99)",
        )  # fmt: skip
    assert KEY[:-1] not in process.output()


def test_a_renamed_interface_keeps_its_configuration_when_the_worker_dies(node: Node) -> None:
    process = start(node)
    node.run(WG, "set", "wg0", "private-key", "/dev/stdin", "peer", PEER, input=KEY)
    node.run("ip", "link", "set", "wg0", "name", "wg7")
    former = process.children()[0]
    os.kill(former, signal.SIGKILL)
    wait_until(lambda: process.children()[:1] not in ([], [former]), 5, "the next worker")
    wait_until(lambda: PEER in node.attempt(WG, "show", "wg0", "peers").stdout, 5, "the peer")


def test_many_allowed_ips_are_staged_in_pieces() -> None:
    prefixes = tuple(Prefix(n.to_bytes(4, "big"), 32) for n in range(1000))
    change = PeerChange(b"p" * 32, persistent_keepalive=5, replace_allowed_ips=True, allowed_ips=prefixes)
    first, *rest = change.pieces(256)
    assert (first.persistent_keepalive, first.replace_allowed_ips) == (5, True)
    assert all(piece.update_only and not piece.replace_allowed_ips for piece in rest)
    assert tuple(prefix for piece in (first, *rest) for prefix in piece.allowed_ips) == prefixes
    assert max(len(piece.allowed_ips) for piece in (first, *rest)) == 256
