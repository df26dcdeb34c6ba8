"""Each rule: a case in which it finds its fault, with why and what to do, and cases in which it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from handfast_plugin import faults
from handfast_plugin.faults import NO_TUN, Facts, Fault, Inside
from handfast_plugin.pods import Pod

from .objects import NOW, OTHER, POD, conditions, operator, pod, said, tunnel

WELL_INSIDE = Inside(POD, "node1", "wg0", {"lo": 65536, "eth0": 1500, "wg0": 1420}, 0.01)
WELL = Facts(
    tunnel(),
    labels={"pod-security.kubernetes.io/enforce": "privileged"},
    pods=[Pod.of(pod(), said()), Pod.of(pod(OTHER), said("standby"))],
    insides=[WELL_INSIDE, replace(WELL_INSIDE, pod=OTHER, node="node2")],
    certificate_ends=NOW + 20 * 86400,
    operators=[operator()],
    server="v1.31.0",
    now=NOW,
)
PATCH = "kubectl patch tunnel office --namespace=vpn --type=merge --patch="


def warning(message: str) -> dict[str, Any]:
    return {"metadata": {"name": "w"}, "type": "Warning", "message": message}


def of_tunnel(**statuses: tuple[str, str, str]) -> dict[str, Any]:
    return {"tunnel": tunnel(conditions=conditions(**statuses))}


def inside(**more: Any) -> dict[str, Any]:
    return {"insides": [WELL_INSIDE, replace(WELL_INSIDE, **more)]}


def only(what: str, **changes: Any) -> Fault:
    """The fault, which must be the only one: no other rule takes it for its own."""
    (found,) = faults.find(replace(WELL, **changes))
    assert found.what == what
    return found


def test_nothing_is_wrong() -> None:
    assert faults.find(WELL) == []
    assert (
        faults.find(replace(WELL, labels=None, insides=[], certificate_ends=None, operators=None, server=""))
        == []
    )
    assert faults.find(replace(WELL, labels={}, insides=[replace(WELL_INSIDE, swap=True)])) == []


def test_a_label_without_a_tunnel() -> None:
    """As in kube-system, which no injector serves."""
    shop = Pod.of(pod("shop"))
    found = only("injection", strangers=[shop])
    assert found.why.startswith("pod shop has the label handfast.dev/tunnel, and no tunnel of it")
    assert found.command.startswith("kubectl delete pod shop --namespace=vpn")
    assert faults.find(replace(WELL, strangers=[replace(shop, terminating=True)])) == []


@pytest.mark.parametrize("level", ["restricted", "baseline"])
def test_pod_security(level: str) -> None:
    found = only("Pod Security", labels={"pod-security.kubernetes.io/enforce": level})
    assert f"namespace vpn enforces {level}" in found.why
    assert found.command == (
        "kubectl label namespace vpn pod-security.kubernetes.io/enforce=privileged --overwrite"
    )


def test_pod_security_of_the_whole_cluster() -> None:
    refused = [warning('pods "office-x" is forbidden: violates PodSecurity "baseline:latest": ...')]
    assert "the cluster refuses" in only("Pod Security", labels={}, pods=[], warnings=refused).why
    # It was mended since: events stay for an hour.
    assert faults.find(replace(WELL, warnings=refused)) == []


def test_a_node_without_tun() -> None:
    said = "hostPath type check failed: /dev/net/tun is not a character device"
    assert "modprobe tun" in only(NO_TUN, warnings=[warning(said)]).command
    assert (
        faults.find(replace(WELL, warnings=[warning("hostPath type check failed: /data is no directory")]))
        == []
    )


@pytest.mark.parametrize(
    "words",
    [
        "handfast-tunnel: cannot open /dev/net/tun: Operation not permitted; allow this container to read it",
        "handfast-tunnel: cannot create the TUN interface wg0: not permitted; run as root",
    ],
)
def test_a_runtime_that_denies_tun(words: str) -> None:
    found = only(NO_TUN, logs={POD: f"starting\n{words}\n"})
    assert words.removeprefix("handfast-tunnel: ") in found.why
    assert found.command.startswith(PATCH)
    assert '"tunDevice":"Resource"' in found.command
    assert faults.find(replace(WELL, logs={POD: "Traceback"})) == []


@pytest.mark.parametrize(
    ("reason", "message", "command"),
    [
        (
            "IPv6ForwardingOff",
            "no IPv6 packets are forwarded",
            PATCH + '\'{"spec":{"forwarding":{"ipv6":"Off"}}}\'',
        ),
        ("IPv4ForwardingOff", "no IPv4 packets are forwarded", "sysctl net.ipv4.ip_forward=1"),
        ("FirewallRefused", "no IPv4 packets are forwarded", "modprobe --all nf_tables"),
    ],
)
def test_forwarding(reason: str, message: str, command: str) -> None:
    found = only("forwarding", **of_tunnel(ForwardingReady=("False", reason, message)))
    assert found.why == message
    assert found.command.startswith(command)
    assert faults.find(replace(WELL, **of_tunnel(ForwardingReady=("Unknown", "NoActivePod", "")))) == []


def test_mtu() -> None:
    found = only("MTU", **inside(mtu={"eth0": 1450, "wg0": 1420}))
    assert "is 1420, and that of the pod's network 1450" in found.why
    assert found.command == PATCH + '\'{"spec":{"mtu":null}}\''
    assert faults.find(replace(WELL, **inside(mtu={"eth0": 1450, "wg0": 1370}))) == []
    assert faults.find(replace(WELL, **inside(mtu={"eth0": 1450}))) == []


@pytest.mark.parametrize(("ahead", "where"), [(6.0, "6.0 s ahead of"), (-90.0, "90 s behind")])
def test_a_clock(ahead: float, where: str) -> None:
    found = only("clock", **inside(ahead=ahead, node="node7"))
    assert f"node node7's is {where} this machine's" in found.why
    assert found.command.startswith("timedatectl set-ntp true")
    assert faults.find(replace(WELL, **inside(ahead=ahead / 100))) == []


def test_swap() -> None:
    assert "node node1 swaps" in only("swap", **inside(swap=True, noswap=False)).why
    assert faults.find(replace(WELL, **inside(swap=False, noswap=False))) == []


@pytest.mark.parametrize(("days", "when"), [(6, "ends in 6d"), (-3, "ended 3d ago")])
def test_a_certificate(days: int, when: str) -> None:
    found = only("certificates", certificate_ends=NOW + days * 86400)
    assert f"that of Secret office-handfast-tls {when}" in found.why
    assert found.command == "kubectl rollout restart deployment/handfast --namespace=handfast-system"


def test_an_old_kubernetes() -> None:
    assert "Kubernetes is v1.30.9" in only("versions", server="v1.30.9").why
    assert faults.find(replace(WELL, server="v1.36.0-alpha.1+abc")) == []


def test_pods_of_another_version() -> None:
    newer = Pod.of(pod(OTHER), said("standby") | {"version": "0.2.0"})
    found = only("versions", pods=[Pod.of(pod(), said()), newer])
    assert "pods run 0.1.0, 0.2.0, the operator 0.1.0" in found.why
    assert found.command == "kubectl rollout status deployment/office --namespace=vpn"
    assert only("versions", pods=[newer]).why.startswith("pods run 0.2.0, the operator 0.1.0")


def test_no_operator() -> None:
    assert only("operator", operators=[]).command.startswith("helm install handfast")
    assert "no pod of Deployment handfast" in only("operator", operators=[operator(status={})]).why


def test_an_operator_that_does_not_look() -> None:
    found = only("operator", tunnel=tunnel(observedGeneration=2))
    assert "it has seen generation 2 of the Tunnel, which is at 3" in found.why


@pytest.mark.parametrize(
    ("kind", "finding", "command"),
    [
        ("KeyAvailable", ("False", "KeyMissing", "gone"), "kubectl get secrets"),
        ("EndpointReady", ("False", "Unknown", "no balancer"), "kubectl describe service office"),
        ("Active", ("False", "NoActivePod", "nobody"), "kubectl describe deployment,pods"),
        ("StandbyReady", ("False", "NoStandby", "nobody"), "kubectl describe deployment,pods"),
        (
            "Degraded",
            ("True", "NameTaken", "Service office is somebody else's"),
            "kubectl get deployment,service",
        ),
        ("Degraded", ("True", "TooManyPeers", "too many"), "kubectl describe tunnel office"),
    ],
)
def test_what_the_operator_has_found(kind: str, finding: tuple[str, str, str], command: str) -> None:
    found = only("conditions", **of_tunnel(**{kind: finding}))
    assert found.why == f"{kind}: {finding[2]}"
    assert found.command.startswith(command)


def test_what_is_well_or_wanted_is_no_fault() -> None:
    wanted = of_tunnel(
        Ready=("False", "NoActivePod", "repeats another"),
        StandbyReady=("False", "OneReplica", "with replicas: 1 there is none"),
        KeyAvailable=("Unknown", "NotRead", ""),
        Degraded=("False", "Fine", ""),
    )
    assert faults.find(replace(WELL, **wanted)) == []
