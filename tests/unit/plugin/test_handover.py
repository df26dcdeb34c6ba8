from __future__ import annotations

import json
from typing import Any

import pytest

from handfast_plugin import handover
from handfast_plugin.kinds import FROM_TERM

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import OTHER, POD, conditions, tunnel


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "PATIENCE", 0.5)


def obeying(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator that does it as soon as it is asked."""
    answer = cluster.answer

    def answers(method: str, url: str, body: Any) -> tuple[int, Any]:
        found: tuple[int, Any] = answer(method, url, body)
        if method == "PATCH" and found[0] == 200:
            term = int(found[1]["metadata"]["annotations"][FROM_TERM])
            found[1]["status"]["active"] = {"pod": OTHER, "node": "node2", "term": term + 1}
        return found

    monkeypatch.setattr(cluster, "answer", answers)


def test_a_handover(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.add("tunnels", tunnel())
    obeying(cluster, monkeypatch)
    assert run("handover") == 0
    assert capsys.readouterr().out == f"Pod {OTHER} took over from {POD}, at term 13\n"
    assert cluster.body("tunnels", "office")["metadata"]["annotations"] == {FROM_TERM: "12"}
    assert run("handover", "office", "--output=json") == 0
    assert json.loads(capsys.readouterr().out)["to"]["term"] == 14


def test_an_operator_that_does_nothing(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was asked for is withdrawn: it must not happen in an hour."""
    cluster.add("tunnels", tunnel())
    assert run("handover") == 1
    assert "was not handed over within" in capsys.readouterr().err
    assert cluster.body("tunnels", "office")["metadata"]["annotations"] == {FROM_TERM: None}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"active": None}, "it has no active pod: it has only begun"),
        (
            {
                "conditions": conditions(
                    StandbyReady=("False", "OneReplica", "with replicas: 1 there is none")
                )
            },
            "there is nobody to hand over to: with replicas: 1 there is none",
        ),
    ],
)
def test_what_cannot_be_is_not_asked_for(
    change: dict[str, Any], why: str, cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel(**change))
    assert run("handover") == 1
    assert capsys.readouterr().err == f"error: Tunnel office cannot be handed over: {why}\n"
    assert cluster.calls == []


def test_a_tunnel_that_never_hands_over(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    stubborn = tunnel()
    stubborn["spec"]["recovery"] = {"handover": "Never"}
    cluster.add("tunnels", stubborn)
    assert run("handover") == 1
    assert "spec.recovery.handover is Never" in capsys.readouterr().err


def test_which_tunnel_is_meant(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("handover") == 1
    assert "there is no Tunnel in namespace vpn" in capsys.readouterr().err
    cluster.add("tunnels", tunnel(), tunnel("lab"))
    assert run("handover") == 2
    assert "name one of: office, lab" in capsys.readouterr().err
    assert cluster.calls == []


def test_without_the_right_to_ask_for_it(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel())
    cluster.forbidden = {("patch", "tunnels")}
    assert run("handover") == 1
    err = capsys.readouterr().err
    assert "may not patch tunnels.handfast.dev in namespace vpn" in err
    assert "--clusterrole=admin" in err
