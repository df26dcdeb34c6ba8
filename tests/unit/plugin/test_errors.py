"""What people are told when nothing can be shown."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest
from kubernetes.client.exceptions import ApiException
from websocket import WebSocketBadStatusException

from handfast_plugin.api import _not_begun, connect
from handfast_plugin.errors import ExecFailed, Forbidden, NotFound, PluginError, Right

from .conftest import Run
from .fake_cluster import FakeCluster, denial, write_kubeconfig


def dead_server() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("command", ["status", "peers", "doctor", "purge", "handover", "drill"])
def test_a_dead_api_server(
    command: str, tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which server, who named it, and what the system says; nothing on stdout, and no traceback."""
    server = dead_server()
    kubeconfig = write_kubeconfig(tmp_path, server)
    assert run(command, "--kubeconfig", str(kubeconfig)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first == f"error: no answer from the API server {server}: connection refused"
    assert f"context lab of {kubeconfig}" in second


def test_no_kubeconfig(tmp_path: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--kubeconfig", str(tmp_path / "nowhere")) == 1
    assert f"error: no cluster is known from {tmp_path}/nowhere: " in capsys.readouterr().err


def test_a_context_that_is_not_there(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("status", "--context", "other") == 1
    assert "other" in capsys.readouterr().err
    assert cluster.calls == []


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("status", "list tunnels.handfast.dev in namespace vpn"),
        ("peers", "list tunnels.handfast.dev in namespace vpn"),
        ("doctor", "list tunnels.handfast.dev in namespace vpn"),
        ("purge", "list deployments.apps in all of the cluster"),
    ],
)
def test_without_permissions(
    command: str, missing: str, cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.forbidden = {("list", "tunnels"), ("list", "deployments")}
    assert run(command) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: system:serviceaccount:vpn:nobody may not {missing}\n")


@pytest.mark.parametrize(
    ("right", "command"),
    [
        (("list", "tunnels", "handfast.dev", "vpn"), "rolebinding handfast-view --clusterrole=view"),
        (("patch", "tunnels", "handfast.dev", "vpn"), "rolebinding handfast-admin --clusterrole=admin"),
        (("get", "pods/log", "", "vpn"), "rolebinding handfast-view --clusterrole=view"),
        (("create", "pods/exec", "", "vpn"), "rolebinding handfast-edit --clusterrole=edit"),
        (("delete", "pods", "", "vpn"), "rolebinding handfast-edit --clusterrole=edit"),
        (("get", "secrets", "", "vpn"), "rolebinding handfast-edit --clusterrole=edit"),
        (
            ("list", "customresourcedefinitions", "apiextensions.k8s.io", ""),
            "clusterrolebinding handfast-cluster-admin --clusterrole=cluster-admin",
        ),
        (("get", "namespaces", "", "vpn"), "rolebinding handfast-view --clusterrole=view"),
        (
            ("list", "deployments", "apps", ""),
            "clusterrolebinding handfast-view --clusterrole=view",
        ),
    ],
)
def test_a_missing_permission_names_who_has_it(right: tuple[str, str, str, str], command: str) -> None:
    refused = Forbidden.of(denial(*right))
    verb, resource, group, namespace = right
    assert refused.right == Right(verb, f"{resource}.{group}" if group else resource, namespace)
    line = str(refused).splitlines()[-1]
    assert line.startswith(f"  kubectl create {command} --serviceaccount=vpn:nobody")
    assert line.endswith(" --namespace=vpn") == bool(namespace)


def test_a_person_is_named_as_one() -> None:
    text = denial("get", "secrets", "", "vpn").replace("system:serviceaccount:vpn:nobody", "alice")
    assert "--user=alice --namespace=vpn" in str(Forbidden.of(text))


def test_another_authorizers_refusal_is_told_as_it_is() -> None:
    refused = Forbidden.of("not on Sundays")
    assert (refused.right, refused.missing) == (None, "forbidden: not on Sundays")


def refused_stream(status: int, message: str) -> PluginError:
    """As the client tells it: a text, behind which is what it caught."""
    body = json.dumps({"kind": "Status", "message": message}).encode()
    try:
        try:
            raise WebSocketBadStatusException("Handshake status %d %s", status, "why", {}, body)
        except WebSocketBadStatusException as error:
            raise ApiException(status=0, reason=str(error))  # noqa: B904  as the client does
    except ApiException as error:
        return _not_begun(error, "x")


def test_a_refused_stream_names_the_permission() -> None:
    refused = refused_stream(403, denial("create", "pods/exec", "", "vpn"))
    assert isinstance(refused, Forbidden)
    assert refused.right == Right("create", "pods/exec", "vpn")


def test_a_stream_to_a_pod_that_is_gone() -> None:
    refused = refused_stream(404, 'pods "x" not found')
    assert isinstance(refused, NotFound)
    assert str(refused) == 'pods "x" not found'


def test_a_stream_to_a_container_that_does_not_run() -> None:
    refused = refused_stream(500, "container not found")
    assert isinstance(refused, ExecFailed)
    assert str(refused) == "container not found"


def test_a_stream_that_did_not_begin() -> None:
    refused = _not_begun(ApiException(status=0, reason="[Errno 113] No route to host"), "x")
    assert isinstance(refused, ExecFailed)
    assert str(refused) == "x: [Errno 113] No route to host"


def test_what_is_not_there(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "nowhere") == 1
    assert capsys.readouterr().err == 'error: tunnels.handfast.dev "nowhere" not found\n'
    assert run("status", "--namespace", "empty") == 0
    assert capsys.readouterr() == ("", "There are no Tunnels in namespace empty\n")
    assert run("status", "-A") == 0
    assert capsys.readouterr() == ("", "There are no Tunnels in the cluster\n")
    assert cluster.calls == []


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["status", "--fly"], ["config"], ["status", "-o", "yaml"]]
)
def test_a_wrong_command_line(arguments: list[str], run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert second.startswith("See 'kubectl handfast")


def test_the_namespace_is_that_of_the_context_unless_one_is_named(cluster: FakeCluster) -> None:
    for named, expected in ((None, "vpn"), ("other", "other")):
        with connect(None, None, named) as api:
            assert api.place.namespace == expected
    assert cluster.calls == []


def test_a_name_is_one_namespaces(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "office", "-A") == 2
    assert "a name is one namespace's" in capsys.readouterr().err
    assert cluster.calls == []


def test_without_the_client_library(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is there with whatever part of the distribution was installed."""
    monkeypatch.setitem(sys.modules, "websocket", None)
    assert run("status") == 1
    assert capsys.readouterr().err == "error: websocket is missing: pip install 'handfast[plugin]'\n"
