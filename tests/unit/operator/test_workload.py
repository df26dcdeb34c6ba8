"""From a spec to what runs."""

from __future__ import annotations

from typing import Any

import pytest

from handfast_operator import names
from handfast_operator.settings import Settings
from handfast_operator.workload import endpoint, grace_seconds, objects, selector

from .objects import OWNER, tunnel_spec

SETTINGS = Settings(tunnel_image="tunnel:1", operator_labels={"app": "operator"})


def made(**gateway: Any) -> dict[str, dict[str, Any]]:
    spec = tunnel_spec(gateway=gateway)
    return {body["kind"]: body for body in objects(OWNER, spec, SETTINGS)}


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return found


def test_a_gateway_is_four_objects_that_go_with_the_tunnel() -> None:
    found = made()
    assert set(found) == {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"}
    for body in found.values():
        (owner,) = body["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["uid"]) == ("Tunnel", OWNER.uid)
        assert "blockOwnerDeletion" not in owner


def test_without_a_gateway_there_is_a_service_and_nothing_that_binds_other_peoples_pods() -> None:
    """Neither a policy, which would shut out whom their apps serve, nor a budget."""
    (service,) = objects(OWNER, tunnel_spec(gateway=None, injection={"exposure": "NodePort"}), SETTINGS)
    assert (service["kind"], service["spec"]["type"]) == ("Service", "NodePort")
    assert service["spec"]["publishNotReadyAddresses"], "an app may become ready by its tunnel only"
    assert "publishNotReadyAddresses" not in made()["Service"]["spec"]


def test_without_a_gateway_nothing_is_reached_from_outside_unless_asked_for() -> None:
    (service,) = objects(OWNER, tunnel_spec(gateway=None), SETTINGS)
    assert service["spec"]["type"] == "ClusterIP"


def test_an_injected_tunnels_endpoint_is_its_services() -> None:
    assert endpoint(tunnel_spec(gateway=None), CLUSTER_IP, None)[0] == "10.96.1.2:51820"


def test_when_a_pod_hands_over() -> None:
    assert tunnel_spec().hands_over == "Auto"
    assert tunnel_spec(gateway=None).hands_over == "AfterApp"
    assert tunnel_spec(gateway=None, recovery={"handover": "Auto"}).hands_over == "Auto"


def test_a_disruption_budget_only_where_there_is_a_second_pod() -> None:
    assert "PodDisruptionBudget" not in made(replicas=1)


@pytest.mark.parametrize("exposure", ["HostPort", "HostNetwork"])
def test_on_a_nodes_port_pods_follow_each_other(exposure: str) -> None:
    found = made(exposure=exposure, replicas=1, acceptHostNetwork=True)
    assert "Service" not in found
    assert found["Deployment"]["spec"]["strategy"] == {"type": "Recreate"}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert pod.get("hostNetwork", False) is (exposure == "HostNetwork")
    assert container(found["Deployment"])["ports"][0].get("hostPort") == (
        51820 if exposure == "HostPort" else None
    )


def test_the_container_has_what_it_needs_and_no_more() -> None:
    security = container(made()["Deployment"])["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert made()["Deployment"]["spec"]["template"]["spec"]["automountServiceAccountToken"] is False


def test_a_low_port_needs_a_capability() -> None:
    spec = tunnel_spec(listenPort=443)
    found = {body["kind"]: body for body in objects(OWNER, spec, SETTINGS)}
    assert "NET_BIND_SERVICE" in container(found["Deployment"])["securityContext"]["capabilities"]["add"]


def test_grace_covers_offer_and_end() -> None:
    pod = made()["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == grace_seconds() > 10 + 5


def test_hooks_are_programs() -> None:
    """An HTTP hook could not present a certificate."""
    for hook in container(made()["Deployment"])["lifecycle"].values():
        assert set(hook) == {"exec"}
        assert hook["exec"]["command"][0] == "handfast-tunnel"


def test_readiness_asks_neither_for_role_nor_load_and_nothing_kills_it() -> None:
    found = container(made()["Deployment"])
    assert found["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert "livenessProbe" not in found


def test_a_device_plugin_replaces_the_nodes_device() -> None:
    spec = tunnel_spec(pod={"tunDevice": "Resource", "tunResourceName": "example.com/tun"})
    found = {body["kind"]: body for body in objects(OWNER, spec, SETTINGS)}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    assert container(found["Deployment"])["resources"]["limits"] == {"example.com/tun": "1"}
    assert all("hostPath" not in volume for volume in pod["volumes"])


def test_the_services_selector_is_not_the_specs_to_say() -> None:
    assert "selector" not in made()["Service"]["spec"]
    assert selector("office", None) == {names.TUNNEL_LABEL: "office", names.POD_LABEL: names.NOBODY}
    assert selector("office", "office-1")[names.POD_LABEL] == "office-1"


def test_every_port_names_its_protocol() -> None:
    """Server-side apply takes lists of ports for maps by port and protocol."""
    found = made()
    ports = [*found["Service"]["spec"]["ports"], *container(found["Deployment"])["ports"]]
    ports += [port for rule in found["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert len(ports) == 7
    assert all(port["protocol"] in {"TCP", "UDP"} for port in ports)


def test_control_is_for_the_operator_and_the_tunnels_own_pods() -> None:
    rules = made()["NetworkPolicy"]["spec"]["ingress"]
    (control,) = [rule for rule in rules if rule["ports"][0]["port"] == names.CONTROL_PORT]
    operator, same = control["from"]
    assert operator["podSelector"]["matchLabels"] == {"app": "operator"}
    assert operator["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "handfast-system"}
    assert same == {"podSelector": {"matchLabels": {names.TUNNEL_LABEL: "office"}}}
    (udp,) = [rule for rule in rules if rule["ports"][0]["protocol"] == "UDP"]
    assert "from" not in udp


def test_the_services_options() -> None:
    service = made(
        exposure="LoadBalancer",
        externalTrafficPolicy="Local",
        nodePort=30001,
        loadBalancerClass="example.com/lb",
        serviceAnnotations={"a": "b"},
    )["Service"]
    assert service["metadata"]["annotations"] == {"a": "b"}
    assert service["spec"]["externalTrafficPolicy"] == "Local"
    assert service["spec"]["loadBalancerClass"] == "example.com/lb"
    assert service["spec"]["ports"][0]["nodePort"] == 30001


CLUSTER_IP = {"spec": {"clusterIP": "10.96.1.2", "ports": [{"port": 51820, "nodePort": 30001}]}}


@pytest.mark.parametrize(
    ("exposure", "service", "host", "expected"),
    [
        ("ClusterIP", CLUSTER_IP, None, "10.96.1.2:51820"),
        ("NodePort", CLUSTER_IP, "10.0.0.5", "10.0.0.5:30001"),
        ("NodePort", CLUSTER_IP, "fd00::5", "[fd00::5]:30001"),
        ("NodePort", CLUSTER_IP, None, None),
        ("LoadBalancer", CLUSTER_IP, "10.0.0.5", None),
        ("HostPort", None, "10.0.0.5", "10.0.0.5:51820"),
        ("HostPort", None, None, None),
        ("ClusterIP", None, None, None),
    ],
)
def test_the_endpoint(exposure: str, service: Any, host: str | None, expected: str | None) -> None:
    replicas = 1 if exposure == "HostPort" else 2
    found, why = endpoint(tunnel_spec(gateway={"exposure": exposure, "replicas": replicas}), service, host)
    assert found == expected
    assert why


@pytest.mark.parametrize(
    ("ingress", "expected"),
    [({"ip": "203.0.113.5"}, "203.0.113.5:51820"), ({"hostname": "lb.example.com"}, "lb.example.com:51820")],
)
def test_a_load_balancers_endpoint(ingress: dict[str, str], expected: str) -> None:
    service = {**CLUSTER_IP, "status": {"loadBalancer": {"ingress": [ingress]}}}
    assert endpoint(tunnel_spec(), service, None)[0] == expected


def test_a_given_endpoint_comes_first() -> None:
    spec = tunnel_spec(client={"endpoint": "vpn.example.com:443"})
    assert endpoint(spec, CLUSTER_IP, None)[0] == "vpn.example.com:443"
