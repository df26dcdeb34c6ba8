"""What becomes of a pod."""

from __future__ import annotations

from typing import Any

import pytest

from handfast_operator import container
from handfast_operator.injection.pod import injected
from handfast_operator.resources import TunnelSpec
from handfast_operator.settings import Settings

from .pods import SETTINGS, SPEC, pod


def spec(**changes: Any) -> TunnelSpec:
    return TunnelSpec.model_validate(SPEC | changes)


def inject(asked: Any, settings: Settings = SETTINGS, /, **changes: Any) -> Any:
    return injected(asked, "office", spec(**changes), settings)


def sidecar(asked: Any, /, **changes: Any) -> Any:
    return inject(asked, **changes)["initContainers"][0]


def test_the_sidecar_is_the_first_that_begins() -> None:
    """Init containers may need the tunnel."""
    made = inject(pod(initContainers=[{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}]))
    assert [each["name"] for each in made["initContainers"]] == ["handfast-tunnel", "migrate", "proxy"]
    assert made["initContainers"][0]["restartPolicy"] == "Always"


def test_the_app_is_what_it_was() -> None:
    before = pod(serviceAccountName="shop", volumes=[{"name": "data", "emptyDir": {}}])
    made = inject(before)
    assert made["containers"] == before["spec"]["containers"]
    assert made["volumes"][0] == {"name": "data", "emptyDir": {}}
    assert made.keys() - before["spec"].keys() == {"initContainers"}
    assert before["spec"].keys() == {"containers", "serviceAccountName", "volumes"}, (
        "nothing is changed in place"
    )


def test_what_is_injected_already_stays() -> None:
    once = inject(pod())
    assert inject({"metadata": pod()["metadata"], "spec": once}) == once


def test_after_others_have_put_theirs_in_front_it_is_first_again() -> None:
    once = inject(pod())
    ours = once["initContainers"][0] | {"image": "pinned:7", "terminationMessagePath": "/dev/termination-log"}
    again = inject(
        {"metadata": pod()["metadata"], "spec": once | {"initContainers": [{"name": "mesh"}, ours]}}
    )
    assert again["initContainers"] == [ours, {"name": "mesh"}]
    assert again["volumes"] == once["volumes"]


def test_names_are_nobody_elses() -> None:
    made = inject(pod())
    assert all(each["name"].startswith("handfast-") for each in made["volumes"])
    mounted = {each["name"] for each in made["initContainers"][0]["volumeMounts"]}
    assert mounted == {each["name"] for each in made["volumes"]}
    assert all(len(port["name"]) <= 15 for port in made["initContainers"][0]["ports"])


def test_the_pods_own_security_does_not_hold_for_it() -> None:
    """A pod that runs as somebody else: the kubelet compares both."""
    security = sidecar(pod(securityContext={"runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000}))[
        "securityContext"
    ]
    assert (security["runAsUser"], security["runAsGroup"], security["runAsNonRoot"]) == (0, 0, False)
    assert security["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN"]}
    assert security["readOnlyRootFilesystem"]


def test_it_is_the_gateways_container_but_for_names_and_the_end() -> None:
    ours, theirs = sidecar(pod()), container.of_gateway(spec(gateway={}), SETTINGS, host_port=False)
    for field in ("image", "command", "resources", "imagePullPolicy"):
        assert ours[field] == theirs[field]
    assert ours["env"] == [*theirs["env"], {"name": "HANDFAST_BESIDE_APP", "value": "1"}]
    assert ours["args"][: len(theirs["args"])] == theirs["args"]
    assert ours["startupProbe"]["httpGet"]["path"] == theirs["startupProbe"]["httpGet"]["path"]


@pytest.mark.parametrize(("grace", "seconds"), [(None, 10), (30, 10), (12, 7), (5, 0), (1, 0)], ids=str)
def test_after_the_app_it_offers_as_long_as_the_pods_grace_allows(grace: int | None, seconds: int) -> None:
    spec: dict[str, Any] = {} if grace is None else {"terminationGracePeriodSeconds": grace}
    made = sidecar(pod(**spec))
    assert f"--after-app={seconds}" in made["args"]
    assert made["lifecycle"].keys() == {"postStart"}, "an offer's hook would run beside the app's"


def test_for_an_app_that_serves_it_offers_at_once() -> None:
    made = sidecar(pod(terminationGracePeriodSeconds=12), recovery={"handover": "Auto"})
    assert made["lifecycle"].keys() == {"preStop", "postStart"}
    command = made["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["handfast-tunnel", "drain", "--offer", "--seconds=7"]
    assert not any(each.startswith("--after-app") for each in made["args"])


def test_one_that_never_hands_over_offers_nothing() -> None:
    made = sidecar(pod(), recovery={"handover": "Never"})
    assert made["lifecycle"].keys() == {"postStart"}
    assert not any(each.startswith("--after-app") for each in made["args"])


def test_one_of_several_is_told_so() -> None:
    assert "--not-alone" in sidecar(pod(labels={"handfast.dev/standby": "true"}))["args"]
    assert "--not-alone" not in sidecar(pod())["args"]


def test_a_device_plugin_and_resources() -> None:
    wanted = {
        "tunDevice": "Resource",
        "tunResourceName": "example.com/tun",
        "resources": {"requests": {"cpu": "10m"}},
    }
    made = inject(pod(), pod=wanted)
    assert made["initContainers"][0]["resources"] == {
        "requests": {"cpu": "10m"},
        "limits": {"example.com/tun": "1"},
    }
    assert not any("hostPath" in each for each in made["volumes"])


def test_pull_secrets_are_added() -> None:
    settings = Settings(image_pull_secrets=("registry", "other"))
    made = inject(pod(imagePullSecrets=[{"name": "own"}, {"name": "other"}]), settings)
    assert made["imagePullSecrets"] == [{"name": "own"}, {"name": "other"}, {"name": "registry"}]
