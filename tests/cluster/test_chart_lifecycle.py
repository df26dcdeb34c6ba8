"""An installation's life: from the release before to this one, back, to another image, and to nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.lab.namespaces import wait_until
from tests.lab.probes import Log, Probes

from .api import Api
from .cluster import Cluster
from .gateways import CHART, GATEWAY, OPERATORS, SYSTEM, Gateway, helm, peer, release
from .outside import Outside

RELEASED = CHART.parent / "released"
"""Each release's packaged chart."""
BEFORE = RELEASED / "handfast-0.1.0-alpha.1.tgz"
UNINSTALL_SECONDS = 60
_GONE = ("--wait", "--ignore-not-found")
_NOTHING_KEPT = ("--set", "crds.keep=false")
_NOT_OURS = {"componentstatuses", "events", "events.events.k8s.io"}


@pytest.fixture
def cluster(machines: Cluster) -> Iterator[Cluster]:
    """Without the chart before, nor what it keeps; and without it afterwards."""
    uninstall(machines)
    (machines.settings.state / "installed").unlink(missing_ok=True)
    for kept in (
        ("crd", "tunnels.handfast.dev", "peers.handfast.dev"),
        ("--namespace", SYSTEM, "secret", "handfast-ca"),
        ("--namespace", SYSTEM, "lease", "handfast-operator"),
    ):
        machines.kubectl("delete", "--ignore-not-found", *kept)
    yield machines
    uninstall(machines)


def uninstall(cluster: Cluster) -> None:
    helm(cluster.settings.kubeconfig, "uninstall", "handfast", "--namespace", SYSTEM, *_GONE)


def present(cluster: Cluster, *namespaces: str) -> set[str]:
    """All objects of the cluster itself and of some namespaces."""
    found = set[str]()
    for namespace in ("", *namespaces):
        scope = [f"--namespaced={'true' if namespace else 'false'}"]
        kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name", *scope).split()
        where = [f"--namespace={namespace}"] if namespace else []
        names = cluster.kubectl(
            "get", ",".join(sorted({*kinds} - _NOT_OURS)), "--output=name", "--ignore-not-found", *where
        )
        found |= {f"{namespace} {name}" for name in names.split()}
    return found


def pods_of(gateway: Gateway) -> dict[str, tuple[int, str]]:
    """Restarts and image of each pod whose container has begun."""
    return {
        pod["metadata"]["uid"]: (status["restartCount"], pod["spec"]["containers"][0]["image"])
        for pod in gateway.pods()
        for status in pod["status"].get("containerStatuses", ())
    }


@pytest.mark.soak
@pytest.mark.disturbs_nodes
@pytest.mark.timeout(600)
def test_install_upgrade_roll_back_and_uninstall(api: Api, cluster: Cluster, outside: Outside) -> None:
    kubeconfig = cluster.settings.kubeconfig
    system = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}}
    api.apply(system)
    gateway, others = Gateway(api), (SYSTEM, api.namespace)
    before = present(cluster, *others)
    release(kubeconfig, "install", BEFORE)
    gateway.up(peer("alice"))
    client, echo = gateway.client(outside.add("alice"), "alice"), gateway.put_behind()
    pods = pods_of(gateway)
    with Probes() as probes:
        log = probes.ask(client.host.node, echo)
        wait_until(lambda: log.arrived, 5, "the first answer")
        began = time.monotonic()
        # Another operator's image: with the same one not even its pods would be others.
        release(kubeconfig, "upgrade", CHART, operator=2)
        assert undisturbed(gateway, pods, log, began)
        helm(kubeconfig, "rollback", "handfast", "1", "--namespace", SYSTEM, "--wait")
        assert undisturbed(gateway, pods, log, began)
    release(kubeconfig, "upgrade", CHART, *_NOTHING_KEPT, operator=2, tunnel=2)
    wait_until(lambda: pods.keys().isdisjoint(pods_of(gateway)), 90, "all pods to be others")
    assert {image.rpartition(":")[2] for _, image in pods_of(gateway).values()} == {"2"}
    client.wait_connected(GATEWAY, 30)
    helm(kubeconfig, "test", "handfast", "--namespace", SYSTEM)
    api.delete("Pod", "echo", grace=0)
    leave_nothing(cluster, before, *others)


def undisturbed(gateway: Gateway, pods: dict[str, tuple[int, str]], log: Log, began: float) -> bool:
    """A moment after an operator has begun: pods are the same, and each probe was answered."""
    gateway.wait_ready()
    end = time.monotonic()
    wait_until(lambda: log.settled(end), 10, "the last answers")
    lost = log.unanswered(began, end)
    assert not lost, f"of {len(log.sent)} probes, those after so many seconds: {lost}"
    return pods_of(gateway) == pods


def leave_nothing(cluster: Cluster, before: set[str], *namespaces: str) -> None:
    """Whatever the operator made goes without it, but for the key that the Tunnel is to leave."""
    system = Api(cluster.settings.kubeconfig, SYSTEM)
    system.patch("Deployment", "handfast", {"spec": {"replicas": 0}})
    wait_until(lambda: not system.list("Pod", OPERATORS), 60, "the operator's end")
    system.close()
    began = time.monotonic()
    uninstall(cluster)
    kept = {f"{namespaces[-1]} secret/office-handfast-key"}
    wait_until(
        lambda: present(cluster, *namespaces) - before <= kept,
        UNINSTALL_SECONDS - (time.monotonic() - began),
        "everything to be gone",
        interval=1,
    )
    assert present(cluster, *namespaces) - before == kept
