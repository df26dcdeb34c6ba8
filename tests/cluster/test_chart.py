"""The chart: what it renders, what it refuses, and what becomes of an installation."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from handfast_operator import names
from handfast_operator.injection.review import READ_SECONDS

from .built import program
from .renders import CHART, ROOT, VALUES, rendered, template

_WRONG = {
    "image.pullPolicy=Sometimes": "pullPolicy",
    "operator.replicas=-1": "replicas",
    "operator.replicas=two": "replicas",
    "operator.logLevel=LOUD": "logLevel",
    "image.tunnel.digest=sha256:abc": "digest",
    "sharedNetworks={everything}": "sharedNetworks",
    "watchNamespaces={vpn,vpn}": "watchNamespaces",
    "metrics.podMonitor.interval=often": "interval",
    "image.operator.repository=": "repository",
    "operators.replicas=2": "operators",
    "injector.replicas=0": "replicas",
    "injector.certManager.issuer=internal": "issuer",
}


@pytest.fixture(scope="module")
def renders() -> dict[Path, str]:
    return rendered()


def test_renders_are_checked_in(renders: dict[Path, str]) -> None:
    assert len(VALUES) >= 10
    differ = [str(path) for path, content in renders.items() if path.read_text() != content]
    assert not differ, "run `make generate`"


def test_a_render_is_the_same_each_time(renders: dict[Path, str]) -> None:
    """Nothing is made up, and nothing is looked up."""
    assert rendered() == renders


def test_lint() -> None:
    command = [str(program("helm")), "lint", "--strict", "--with-subcharts", str(CHART)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("value", _WRONG)
def test_wrong_values_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=_WRONG[value]):
        template("--set", value)


def test_the_operator_is_restricted() -> None:
    """As Pod Security level `restricted` asks."""
    for text in rendered().values():
        for body in yaml.safe_load_all(text):
            if body and body["kind"] == "Deployment":
                pod = body["spec"]["template"]["spec"]
                assert pod["securityContext"]["runAsNonRoot"]
                assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
                (container,) = pod["containers"]
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }


def test_secrets_can_neither_be_listed_nor_watched() -> None:
    roles = [
        body
        for text in rendered().values()
        for body in yaml.safe_load_all(text)
        if body and body["kind"] in {"Role", "ClusterRole"}
    ]
    assert roles
    for role in roles:
        for rule in role["rules"]:
            assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
            if "secrets" in rule["resources"]:
                assert not {"list", "watch"} & set(rule["verbs"])
            if "pods" in rule["resources"]:
                assert "create" not in rule["verbs"]


def test_in_some_namespaces_there_is_no_right_in_others() -> None:
    text = template("--set", "watchNamespaces={vpn,lab}", "--set", "crds.enabled=false", "--no-hooks")
    bodies = [body for body in yaml.safe_load_all(text) if body]
    bound = {body["roleRef"]["name"] for body in bodies if body["kind"] == "ClusterRoleBinding"}
    assert bound == {"handfast-nodes", "handfast-injector"}
    (injectors,) = [
        body
        for body in bodies
        if (body["kind"], body["metadata"]["name"]) == ("ClusterRole", "handfast-injector")
    ]
    assert all(rule["resourceNames"] for rule in injectors["rules"])


def test_who_is_asked_about_which_pods() -> None:
    """About those of apps with the label, in the release's own namespace, too; and never about gateways', the
    operator's or its own: they start without an injector."""
    bodies = [body for body in yaml.safe_load_all(template("--no-hooks")) if body]
    (found,) = [body for body in bodies if body["kind"] == "MutatingWebhookConfiguration"]
    (webhook,) = found["webhooks"]
    assert (webhook["failurePolicy"], webhook["reinvocationPolicy"]) == ("Fail", "IfNeeded")
    assert READ_SECONDS < webhook["timeoutSeconds"] <= 5
    wanted = {each["key"]: each for each in webhook["objectSelector"]["matchExpressions"]}
    assert wanted[names.TUNNEL_LABEL]["operator"] == "Exists"
    own = [body["spec"]["template"]["metadata"]["labels"] for body in bodies if body["kind"] == "Deployment"]
    assert len(own) == 2
    for labels in [*own, names.labels("office")]:
        left_out = [each for each in wanted.values() if each["operator"] == "NotIn"]
        assert any(labels.get(each["key"]) in each["values"] for each in left_out), labels
    (where,) = webhook["namespaceSelector"]["matchExpressions"]
    assert (where["operator"], where["values"]) == ("NotIn", ["kube-system"])


def test_the_examples_are_what_the_reference_says() -> None:
    examples = sorted((ROOT / "manifests" / "examples").glob("*.yaml"))
    assert len(examples) >= 4
    for path in examples:
        kinds = {body["kind"] for body in yaml.safe_load_all(path.read_text()) if body}
        assert {"Tunnel", "Peer"} <= kinds, path
