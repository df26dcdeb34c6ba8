"""The tunnel in anybody's pods: from a label to the first byte, and to every end that such a pod can have."""

from __future__ import annotations

import base64
import json
import time

import pytest
import yaml
from kubernetes.client.exceptions import ApiException

from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

from .api import Api, Object, condition
from .cluster import Cluster
from .gateways import GATEWAY, SYSTEM, Gateway
from .injected import (
    ALICE,
    SIDECAR,
    WEBHOOK,
    Injected,
    app_of,
    asking,
    complaints,
    deployment,
    image_of,
    job,
    last_words,
    pod,
    restarts_of,
    sharing,
    stateful_set,
    tunnel,
)
from .objects import TUNNEL, TUNNEL_2, container
from .outside import Outside
from .rights import granted, used
from .settings import ClusterError

_FAILED, _UPGRADING = "handfast.dev/upgrade-failed", "handfast.dev/upgrading"
STOCK_OUTAGE = 15.0
"""Seconds that clients of any other WireGuard need at least, when they are sending."""
_INJECTORS = f"app.kubernetes.io/name={WEBHOOK}"


def test_from_a_label_to_the_first_byte(app: Injected, outside: Outside, probes: Probes) -> None:
    """Both ways, for init containers too, and whatever the pod's own security says."""
    first = container("migrate", args=["reach", ALICE])
    as_somebody = {"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000}
    listening = {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]}
    shop = deployment(
        "shop", asking(ALICE), container(), initContainers=[first], securityContext=as_somebody | listening
    )
    app.begin(shop)
    client = app.alice(outside, probes)
    name = app.only()
    app.api.wait_ready(name)
    log = probes.ask(client.host.node, GATEWAY)
    wait_until(lambda: len(log.arrived) > 10, 10, "the app's answers through the tunnel")
    found = app.api.get("Pod", name)
    assert [each["name"] for each in found["spec"]["initContainers"]] == [SIDECAR, "migrate"]
    assert app.active == name


def test_what_an_app_asks_is_answered_until_it_has_exited(
    app: Injected, outside: Outside, probes: Probes
) -> None:
    """It asks for three seconds after its SIGTERM; then its clients move to the next pod."""
    app.begin(deployment("shop", asking(ALICE, linger=3)))
    app.alice(outside, probes)
    old = app.only()
    app.api.wait_ready(old)
    with last_words(app.api, old) as told:
        app.api.delete("Pod", old)
        app.wait_active(old)
    assert told["lost"] == 0
    assert told["asked"] > 20


def test_an_app_that_serves_hands_its_clients_over_at_once(
    app: Injected, outside: Outside, probes: Probes
) -> None:
    """Auto, with a second pod that stands by: while the old app still runs, the new one serves."""
    app.begin(sharing(deployment("shop", container(linger=5), replicas=2)), recovery={"handover": "Auto"})
    client = app.alice(outside, probes)
    app.api.wait("Tunnel", "office", lambda found: found["status"]["standbys"] == 1)
    log, old = probes.ask(client.host.node, GATEWAY), app.active
    wait_until(lambda: log.arrived, 5, "the first answer")
    began = time.monotonic()
    app.api.delete("Pod", old)
    app.wait_active(old)
    running = app.api.get("Pod", old)["status"]["containerStatuses"][0]["state"]
    wait_until(lambda: log.settled(time.monotonic() - 1), 10, "answers")
    assert "running" in running, "its clients were with the new one before it had ended"
    assert log.longest_silence(began) < STOCK_OUTAGE / 3


def test_pods_that_may_not_have_it_are_refused_with_a_sentence(app: Injected, machines: Cluster) -> None:
    api = app.api
    app.prepare()
    assert "there is no Tunnel ofice" in refused(api, pod("shop", tunnel="ofice"))
    assert "keys" in refused(api, pod("shop", shareProcessNamespace=True))
    system = Api(api.kubeconfig, SYSTEM)
    assert f"there is no Tunnel office in the namespace {SYSTEM}" in refused(system, pod("shop"))
    system.close()
    Gateway(api, "branch").start()
    assert "has pods of its own" in refused(api, pod("shop", tunnel="branch"))
    api.apply(deployment("many", container(), replicas=2))
    wait_until(lambda: "Deployment many has 2 pods" in complaints(api), 20, "the refusal of a second pod")
    assert not api.list("Pod", "app=many")
    api.apply(pod("first"))
    assert "Pod first has pods with the Tunnel office already" in refused(api, pod("shop"))
    machines.kubectl("label", "namespace", api.namespace, "pod-security.kubernetes.io/enforce=baseline")
    assert "Pod Security level baseline" in refused(api, pod("shop"))


def refused(api: Api, wanted: Object) -> str:
    with pytest.raises(ApiException) as caught:
        api.apply(wanted)
    assert caught.value.status == 403
    return str(caught.value.body)


def test_a_job_ends_with_its_work(app: Injected, outside: Outside, probes: Probes) -> None:
    """Its sidecar offers itself to nobody for longer than the news of that takes."""
    app.prepare()
    app.api.apply(job("import", container(args=["reach", ALICE])))
    app.alice(outside, probes)
    app.api.wait("Job", "import", lambda found: found["status"].get("succeeded") == 1, 60)


def test_an_upgrade_leaves_app_and_sessions_alone(
    app: Injected, machines: Cluster, outside: Outside, probes: Probes
) -> None:
    """From an explicit sidecar with another image to the operator's: in its place, once somebody lets the
    operator, and it is tried again."""
    app.prepare()
    explicit = snippet(machines, app.api, "office")
    (sidecar,) = explicit["spec"]["initContainers"]
    assert sidecar["image"] == TUNNEL
    sidecar["image"] = TUNNEL_2
    shop = pod("shop", asking(ALICE), container(), **explicit["spec"])
    shop["metadata"]["annotations"] = {_FAILED: f"{TUNNEL} it was so"}
    app.api.apply(shop)
    app.wait_ready()
    client = app.alice(outside, probes)
    app.api.wait_ready("shop")
    log = probes.ask(client.host.node, GATEWAY)
    wait_until(lambda: log.arrived, 5, "the first answer")
    before, handshakes = app_of(app.api, "shop"), client.handshakes()
    assert image_of(app.api.get("Pod", "shop")) == TUNNEL_2
    assert app.condition("Degraded") == "False", "its image is not the operator's to replace"
    app.api.patch("Pod", "shop", {"metadata": {"annotations": {"handfast.dev/upgrades": "true"}}})
    app.api.wait("Tunnel", "office", lambda found: condition(found, "Degraded") == "True")
    app.api.patch("Pod", "shop", {"metadata": {"annotations": {_FAILED: None}}})
    app.api.wait("Tunnel", "office", lambda found: condition(found, "Degraded") == "False")
    app.api.wait("Pod", "shop", lambda found: image_of(found) == TUNNEL and restarts_of(found) == 1, 90)
    wait_until(lambda: {"UpgradeFailed", "Upgraded"} <= reasons(app.api), 60, "the operator's words")
    assert app_of(app.api, "shop") == before
    assert client.handshakes() == handshakes
    wait_until(lambda: log.settled(time.monotonic() - 1), 10, "answers")


def test_an_image_that_cannot_be_pulled_is_taken_back(
    app: Injected, outside: Outside, probes: Probes
) -> None:
    """As if an operator had begun with it, which another one succeeded."""
    app.begin(deployment("shop", container()))
    client = app.alice(outside, probes)
    name, handshakes = app.only(), client.handshakes()
    before = app_of(app.api, name)
    begun = {"image": TUNNEL, "restarts": 0, "role": "active", "at": time.time(), "sessions": []}
    sidecar = {"name": SIDECAR, "image": "localhost:1/tunnel:none"}
    app.api.patch(
        "Pod",
        name,
        {
            "metadata": {"annotations": {_UPGRADING: json.dumps(begun)}},
            "spec": {"initContainers": [sidecar]},
        },
    )
    app.api.wait("Pod", name, lambda found: image_of(found) == TUNNEL and restarts_of(found) == 1, 60)
    notes = app.api.get("Pod", name)["metadata"]["annotations"]
    assert notes[_FAILED].startswith(f"{sidecar['image']} its image cannot be pulled (")
    assert _UPGRADING not in notes
    log = probes.ask(client.host.node, GATEWAY)
    wait_until(lambda: log.arrived, 20, "an answer")
    assert (app_of(app.api, name), client.handshakes()) == (before, handshakes)


def snippet(cluster: Cluster, api: Api, tunnel: str) -> Object:
    """As docs tell people to have it printed, with the images of the installation."""
    body = cluster.kubectl("get", "tunnel", tunnel, f"--namespace={api.namespace}", "--output=yaml")
    where = ("exec", "--stdin", f"--namespace={SYSTEM}", "deploy/handfast", "--")
    made: Object = yaml.safe_load(cluster.kubectl(*where, "handfast-operator", "snippet", input=body))
    return made


def reasons(api: Api) -> set[str]:
    return {each["reason"] for each in api.list("Event")}


@pytest.mark.soak
@pytest.mark.disturbs_nodes
def test_without_injectors_pods_go_on_and_new_ones_are_refused(
    app: Injected, outside: Outside, probes: Probes
) -> None:
    """And with a certificate that was made anew they are admitted again."""
    app.begin(deployment("shop", container()))
    client = app.alice(outside, probes)
    log = probes.ask(client.host.node, GATEWAY)
    wait_until(lambda: log.arrived, 5, "the first answer")
    began = time.monotonic()
    system = Api(app.api.kubeconfig, SYSTEM)
    try:
        system.patch("Deployment", WEBHOOK, {"spec": {"replicas": 0}})
        wait_until(lambda: not system.list("Pod", _INJECTORS), 60, "the injectors' end")
        system.patch("Secret", f"{WEBHOOK}-tls", {"data": None})
        with pytest.raises(ApiException) as caught:
            app.api.apply(pod("late", container()))
        assert "pods.handfast.dev" in str(caught.value.body)
    finally:
        system.patch("Deployment", WEBHOOK, {"spec": {"replicas": 2}})
        system.wait("Deployment", WEBHOOK, lambda found: found["status"].get("availableReplicas") == 2)
        system.close()
    app.api.apply(tunnel("branch"), pod("late", container(), tunnel="branch"))
    assert image_of(app.api.get("Pod", "late")) == TUNNEL
    assert not log.unanswered(began, time.monotonic() - 1)


def test_what_the_injector_may_do_is_what_it_does(app: Injected, machines: Cluster) -> None:
    """Asked about pods of every kind of origin; the audit of the whole run is looked at."""
    app.prepare()
    rights = granted(app.api, WEBHOOK)
    app.api.apply(
        sharing(deployment("shop", container())),
        sharing(stateful_set("data", container())),
        sharing(job("work", container(args=["idle"]))),
    )

    def unused() -> set[object]:
        uses = used(machines, WEBHOOK)
        return {right for right in rights if not any(use.of(right) for use in uses)}

    assert rights
    wait_until(lambda: not unused(), 30, "the use of all that is granted", interval=0.5)
    assert not {use for use in used(machines, WEBHOOK) if not use.allowed}


def test_of_its_webhook_the_injector_may_change_the_trust_only(app: Injected, machines: Cluster) -> None:
    """Whoever has its account could else be sent anybody's objects."""
    (webhook,) = app.api.get("MutatingWebhookConfiguration", WEBHOOK)["webhooks"]

    def change(*path: str, value: object) -> str:
        where = "/".join(("/webhooks/0", *path))
        patch = json.dumps([{"op": "replace", "path": where, "value": value}])
        return machines.kubectl(
            *("patch", "mutatingwebhookconfiguration", WEBHOOK, "--type=json", f"--patch={patch}"),
            *(f"--as=system:serviceaccount:{SYSTEM}:{WEBHOOK}", "--dry-run=server"),
        )

    trusted = base64.b64decode(webhook["clientConfig"]["caBundle"])
    more = base64.b64encode(trusted + trusted).decode()
    assert "patched" in change("clientConfig", "caBundle", value=more)
    for path, value in (
        (("rules", "0", "resources"), ["secrets"]),
        (("clientConfig", "service", "name"), "other"),
        (("failurePolicy",), "Ignore"),
        (("objectSelector",), {}),
    ):
        with pytest.raises(ClusterError, match="may change nothing but the caBundle"):
            change(*path, value=value)
