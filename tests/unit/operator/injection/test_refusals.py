"""Which pods are refused, and whether the sentence says what to do."""

from __future__ import annotations

from typing import Any

import pytest

from handfast_operator.injection.origin import Origin
from handfast_operator.injection.refusals import ENFORCE, Asked, refusal
from handfast_operator.resources import TunnelSpec

from .pods import SPEC, pod


def asked(
    pod: Any, *, tunnel: str = "office", origin: Origin | None = None, level: str = "", **spec: Any
) -> str | None:
    labels = {ENFORCE: level} if level else {}
    return refusal(Asked(pod, "vpn", labels, tunnel, TunnelSpec.model_validate(SPEC | spec), origin))


def with_port(container: str, number: int, protocol: str | None = None) -> Any:
    port = {"containerPort": number} | ({"protocol": protocol} if protocol else {})
    return pod(containers=[{"name": container, "ports": [port]}])


def test_a_pod_is_admitted() -> None:
    assert asked(pod()) is None
    assert asked(pod(), level="privileged") is None


def test_an_unknown_tunnel() -> None:
    reason = refusal(Asked(pod(), "vpn", {}, "ofice", None))
    assert reason is not None
    assert reason.startswith("there is no Tunnel ofice in the namespace vpn: make it")


@pytest.mark.parametrize(
    ("wrong", "what", "remedy"),
    [
        ({"tunnel": ""}, "is empty", "name a Tunnel"),
        ({"gateway": {}}, "has pods of its own", "name a Tunnel without that"),
        ({"pod": pod(shareProcessNamespace=True)}, "keys", "set it to false"),
        ({"pod": pod(hostNetwork=True)}, "the whole node's", "exposure: HostNetwork"),
        ({"level": "baseline"}, "level baseline", f"namespace vpn {ENFORCE}=privileged"),
        ({"level": "restricted"}, "level restricted", "kubectl label --overwrite"),
        (
            {"pod": with_port("dns", 51820, "UDP")},
            "the container dns has the UDP port 51820",
            "use another port",
        ),
        (
            {"pod": with_port("app", 9586)},
            "the TCP port 9586",
            "use another port",
        ),
        ({"origin": Origin("Deployment", "shop", 2)}, "Deployment shop has 2 pods", "Set replicas: 1"),
        ({"origin": Origin("DaemonSet", "shop", None)}, "has a pod on each node", 'standby: "true"'),
    ],
)
def test_refusals_say_what_to_do(wrong: dict[str, Any], what: str, remedy: str) -> None:
    reason = asked(**({"pod": pod()} | wrong))
    assert reason is not None
    assert what in reason
    assert remedy in reason


@pytest.mark.parametrize(
    "origin",
    [None, Origin("Deployment", "shop", 1), Origin("Job", "shop", 1), Origin("StatefulSet", "d", 0)],
)
def test_one_pod_needs_no_word(origin: Origin | None) -> None:
    assert asked(pod(), origin=origin) is None


@pytest.mark.parametrize("origin", [Origin("Deployment", "shop", 3), Origin("DaemonSet", "shop", None)])
def test_several_need_the_word(origin: Origin) -> None:
    assert asked(pod(labels={"handfast.dev/standby": "true"}), origin=origin) is None
    assert asked(pod(labels={"handfast.dev/standby": "yes"}), origin=origin) is not None


def test_another_tcp_port_of_that_number_is_fine() -> None:
    app = {"name": "app", "ports": [{"containerPort": 51820, "protocol": "TCP"}, {"containerPort": 8080}]}
    assert asked(pod(containers=[app])) is None
