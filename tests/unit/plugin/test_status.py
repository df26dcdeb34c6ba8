from __future__ import annotations

import json
import time

import pytest

from handfast_plugin import status
from handfast_plugin.pods import Pod
from handfast_plugin.screen import Screen
from handfast_plugin.status import Report

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import NOW, OTHER, POD, conditions, pod, said, tunnel

LONG = tunnel(
    "the-office-of-the-whole-company-in-one-tunnel",
    "a-namespace-with-a-long-name",
    endpoint="a1b2c3d4e5f6a7b8-0123456789abcdef.elb.eu-central-1.amazonaws.com:51820",
    peers={"total": 10_000, "ready": 10_000, "connected": 10_000},
    lastHandover={
        "time": "2027-01-15T07:00:00Z",
        "peers": 10_000,
        "method": "answered",
        "p99Seconds": "0.04",
    },
    conditions=conditions(
        Ready=(
            "False",
            "Unknown",
            "no load balancer has given the Service an address yet; clients wait for it",
        ),
        EndpointReady=(
            "False",
            "Unknown",
            "no load balancer has given the Service an address yet; clients wait for it",
        ),
        StandbyReady=("False", "OneReplica", "with replicas: 1 there is none"),
        Degraded=("False", "Fine", ""),
    ),
)


def report(*tunnels: object) -> Report:
    return Report(tunnels or (tunnel(),), [Pod.of(pod(), said()), Pod.of(pod(OTHER), said("standby"))])  # type: ignore[arg-type]


def test_what_people_see_on_80_columns() -> None:
    assert status.show(report(), Screen(80), NOW, everywhere=False) == [
        "TUNNEL  READY  ENDPOINT           ACTIVE                STANDBYS  CONNECTED  AGE",
        "office  yes    203.0.113.5:51820  …ce-6d5f9c7b8d-x2x4q         1     2 of 3  24h",
        "",
        "POD                      NODE   ROLE     TERM  GENERATION  READY  RESTARTS  AGE",
        "office-6d5f9c7b8d-x2x4q  node1  active     12          42  yes           1  24h",
        "office-6d5f9c7b8d-abcde  node1  standby    12          42  yes           1  24h",
    ]


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_longest_names_fit_on_80_columns(everywhere: bool) -> None:
    for tunnels in ((LONG,), (LONG, LONG)):
        lines = status.show(report(*tunnels), Screen(80, colour=False), NOW, everywhere=everywhere)
        assert max(map(len, lines)) <= 80
        assert "10000 of 10000" in lines[1]


def test_a_pipe_gets_everything_on_one_line_each() -> None:
    lines = status.show(report(LONG), Screen(), NOW, everywhere=True)
    assert LONG["status"]["endpoint"] in lines[1]
    assert POD in "\n".join(lines)
    assert not any("\x1b" in line or "…" in line for line in lines)


def test_each_trouble_is_told_once() -> None:
    text = "\n".join(status.show(report(LONG), Screen(), NOW, everywhere=False))
    assert text.count("no load balancer has given") == 1
    # That was wanted, and this is well.
    assert "OneReplica" not in text
    assert "StandbyReady" not in text
    assert "Degraded" not in text


def test_a_tunnel_that_nobody_has_looked_at() -> None:
    fresh = tunnel() | {"status": {}}
    text = "\n".join(status.show(Report([fresh]), Screen(), NOW, everywhere=False))
    assert "vpn/office: Ready: the operator has not looked at it yet: is it running?" in text


def test_the_last_handover_is_told() -> None:
    text = "\n".join(status.show(report(LONG), Screen(), NOW, everywhere=False))
    assert "Last handover: 60m ago, 10000 connected, 99 of 100 back within 0.04 s (answered)" in text


def test_one_tunnel_is_told_with_its_pods(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel())
    cluster.add("pods", pod(), pod(OTHER, node="node2"))
    cluster.said = {POD: said(), OTHER: said("standby", term=12)}
    assert run("status") == 0
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert err == ""
    assert [POD, "node1", "active", "12", "42", "yes", "1"] in [line[:7] for line in lines]
    assert [OTHER, "node2", "standby", "12", "42", "yes", "1"] in [line[:7] for line in lines]


def test_several_tunnels_are_told_without_asking_anybody(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel(), tunnel("lab"), tunnel(namespace="other"))
    cluster.add("pods", pod())
    assert run("status", "-A") == 0
    first = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert first == [["NAMESPACE", "TUNNEL"], ["vpn", "office"], ["vpn", "lab"], ["other", "office"]]
    assert cluster.calls == []


def test_who_may_not_ask_pods_sees_the_rest_and_is_told(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel())
    cluster.add("pods", pod())
    cluster.forbidden = {("create", "pods/exec")}
    assert run("status") == 0
    out, err = capsys.readouterr()
    assert POD in out.splitlines()[-1]
    assert err == "Left out: what pods say themselves; you may not create pods/exec in namespace vpn\n"


def test_programs_read_the_same(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("tunnels", tunnel())
    cluster.add("pods", pod(), pod(OTHER))
    cluster.said = {POD: said()}
    assert run("-n", "vpn", "status", "office", "-o", "json") == 0
    read = json.loads(capsys.readouterr().out)
    assert read["tunnels"][0]["name"] == "office"
    assert read["tunnels"][0]["active"]["term"] == 12
    assert [each["role"] for each in read["pods"]] == ["active", None]
    assert read["missing"] is None


def test_ages_are_told_by_this_machines_clock(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    cluster.add("tunnels", tunnel(), tunnel("lab"))
    assert run("status") == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  24h")
