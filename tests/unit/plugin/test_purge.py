from __future__ import annotations

import io
import json
from typing import Any

import pytest

from handfast_plugin.kinds import AUTHORITY_SECRET, TUNNEL_LABEL

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import operator, tunnel

SECRETS = "/api/v1/namespaces/vpn/secrets"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def secret(name: str, of: str = "", namespace: str = "vpn") -> dict[str, Any]:
    labels = {TUNNEL_LABEL: of} if of else {}
    return {"metadata": {"name": name, "namespace": namespace, "labels": labels}}


@pytest.fixture
def left(cluster: FakeCluster) -> FakeCluster:
    """Handfast was uninstalled: a Tunnel is there, and another one is not."""
    cluster.add("tunnels", tunnel())
    cluster.add(
        "secrets",
        secret("office-handfast-key", "office"),
        secret("lab-handfast-key", "lab"),
        secret("far-handfast-key", "far", "other"),
        secret(AUTHORITY_SECRET, namespace="handfast-system"),
        secret("somebody-elses"),
    )
    cluster.add(
        "customresourcedefinitions",
        *({"metadata": {"name": f"{name}.handfast.dev"}} for name in ("peers", "tunnels")),
    )
    labels = {"app.kubernetes.io/part-of": "handfast"}
    cluster.add(
        "mutatingwebhookconfigurations", {"metadata": {"name": "handfast-injector", "labels": labels}}
    )
    return cluster


def deleted(cluster: FakeCluster) -> list[str]:
    return [call.removeprefix("DELETE ") for call in cluster.calls if call.startswith("DELETE")]


def test_what_an_uninstalled_handfast_leaves(
    left: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("purge", "-A", "--yes") == 0
    assert deleted(left) == [
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/handfast-injector",
        f"{CRDS}/peers.handfast.dev",
        f"{CRDS}/tunnels.handfast.dev",
        f"{SECRETS}/office-handfast-key",
        f"{SECRETS}/lab-handfast-key",
        "/api/v1/namespaces/other/secrets/far-handfast-key",
        f"/api/v1/namespaces/handfast-system/secrets/{AUTHORITY_SECRET}",
    ]
    out = capsys.readouterr().out
    assert "with 1 Tunnel, whose gateways end" in out
    assert "the key of Tunnel lab: its clients need new files" in out
    capsys.readouterr()
    left.objects.pop("/apis/handfast.dev/v1alpha1/namespaces/vpn/tunnels/office")
    assert run("purge", "-A") == 0
    assert capsys.readouterr() == ("", "Nothing is left over in the cluster\n")


def test_while_an_operator_is_there_only_what_no_tunnel_needs_goes(left: FakeCluster, run: Run) -> None:
    left.add("deployments", operator())
    assert run("purge", "-A", "--yes") == 0
    assert deleted(left) == [
        f"{SECRETS}/lab-handfast-key",
        "/api/v1/namespaces/other/secrets/far-handfast-key",
    ]


def test_one_namespace_only(left: FakeCluster, run: Run) -> None:
    assert run("purge", "--yes") == 0
    assert deleted(left) == [f"{SECRETS}/lab-handfast-key"]


def test_it_lists_before_it_asks(
    left: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stdin = io.StringIO("no\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    assert run("purge") == 1
    out, err = capsys.readouterr()
    assert "lab-handfast-key" in out
    assert "Delete these 1 objects? [y/N]" in err
    assert deleted(left) == []


def test_a_program_has_to_say_yes(
    left: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert run("purge") == 2
    assert "say --yes" in capsys.readouterr().err
    assert deleted(left) == []
    assert run("purge", "--yes", "-o", "json") == 0
    read = json.loads(capsys.readouterr().out)
    assert (read["deleted"], read["leftovers"][0]["name"]) == (True, "lab-handfast-key")


def test_without_the_right_to_delete(left: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    left.forbidden = {("delete", "secrets")}
    assert run("purge", "--yes") == 1
    assert "may not delete secrets in namespace vpn" in capsys.readouterr().err
