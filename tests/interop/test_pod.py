"""`handfast-tunnel run`: a pod's interface and its network, as an unmodified client finds them."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, replace

import pytest

from handfast_tunnel.control import (
    Configuration,
    ForwardingSpec,
    MetricsSpec,
    Patch,
    PeerSpec,
    Refused,
    Role,
    Status,
)
from handfast_tunnel.pod.firewall import table_name
from tests.lab.certificates import Authority
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Host, Network
from tests.lab.peer import KeyPair, Peer
from tests.lab.pods import INSIDE, INSIDE_IPV6, Operator, Pod, join, peer_spec, tunnel_spec

NET_ADMIN_ONLY = (
    "setpriv",
    "--bounding-set=-all,+net_admin",
    "--inh-caps=-all,+net_admin",
    "--no-new-privs",
)
"""What a container has that drops everything else (KUBERNETES, section 4)."""
NET_ADMIN = 1 << 12


@dataclass
class Site:
    """A pod with a client, and a server of somebody else's that the client wants to reach through it."""

    network: Network
    operator: Operator
    pod: Pod
    client: Peer
    server: Host
    keys: KeyPair

    def activate(self) -> Status:
        self.operator.wait_for_api(self.pod)
        return self.operator.call(self.pod, lambda s: s.activate(term=1, generation=1))

    def connect(self) -> None:
        self.client.start()
        join(self.client, self.keys, self.pod.host.ipv4)
        route = ["route", "add", self.server.ipv4, "dev", "wg0"]
        self.client.node.run("ip", *route)
        self.client.node.run("ip", "route", "add", self.server.ipv6, "dev", "wg0")
        wait_until(lambda: self.pings(INSIDE), 20, "the pod to answer")

    def pings(self, address: str, *options: str) -> bool:
        return self.client.node.attempt("ping", "-nqc1", "-W1", *options, address).returncode == 0


@pytest.fixture
def site(network: Network, wireguard_go: Implementation) -> Site:
    keys = KeyPair.generate()
    authority = Authority()
    pod_host, client_host, server = network.add("pod", "client", "server")
    client = Peer(client_host, wireguard_go)
    pod = Pod(pod_host, Configuration.of(1, tunnel_spec(keys), [peer_spec(client)]), authority=authority)
    return Site(network, Operator(network, authority), pod, client, server, keys)


def test_it_begins_by_itself_where_nobody_calls(network: Network, wireguard_go: Implementation) -> None:
    """The only replica, from mounted files: no operator, no Kubernetes, no certificates."""
    pod_host, client_host = network.add("pod", "client")
    client, keys = Peer(client_host, wireguard_go), KeyPair.generate()
    pod = Pod(pod_host, Configuration.of(1, tunnel_spec(keys, replicas=1), [peer_spec(client)]))
    pod.start()
    began = time.monotonic()
    client.start()
    join(client, keys, pod_host.ipv4)
    client.reaches_address(INSIDE, timeout=20)
    assert time.monotonic() - began > 8, "it waited for a call first"
    assert client.node.attempt("ping", "-nqc1", "-W1", INSIDE_IPV6).returncode == 0


def test_without_an_operator_it_is_active_at_once(network: Network, wireguard_go: Implementation) -> None:
    pod_host, client_host = network.add("pod", "client")
    client, keys = Peer(client_host, wireguard_go), KeyPair.generate()
    pod = Pod(pod_host, Configuration.of(1, tunnel_spec(keys), [peer_spec(client)]), standby=False)
    pod.start()
    client.start()
    join(client, keys, pod_host.ipv4)
    client.reaches_address(INSIDE, timeout=5)


def test_with_net_admin_alone_it_forwards_masquerades_and_clamps(site: Site) -> None:
    site.pod.forbid_sysctls()
    site.pod.start(wrapper=NET_ADMIN_ONLY)
    status = site.activate()
    assert site.pod.capabilities() == NET_ADMIN
    assert status.forwarding.ipv4.ready
    assert not status.forwarding.ipv6.ready
    assert status.forwarding.ipv6.reason == "IPv6ForwardingOff"
    assert site.pod.node.run("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0", "only by netlink"
    site.connect()
    assert site.pings(site.server.ipv4), "masqueraded: the server has no way back to the client's address"
    assert not site.pings(site.server.ipv6)
    with site.server.node.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("", 80))
        listener.listen()
        listener.settimeout(10)
        with site.client.node.socket(socket.AF_INET, socket.SOCK_STREAM) as caller:
            site.client.node.run("ip", "link", "set", "wg0", "mtu", "1500")
            caller.settimeout(10)
            caller.connect((site.server.ipv4, 80))
            accepted, peer = listener.accept()
            with accepted:
                assert peer[0] == site.pod.host.ipv4
                offered = accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    assert offered <= 1420 - 40, "though the client's interface has an MTU of 1500"


def test_ipv6_is_forwarded_where_the_pod_may(site: Site) -> None:
    site.pod.start()
    assert site.activate().forwarding.ipv6.ready
    site.connect()
    assert site.pings(INSIDE_IPV6)
    assert site.pings(site.server.ipv6)


def test_the_outer_packets_may_be_ipv6(site: Site) -> None:
    site.pod.start()
    site.activate()
    site.client.start()
    join(site.client, site.keys, site.pod.host.ipv6)
    site.client.reaches_address(INSIDE)


def test_its_mtu_leaves_room_for_the_outer_headers(site: Site) -> None:
    site.pod.node.run("ip", "link", "set", "eth0", "mtu", "1450")
    site.pod.start()
    assert site.activate().mtu == 1370
    link = json.loads(site.pod.node.run("ip", "-j", "link", "show", "wg0"))[0]
    assert link["mtu"] == 1370


def addresses_of(pod: Pod) -> set[str]:
    (link,) = json.loads(pod.node.run("ip", "-j", "address", "show", "wg0"))
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}


def routes_of(pod: Pod) -> set[str]:
    return {r["dst"] for r in json.loads(pod.node.run("ip", "-j", "route", "show", "dev", "wg0"))}


def test_a_new_configuration_changes_the_network_and_not_the_sessions(site: Site) -> None:
    site.pod.start()
    site.activate()
    site.connect()
    old = site.pod.configuration
    spec = replace(
        old.tunnel,
        addresses=(f"{INSIDE}/24", "10.88.1.1/24"),
        routes=("192.168.50.0/24",),
        forwarding=ForwardingSpec(masquerade=False),
    )
    handshake = site.operator.status(site.pod).peers[0].last_handshake  # type: ignore[index]
    site.operator.call(site.pod, lambda s: s.put_config(replace(old, generation=2, tunnel=spec)))
    assert addresses_of(site.pod) == set(spec.addresses)
    assert "192.168.50.0/24" in routes_of(site.pod)
    assert "masquerade" not in site.pod.node.run("nft", "list", "ruleset")
    assert site.pings(INSIDE)
    assert site.operator.status(site.pod).peers[0].last_handshake == handshake  # type: ignore[index]
    site.operator.call(site.pod, lambda s: s.put_config(replace(old, generation=3)))
    assert addresses_of(site.pod) == set(old.tunnel.addresses)
    assert "192.168.50.0/24" not in routes_of(site.pod)
    assert "masquerade" in site.pod.node.run("nft", "list", "table", "inet", table_name("wg0"))


def test_what_the_kernel_refuses_changes_nothing(site: Site) -> None:
    site.pod.start()
    site.activate()
    site.connect()
    old = site.pod.configuration
    wrong = replace(old.tunnel, addresses=("10.77.0.1/24", "ff02::1/64"), routes=("192.168.50.0/24",))
    with pytest.raises(Refused, match=r"the kernel refused its network ff02::1/64"):
        site.operator.call(site.pod, lambda s: s.put_config(replace(old, generation=2, tunnel=wrong)))
    assert site.operator.status(site.pod).generation == 1
    assert addresses_of(site.pod) == set(old.tunnel.addresses)
    assert site.pings(INSIDE)


def test_a_revoked_peer_does_not_come_back_with_a_mount_that_lags(site: Site) -> None:
    site.pod.start()
    site.activate()
    site.connect()
    revoke = Patch(2, 1, remove=(site.client.keys.public,))
    site.operator.call(site.pod, lambda s: s.patch_peers(revoke))
    assert not site.pings(INSIDE)
    site.pod.running.kill()
    site.pod.start()
    status = site.operator.wait_for_api(site.pod)
    assert (status.role, status.generation) == (Role.ACTIVE, 2)
    assert not site.pings(INSIDE, "-c3")
    site.pod.mount(site.pod.configuration.at(3))
    site.pod.running.kill()
    site.pod.start()
    assert site.operator.wait_for_api(site.pod).generation == 3, "the newer one wins"
    # By itself the client would begin anew 15 s later.
    site.client.set("peer", site.keys.public, "remove")
    join(site.client, site.keys, site.pod.host.ipv4)
    site.client.reaches_address(INSIDE)


def test_a_client_that_roamed_is_still_found_after_a_new_configuration(site: Site) -> None:
    where = f"{site.client.host.ipv4}:51820"
    configured = Configuration.of(1, tunnel_spec(site.keys), [peer_spec(site.client, endpoint=where)])
    site.pod.mount(configured)
    site.pod.start()
    site.activate()
    site.connect()
    here = site.client.host.ipv4
    site.network.filters.readdress("client", here, here.rpartition(".")[0] + ".9", leave=True)
    site.client.reaches_address(INSIDE)
    site.operator.call(site.pod, lambda s: s.put_config(configured.at(2)))
    assert site.pod.node.attempt("ping", "-nqc2", "-W1", site.client.ipv4).returncode == 0


def test_one_of_many_peers_changes_and_nobody_elses_packet_is_lost(site: Site) -> None:
    others = [
        PeerSpec(KeyPair.generate().public, None, (f"10.99.{n >> 8}.{n & 255}/32",)) for n in range(300)
    ]
    first = site.pod.configuration
    many = Configuration.of(2, first.tunnel, [*first.peers.values(), *others])
    site.pod.start()
    site.activate()
    site.operator.call(site.pod, lambda s: s.put_config(many))
    site.connect()
    ping = site.client.node.start("ping", "-nq", "-i0.01", "-c200", INSIDE, log="ping")
    for number, peer in enumerate(others[:5]):
        patch = Patch(3 + number, 2 + number, (replace(peer, name="new"),), (others[-1 - number].public_key,))
        site.operator.call(site.pod, lambda s: s.patch_peers(patch))  # noqa: B023
    assert ping.wait(20) == 0
    assert "200 received" in ping.output()


def test_the_next_worker_serves_before_it_has_read_many_peers(site: Site) -> None:
    """It finds them as the former one left them, and is then told of changes as that one was."""
    others = [
        PeerSpec(KeyPair.generate().public, None, (f"10.99.{n >> 8}.{n & 255}/32",)) for n in range(3000)
    ]
    first = site.pod.configuration
    site.pod.start()
    site.activate()
    many = Configuration.of(2, first.tunnel, [*first.peers.values(), *others])
    site.operator.call(site.pod, lambda s: s.put_config(many))
    revoke = Patch(3, 2, remove=(others[0].public_key,))
    site.operator.call(site.pod, lambda s: s.patch_peers(revoke))
    site.connect()
    before = site.operator.status(site.pod)
    left = "/run/handfast/state/peers"
    read = ("od", "--read-bytes=8", "--format=u8", "--address-radix=n", left)
    wait_until(lambda: site.pod.node.attempt(*read).stdout.strip() == "3", 40, "what the next worker finds")
    site.pod.kill_worker()
    assert site.pings(INSIDE, "-c3")
    after = site.operator.wait_for_api(site.pod)
    assert (after.generation, after.incarnation) == (3, before.incarnation + 1)
    keys = {peer.public_key: peer for peer in after.peers or ()}
    assert len(keys) == 3000
    assert others[0].public_key not in keys
    client = site.client.keys.public
    assert keys[client].method == "resumed"
    again = Patch(4, 3, (others[0],), (client,))
    site.operator.call(site.pod, lambda s: s.patch_peers(again))
    assert not site.pings(INSIDE)


# --- probes -----------------------------------------------------------------------------------------


def fetch(site: Site, path: str) -> str:
    url = f"http://{site.pod.host.ipv4}:9586{path}"
    return site.network.router.run("curl", "-sS", "-w", " %{http_code}", "--max-time", "5", url)


def test_probes_say_yes_on_a_standby_too(site: Site) -> None:
    site.pod.start()
    site.operator.wait_for_api(site.pod)
    for path in ("/startupz", "/readyz", "/healthz"):
        assert fetch(site, path) == "ok\n 200"
    site.pod.node.run("ip", "link", "set", "wg0", "down")
    wait_until(lambda: fetch(site, "/readyz").endswith("503"), 5, "the interface to be down")
    assert fetch(site, "/healthz") == "ok\n 200"


def test_metrics_say_who_is_active(site: Site) -> None:
    spec = replace(site.pod.configuration.tunnel, metrics=MetricsSpec(per_peer=True))
    site.pod.mount(replace(site.pod.configuration, tunnel=spec))
    site.pod.start()
    site.operator.wait_for_api(site.pod)
    assert "handfast_active 0.0" in fetch(site, "/metrics")
    site.activate()
    site.connect()
    told = fetch(site, "/metrics")
    assert "handfast_active 1.0" in told
    assert "handfast_config_generation 1.0" in told
    assert 'handfast_handovers_total{result="activated"} 1.0' in told
    assert 'handfast_peers{state="connected"} 1.0' in told
    assert 'friendly_name="client"' in told


def test_what_cannot_start_says_why_in_one_line(network: Network) -> None:
    (host,) = network.add("pod")
    pod = Pod(host, Configuration.of(1, tunnel_spec(KeyPair.generate()), []))
    (pod.mounts / "config/config.jsonl.gz").write_bytes(b"nonsense")
    done = host.node.attempt(*pod.command())
    assert done.returncode == 1
    assert "no configuration in" in done.stderr.splitlines()[-1]
    assert "is the tunnel's Secret mounted there?" in done.stderr
