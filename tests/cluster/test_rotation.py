"""Certificates are replaced under an app that asks through its tunnel and answers in it: nobody notices."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping

import pytest

from handfast_operator import certificates
from handfast_operator.certificates import Credentials
from handfast_operator.names import CONTROL_PORT, tls_secret
from handfast_operator.store import secret_values
from tests.lab.namespaces import wait_until
from tests.lab.probes import Probes

from .admissions import WEBHOOK_PORT, Admissions, injectors, served_certificate
from .api import Api
from .cluster import Cluster
from .gateways import GATEWAY, SYSTEM, install
from .injected import (
    ALICE,
    WEBHOOK,
    Injected,
    app_of,
    asking,
    count_from_now,
    deployment,
    last_words,
    restarts_of,
    tunnel,
)
from .objects import container
from .outside import Outside

AGE = 11 * 24 * 3600
"""Seconds after which a certificate of thirty days is to be replaced."""
SECRET = f"{WEBHOOK}-tls"


@pytest.mark.soak
@pytest.mark.disturbs_nodes
@pytest.mark.timeout(400)
def test_certificates_are_renewed_under_load(api: Api, machines: Cluster, outside: Outside) -> None:
    """The sidecar's, the operator's and the injector's; then the injector's authority as well."""
    install(machines)
    app, system = Injected(api), Api(api.kubeconfig, SYSTEM)
    with Probes() as probes:
        app.begin(deployment("shop", asking(ALICE), container()), tunnel("branch"))
        client = app.alice(outside, probes)
        name, log = app.only(), probes.ask(client.host.node, GATEWAY)
        api.wait_ready(name)
        wait_until(lambda: log.settled(0), 20, "the app's answers")
        before, handshakes = app_of(api, name), client.handshakes()
        with last_words(api, name) as told:
            count_from_now(api, name)
            began = time.monotonic()
            with Admissions(api, "branch") as admissions:
                renew_the_sidecars(machines, api, system, name)
                renew_the_injectors(machines, system)
                replace_their_authority(machines, system)
            wait_until(lambda: log.settled(time.monotonic() - 1), 10, "answers")
            found = api.get("Pod", name)
            assert not log.unanswered(began, time.monotonic() - 1)
            assert (app_of(api, name), client.handshakes()) == (before, handshakes)
            assert restarts_of(found) == 0
            assert app.active == name
            api.delete("Pod", name)
    system.close()
    assert not admissions.refused
    assert admissions.admitted > 50
    assert told["asked"] > 100
    assert told["lost"] == 0


def renew_the_sidecars(cluster: Cluster, api: Api, system: Api, name: str) -> None:
    """It is found to be old by an operator that begins, which makes one for itself, too."""
    authority = Credentials(*(values(system, "handfast-ca")[key] for key in ("tls.crt", "tls.key")))
    old = certificates.tunnel_leaf(authority, api.namespace, "office", time.time() - AGE)
    write(api, tls_secret("office"), {"tls.crt": old.certificate, "tls.key": old.key})
    restart = (f"--namespace={SYSTEM}", "deployment/handfast")
    cluster.kubectl("rollout", "restart", *restart)

    def served() -> str:
        return served_certificate(cluster, api.get("Pod", name), CONTROL_PORT)

    def renewed() -> bool:
        new = values(api, tls_secret("office"))["tls.crt"]
        return new != old.certificate and served().strip() == new.strip()

    wait_until(renewed, 120, "the sidecar's new certificate", interval=0.5)
    cluster.kubectl("rollout", "status", *restart, "--timeout=90s", timeout=100)


def renew_the_injectors(cluster: Cluster, system: Api) -> None:
    there = values(system, SECRET)
    authority, names = Credentials(there["ca.crt"], there["ca.key"]), certificates.hosts(there["tls.crt"])
    old = certificates.webhook_leaf(authority, names, time.time() - AGE)
    write(system, SECRET, {"tls.crt": old.certificate, "tls.key": old.key})
    renewed = {old.certificate, there["tls.crt"]}
    wait_served(
        cluster, system, lambda new: new["ca.crt"] == there["ca.crt"] and new["tls.crt"] not in renewed
    )


def replace_their_authority(cluster: Cluster, system: Api) -> None:
    """As docs say, by emptying the Secret."""
    there = values(system, SECRET)
    system.patch("Secret", SECRET, {"data": None})
    wait_served(cluster, system, lambda new: new.get("ca.crt", there["ca.crt"]) != there["ca.crt"])


def wait_served(cluster: Cluster, system: Api, is_new: Callable[[Mapping[str, str]], bool]) -> None:
    """Until the Secret holds something new, and all injectors show it."""

    def done() -> bool:
        new = values(system, SECRET)
        return is_new(new) and {
            served_certificate(cluster, each, WEBHOOK_PORT).strip() for each in injectors(cluster)
        } == {new["tls.crt"].strip()}

    wait_until(done, 90, "the injectors' new certificate", interval=0.5)


def values(api: Api, secret: str) -> dict[str, str]:
    return secret_values(api.get("Secret", secret))


def write(api: Api, secret: str, texts: Mapping[str, str]) -> None:
    data = {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
    api.patch("Secret", secret, {"data": data})
