"""A pod whose only way out is its tunnel: a client has 0.0.0.0/0, and some packets go another way."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from handfast_tunnel.control import Configuration
from handfast_tunnel.pod.way_out import RESOLVER
from tests.lab.certificates import Authority
from tests.lab.implementations import Implementation
from tests.lab.namespaces import Node, wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import KeyPair, Peer
from tests.lab.pods import INSIDE, Operator, Pod, join, peer_spec, tunnel_spec

PORT = 7007
EVERYWHERE = ("0.0.0.0/0", "::/0")


@dataclass
class Site:
    """The exit is a client of the pod's tunnel, and forwards; the server is somebody on the internet."""

    pod: Pod
    keys: KeyPair
    exit: Peer
    server: Host
    resolver: Host
    operator: Operator

    def up(self) -> None:
        node = self.pod.node
        # As strict as a node may be about where packets come from.
        node.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.eth0.rp_filter=1")
        self.pod.start()
        self.operator.wait_for_api(self.pod)
        self.operator.call(self.pod, lambda s: s.activate(term=1, generation=1))
        self.exit.start()
        join(self.exit, self.keys, self.pod.host.ipv4, "10.88.0.0/24,fd88::/64")
        self.exit.node.run("nft", "-f", "-", input=_MASQUERADE)
        self.exit.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        self.exit.reaches_address(INSIDE)


_MASQUERADE = """
table inet exit {
    chain postrouting {
        type nat hook postrouting priority srcnat
        iifname "wg0" oifname "eth0" masquerade
    }
}
"""


@pytest.fixture
def site(network: Network, wireguard_go: Implementation) -> Site:
    pod_host, exit_host, server, resolver = network.add("pod", "exit", "server", "resolver")
    peer, keys, authority = Peer(exit_host, wireguard_go), KeyPair.generate(), Authority()
    spec = tunnel_spec(keys, routes=EVERYWHERE, replicas=1)
    everything = peer_spec(peer, allowed_ips=(f"{peer.ipv4}/32", f"{peer.ipv6}/128", *EVERYWHERE))
    configuration = Configuration.of(1, spec, [everything])
    pod = Pod(pod_host, configuration, authority=authority, HANDFAST_BESIDE_APP="1")
    given = pod.node.directory / "resolv.conf"
    given.write_text(f"search a.example\nnameserver {resolver.ipv4}\nnameserver nonsense\n")
    pod.node.run("mount", "--bind", str(given), str(RESOLVER))
    return Site(pod, keys, peer, server, resolver, Operator(network, authority))


@contextmanager
def listening(node: Node, family: int = socket.AF_INET) -> Iterator[socket.socket]:
    with node.socket(family, socket.SOCK_DGRAM) as opened:
        opened.bind(("", PORT))
        opened.settimeout(5)
        yield opened


def seen_by(server: Host, pod: Pod, address: str) -> str:
    """As whom the server sees the pod's app, which gets an answer."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with listening(server.node, family) as server_socket, pod.node.socket(family, socket.SOCK_DGRAM) as app:
        app.settimeout(5)
        app.sendto(b"?", (address, PORT))
        question, source = server_socket.recvfrom(64)
        server_socket.sendto(question, source)
        assert app.recv(64) == b"?"
    return str(source[0])


def fetch(node: Node, pod: Pod) -> str:
    url = f"http://{pod.host.ipv4}:9586/readyz"
    return node.run("curl", "-sS", "-w", " %{http_code}", "--max-time", "5", url)


def test_everything_goes_out_by_the_tunnel_but_answers_and_names(site: Site) -> None:
    site.up()
    assert seen_by(site.server, site.pod, site.server.ipv4) == site.exit.host.ipv4
    assert seen_by(site.server, site.pod, site.server.ipv6) == site.exit.host.ipv6
    assert fetch(site.server.node, site.pod) == "ok\n 200", "it came from outside, and goes back there"
    assert seen_by(site.resolver, site.pod, site.resolver.ipv4) == site.pod.host.ipv4


def test_nothing_leaves_past_the_tunnel_while_it_is_away(site: Site) -> None:
    site.up()
    assert seen_by(site.server, site.pod, site.server.ipv4) == site.exit.host.ipv4
    site.pod.running.kill()
    wait_until(
        lambda: not site.pod.node.attempt("ip", "link", "show", "wg0").stdout, 5, "the interface's end"
    )
    with (
        listening(site.server.node) as server,
        site.pod.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as app,
    ):
        with pytest.raises(OSError, match=r"unreachable|No route"):
            app.sendto(b"past it", (site.server.ipv4, PORT))
        server.settimeout(0.5)
        with pytest.raises(TimeoutError):
            server.recv(64)
    site.pod.start()
    site.exit.reaches_address(INSIDE)
    assert seen_by(site.server, site.pod, site.server.ipv4) == site.exit.host.ipv4


def test_a_way_out_comes_and_goes_with_the_configuration(site: Site) -> None:
    site.up()
    with_it = site.pod.configuration
    spec = replace(with_it.tunnel, routes=())
    site.operator.call(site.pod, lambda s: s.put_config(replace(with_it, generation=2, tunnel=spec)))
    assert seen_by(site.server, site.pod, site.server.ipv4) == site.pod.host.ipv4
    assert "145" not in site.pod.node.run("ip", "rule", "show")
    assert "outside" not in site.pod.node.run("nft", "list", "tables")
    site.exit.reaches_address(INSIDE)
    site.operator.call(site.pod, lambda s: s.put_config(replace(with_it, generation=3)))
    assert seen_by(site.server, site.pod, site.server.ipv4) == site.exit.host.ipv4
