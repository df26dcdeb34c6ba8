"""What the API server is answered."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from handfast_operator.injection import review as reviews
from handfast_operator.injection.origin import Origin, origin_of
from handfast_operator.injection.pod import injected
from handfast_operator.injection.review import Unreadable, answer, read
from handfast_operator.resources import TunnelSpec
from handfast_operator.settings import Settings
from handfast_operator.store import Store
from handfast_operator.tunnel_state import PodObject

from .pods import SETTINGS, SPEC, FakeReader, pod, reader, review


def answered(asked: Any, known: FakeReader | None = None, settings: Settings = SETTINGS) -> dict[str, Any]:
    found = asyncio.run(answer(asked, known or reader(), settings))
    response: dict[str, Any] = found["response"]
    assert response["uid"] == "uid-of-request"
    return response


def patched(before: Any, response: dict[str, Any]) -> Any:
    """As the API server applies a patch: `add` only, of members of metadata and spec."""
    after = json.loads(json.dumps(before))
    for change in json.loads(base64.b64decode(response["patch"])):
        where, _, member = change["path"][1:].rpartition("/")
        assert change["op"] == "add"
        assert (where, member) == ("metadata", "annotations") or where == "spec"
        after[where][member] = change["value"]
    return after


def test_a_pod_gets_the_tunnel() -> None:
    response = answered(review(pod()))
    assert response["allowed"]
    after = patched(pod(), response)
    assert [each["name"] for each in after["spec"]["initContainers"]] == ["handfast-tunnel"]
    assert after["spec"]["containers"] == pod()["spec"]["containers"]


def test_the_second_time_nothing_changes() -> None:
    after = patched(pod(), answered(review(pod())))
    assert answered(review(after)) == {"uid": "uid-of-request", "allowed": True}


UPGRADES = "handfast.dev/upgrades"


def test_only_a_sidecar_of_the_injectors_is_the_operators_to_upgrade() -> None:
    """An image that somebody chose stays, whether in a sidecar by hand or by a word on the template."""
    asked = pod()
    asked["metadata"]["annotations"] = {"team": "shop"}
    after = patched(asked, answered(review(asked)))
    assert after["metadata"]["annotations"] == {"team": "shop", UPGRADES: "true"}
    assert PodObject.parse(made(after)).sidecar.upgrades  # type: ignore[union-attr]
    asked["metadata"]["annotations"] = {UPGRADES: "false"}
    after = patched(asked, answered(review(asked)))
    assert after["metadata"]["annotations"] == {UPGRADES: "false"}
    explicit = pod(initContainers=[{"name": "handfast-tunnel", "image": "mine:1"}])
    after = patched(explicit, answered(review(explicit)))
    assert "annotations" not in after["metadata"]
    assert not PodObject.parse(made(after)).sidecar.upgrades  # type: ignore[union-attr]


def made(pod: Any) -> Any:
    return pod | {"metadata": pod["metadata"] | {"name": "shop-1", "uid": "1", "creationTimestamp": ""}}


def test_a_pod_without_the_label_is_let_by() -> None:
    asked = pod()
    del asked["metadata"]["labels"]
    assert answered(review(asked)) == {"uid": "uid-of-request", "allowed": True}


def test_a_refusal_is_a_sentence() -> None:
    response = answered(review(pod(shareProcessNamespace=True)))
    assert not response["allowed"]
    assert response["status"]["code"] == 403
    assert response["status"]["message"].startswith("handfast: with shareProcessNamespace: true")
    assert "patch" not in response


def test_without_its_api_server_the_injector_refuses_and_says_why() -> None:
    response = answered(review(pod()), FakeReader(broken=True))
    assert "cannot ask the API server about this pod: nobody listens" in response["status"]["message"]


def test_a_slow_api_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that asks gives up after 5 s, with a sentence of its own."""

    class Slow(FakeReader):
        async def get(self, *_: Any) -> None:
            await asyncio.sleep(60)

    monkeypatch.setattr(reviews, "READ_SECONDS", 0.05)
    assert "TimeoutError" in answered(review(pod()), Slow())["status"]["message"]


def test_a_tunnel_that_a_newer_release_has_made() -> None:
    response = answered(review(pod()), reader(addresses="10.8.0.1/24"))
    assert "cannot read the Tunnel office" in response["status"]["message"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "request: Field required"),
        ([], "dictionary"),
        ({"request": None}, "request: "),
        ({"request": {"uid": "1"}}, "request.namespace: Field required"),
        (review(pod(initContainers=[{}])), r"spec.initContainers.0.name: Field required"),
        (review(pod(containers={})), r"spec.containers: "),
        (review(pod(), namespace="../kube-system"), "no namespace's name"),
    ],
)
def test_what_is_no_review(asked: Any, why: str) -> None:
    with pytest.raises(Unreadable, match=f"no AdmissionReview of a pod: .*{why}"):
        asyncio.run(answer(asked, reader(), SETTINGS))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000])
def test_what_is_no_json(text: bytes) -> None:
    with pytest.raises(Unreadable, match="this is no JSON"):
        read(text)


def test_a_label_that_leads_elsewhere_is_asked_for_nowhere() -> None:
    """The API server looks at it only afterwards."""
    known = reader()
    known.get = known.list = None  # type: ignore[assignment,method-assign]
    asked = pod(labels={"handfast.dev/tunnel": "../../other/tunnels/office"})
    assert "there is no Tunnel ../../other" in answered(review(asked), known)["status"]["message"]


def test_no_path_is_made_of_what_is_no_name() -> None:
    async def found(name: str) -> Any:
        async with Store(Configuration(host="http://127.0.0.1:9")) as store:
            return await store.get("v1", "Namespace", None, name)

    for name in ("", "..", "a/b", "a?watch=1", "A"):
        assert asyncio.run(found(name)) is None
    with pytest.raises(ConnectionError):
        asyncio.run(found("vpn"))


def origin(made: Any, known: FakeReader) -> Origin | None:
    return asyncio.run(origin_of(made, "vpn", known))


def test_a_deployments_replicas_count_not_those_of_its_half_rolled_out_set() -> None:
    known = reader()
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "controller": True}
    known.add("apps/v1", "ReplicaSet", "shop-7d9", {"replicas": 1}, ownerReferences=[owner])
    known.add("apps/v1", "Deployment", "shop", {"replicas": 3})
    asked = pod(owner=("ReplicaSet", "shop-7d9"))
    assert origin(asked, known) == Origin("Deployment", "shop", 3)
    assert "Deployment shop has 3 pods" in answered(review(asked), known)["status"]["message"]


@pytest.mark.parametrize(
    ("kind", "spec", "replicas"),
    [
        ("ReplicaSet", {"replicas": 2}, 2),
        ("StatefulSet", {"replicas": 4}, 4),
        ("StatefulSet", {}, 1),
        ("Job", {"parallelism": 2}, 2),
        ("Job", {"completions": 5}, 1),
    ],
)
def test_who_makes_a_pod(kind: str, spec: Any, replicas: int) -> None:
    known = reader()
    known.add("batch/v1" if kind == "Job" else "apps/v1", kind, "shop", spec)
    assert origin(pod(owner=(kind, "shop")), known) == Origin(kind, "shop", replicas)


def running(known: FakeReader, name: str, owner: tuple[str, str] | None, **labels: str) -> Any:
    """A pod that has the tunnel."""
    made = pod(owner=owner, labels=labels)
    spec = injected(made, "office", TunnelSpec.model_validate(SPEC), SETTINGS)
    known.add("v1", "Pod", name, spec, **{k: v for k, v in made["metadata"].items() if k != "generateName"})
    return known.objects["v1", "Pod", "vpn", name]


def of_deployment(known: FakeReader, name: str, generation: str) -> tuple[str, str]:
    """Its ReplicaSet."""
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "controller": True}
    known.add("apps/v1", "ReplicaSet", f"{name}-{generation}", {"replicas": 1}, ownerReferences=[owner])
    known.add("apps/v1", "Deployment", name, {"replicas": 1})
    return "ReplicaSet", f"{name}-{generation}"


def test_a_tunnel_is_one_owners() -> None:
    """Without an operator both would begin by themselves."""
    known = reader()
    running(known, "shop-7d9-x", of_deployment(known, "shop", "7d9"))
    response = answered(review(pod(owner=of_deployment(known, "blog", "5f4"))), known)
    assert not response["allowed"]
    assert "Deployment shop has pods with the Tunnel office already" in response["status"]["message"]
    assert "Deployment shop has" in answered(review(pod()), known)["status"]["message"], "nobody's pod"


def test_a_rollout_is_no_other_owner() -> None:
    known = reader()
    running(known, "shop-7d9-x", of_deployment(known, "shop", "7d9"))
    assert answered(review(pod(owner=of_deployment(known, "shop", "8e0"))), known)["allowed"]


def test_what_makes_a_pod_is_read_once() -> None:
    """For the number of its pods, and for who else has the Tunnel."""
    known = reader()
    running(known, "shop-7d9-x", of_deployment(known, "shop", "7d9"))
    answered(review(pod(owner=of_deployment(known, "shop", "8e0"))), known)
    assert sorted(known.read) == sorted(set(known.read))
    assert ("ReplicaSet", "shop-8e0") in known.read


def test_another_owner_is_one_that_serves_with_it_now() -> None:
    variants: tuple[dict[str, Any], ...] = (
        {"status": {"phase": "Succeeded"}},
        {"spec": {"containers": []}},
        {"metadata": {"name": "x", "labels": {"handfast.dev/tunnel": "other"}}},
        {"metadata": pod()["metadata"] | {"name": "x", "deletionTimestamp": "2026-11-28T04:00:00Z"}},
    )
    for changes in variants:
        known = reader()
        there = running(known, "import-x", ("Job", "import"))
        assert not answered(review(pod()), known)["allowed"]
        there |= changes
        assert answered(review(pod()), known)["allowed"], changes


def test_owners_that_both_say_so_share_it() -> None:
    known = reader()
    running(known, "a-x", ("StatefulSet", "a"), **{"handfast.dev/standby": "true"})
    both = review(pod(owner=of_deployment(known, "b", "1"), labels={"handfast.dev/standby": "true"}))
    assert answered(both, known)["allowed"]
    assert not answered(review(pod(owner=of_deployment(known, "b", "1"))), known)["allowed"]
    running(known, "c-x", ("StatefulSet", "c"))
    assert "StatefulSet c" in answered(both, known)["status"]["message"], "that one wants it alone"


def test_who_makes_a_pod_may_be_unknown_gone_or_nobody() -> None:
    assert origin(pod(), reader()) is None
    assert origin(pod(owner=("StatefulSet", "gone")), reader()) is None
    assert origin(pod(owner=("Rollout", "shop")), reader()) is None
    assert origin(pod(owner=("DaemonSet", "shop")), reader()) == Origin("DaemonSet", "shop", None)
