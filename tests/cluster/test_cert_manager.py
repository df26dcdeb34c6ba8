"""With cert-manager: an installation that begins to use it, what it renews, and the way back."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tests.lab.namespaces import wait_until

from .admissions import WEBHOOK_PORT, Admissions, injectors, served_certificate
from .api import Api
from .cert_manager import cert_manager
from .cluster import Cluster
from .gateways import CHART, SYSTEM, install, release
from .injected import WEBHOOK, tunnel

SECRET, OWN = f"{WEBHOOK}-cert-manager", f"{WEBHOOK}-tls"


@pytest.fixture
def cluster(machines: Cluster) -> Iterator[Cluster]:
    install(machines)
    with cert_manager(machines):
        try:
            yield machines
        finally:
            release(machines.settings.kubeconfig, "upgrade", CHART)
            left = (SECRET, f"{WEBHOOK}-ca")
            machines.kubectl("delete", "--ignore-not-found", f"--namespace={SYSTEM}", "secret", *left)


@pytest.fixture
def system(cluster: Cluster) -> Iterator[Api]:
    system = Api(cluster.settings.kubeconfig, SYSTEM)
    yield system
    system.close()


@pytest.mark.soak
@pytest.mark.disturbs_nodes
@pytest.mark.timeout(900)
def test_cert_manager_keeps_the_injectors_certificate(api: Api, cluster: Cluster, system: Api) -> None:
    """Nobody is refused when it begins to, when it renews the certificate, and when it ends."""
    api.apply(tunnel())
    api.wait("Tunnel", "office", lambda found: found.get("status", {}).get("configGeneration"))
    with Admissions(api, "office") as admissions:
        release(cluster.settings.kubeconfig, "upgrade", CHART, "--set", "injector.certManager.enabled=true")
        wait_served(cluster, system)
        assert system.find("Secret", OWN) is None, "it is the chart's, and gone"
        authority, first = held(system, "ca.crt"), held(system, "tls.crt")
        assert authority == held(system, "tls.crt", f"{WEBHOOK}-ca")
        assert authority in trusted(api)
        renew(cluster)
        wait_until(lambda: held(system, "tls.crt") != first, 60, "another certificate")
        wait_served(cluster, system)
        assert held(system, "ca.crt") == authority
        release(cluster.settings.kubeconfig, "upgrade", CHART)
        wait_served(cluster, system, OWN)
        assert trusted(api).startswith(held(system, "ca.crt", OWN))
    assert not admissions.refused
    assert admissions.admitted > 100


def renew(cluster: Cluster) -> None:
    """As `cmctl renew` does."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    where = (f"--namespace={SYSTEM}", "certificate", WEBHOOK, "--subresource=status")
    issuing = {"type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "lastTransitionTime": now}
    found = json.loads(
        cluster.kubectl("get", f"--namespace={SYSTEM}", "certificate", WEBHOOK, "--output=json")
    )
    conditions = [*found["status"]["conditions"], issuing | {"message": "by a test"}]
    patch = json.dumps({"status": {"conditions": conditions}})
    cluster.kubectl("patch", *where, "--type=merge", f"--patch={patch}")


def wait_served(cluster: Cluster, system: Api, secret: str = SECRET) -> None:
    """Until all injectors show what the Secret holds, which kubelets bring to them."""

    def done() -> bool:
        shown = {served_certificate(cluster, each, WEBHOOK_PORT).strip() for each in injectors(cluster)}
        return shown == {held(system, "tls.crt", secret).strip()}

    wait_until(done, 120, "the certificate", interval=0.5)


def held(system: Api, key: str, secret: str = SECRET) -> str:
    return base64.b64decode(system.get("Secret", secret)["data"][key]).decode()


def trusted(api: Api) -> str:
    (webhook,) = api.get("MutatingWebhookConfiguration", WEBHOOK)["webhooks"]
    return base64.b64decode(webhook["clientConfig"]["caBundle"]).decode()
