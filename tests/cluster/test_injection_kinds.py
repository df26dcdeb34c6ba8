"""The tunnel in pods of a DaemonSet, and as a pod's only way out."""

from __future__ import annotations

import time
from dataclasses import dataclass

from handfast_operator.names import CONTROL_PORT
from tests.lab.namespaces import wait_until
from tests.lab.network import Host
from tests.lab.probes import ECHO_PORT, Probes

from .admissions import served_certificate
from .api import Api
from .cluster import Cluster
from .gateways import GATEWAY, peer
from .injected import (
    ALICE,
    Injected,
    asking,
    complaints,
    count_from_now,
    daemon_set,
    deployment,
    last_words,
    restarts_of,
    sharing,
    tunnel,
)
from .insiders import Insiders
from .objects import container
from .outside import Outside
from .settings import API_SERVICE

EVERYWHERE = "0.0.0.0/0"
BOUND = 10.0
"""Seconds without an answer, at most, where the next pod is there already."""
_RESOLVE = "import socket; print(socket.gethostbyname('kubernetes.default'))"


def test_of_a_daemon_sets_pods_one_has_the_tunnel(
    app: Injected, machines: Cluster, outside: Outside, probes: Probes
) -> None:
    """And another one follows, whether that one ends or all are replaced."""
    api = app.api
    app.prepare()
    api.apply(daemon_set("alone", container()))
    wait_until(lambda: "DaemonSet alone has a pod on each node" in complaints(api), 30, "the refusal")
    api.delete("DaemonSet", "alone")
    api.apply(sharing(daemon_set("agent", container())))
    app.wait_ready()
    client = app.alice(outside, probes)
    wait_both(app)
    assert {each["spec"]["nodeName"] for each in app.pods()} == set(machines.settings.node_names)
    log, old = probes.ask(client.host.node, GATEWAY), app.active
    wait_until(lambda: log.arrived, 5, "the first answer")
    began = time.monotonic()
    api.delete("Pod", old)
    app.wait_active(old)
    wait_both(app)
    rollout = ("daemonset/agent", f"--namespace={api.namespace}")
    machines.kubectl("rollout", "restart", *rollout)
    machines.kubectl("rollout", "status", *rollout, "--timeout=90s", timeout=100)
    wait_both(app)
    end = time.monotonic()
    wait_until(lambda: log.settled(end), 20, "answers")
    assert log.longest_silence(began) < BOUND


def wait_both(app: Injected) -> None:
    """One active, and one that stands by."""
    app.api.wait("Tunnel", app.name, lambda found: found["status"].get("standbys") == 1, 60, "a standby")
    app.api.wait_ready(*(each["metadata"]["name"] for each in app.pods()))


@dataclass
class Internet:
    """A host that answers whoever comes by the exit; what comes another way is counted."""

    host: Host

    def allow_only(self, source: str) -> None:
        rules = f"""
            table ip watch {{
                counter past {{}}
                chain input {{
                    type filter hook input priority filter
                    udp dport {ECHO_PORT} ip saddr != {source} counter name past drop
                }}
            }}
        """
        self.host.node.run("nft", "-f", "-", input=rules)

    @property
    def past(self) -> int:
        shown = self.host.node.run("nft", "list", "counter", "ip", "watch", "past").split()
        return int(shown[shown.index("packets") + 1])


def test_a_tunnel_can_be_a_pods_only_way_out(
    app: Injected, machines: Cluster, outside: Outside, probes: Probes
) -> None:
    """Names of the cluster are found, whoever asks the pod is answered, and nothing else leaves past the
    tunnel, even while its container restarts."""
    api, internet = app.api, Internet(outside.add("internet"))
    leaves_by = outside.add("alice", nat=True)
    internet.allow_only(leaves_by.ipv4)
    probes.answer(internet.host.node)
    api.apply(tunnel(allowedRoutes=[EVERYWHERE]), peer("alice", addresses=[ALICE], routes=[EVERYWHERE]))
    api.apply(deployment("shop", asking(internet.host.ipv4), container()))
    app.wait_ready()
    app.wait_peer("alice")
    app.client(leaves_by, "alice", ("10.8.0.0/24",))
    become_exit(leaves_by)
    name = app.only()
    api.wait_ready(name)
    reach(api, name, internet)
    with last_words(api, name) as told:
        count_from_now(api, name)
        assert api.exec(name, "python3", "-c", _RESOLVE, container="main").strip() == API_SERVICE
        assert served_certificate(machines, api.get("Pod", name), CONTROL_PORT)
        api.delete("Pod", name)
    assert told["asked"] > 5
    assert told["lost"] == 0
    new = app.wait_active(name)
    reach(api, new, internet)
    Insiders(machines, app).of(new).kill()
    api.wait("Pod", new, lambda found: restarts_of(found) == 1)
    reach(api, new, internet)
    assert internet.past == 0


def become_exit(host: Host) -> None:
    rules = """
        table ip exit {
            chain out {
                type nat hook postrouting priority srcnat
                oifname "eth0" masquerade
            }
        }
    """
    host.node.run("nft", "-f", "-", input=rules)
    host.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")


def reach(api: Api, pod: str, internet: Internet) -> None:
    """From the app, by the tunnel."""
    api.wait_ready(pod)
    api.exec(pod, "python3", "/workload.py", "reach", internet.host.ipv4, container="main", timeout=60)
