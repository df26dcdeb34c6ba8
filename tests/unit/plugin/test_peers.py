from __future__ import annotations

import json

import pytest

from handfast_plugin import peers
from handfast_plugin.peers import Report
from handfast_plugin.pods import Client
from handfast_plugin.screen import Screen

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import POD, client, conditions, peer, pod, said, tunnel

DARK = client("bob", method="announced", outage=1.23, latency=0.2, endpoint=None, handshake_age=200.0)


def live() -> Report:
    alice = Client.of(client("alice", method="resumed", outage=0.041))
    known = {"key-of-alice": alice, "key-of-bob": Client.of(DARK)}
    pending = peer("carol", connected=False, conditions=conditions(Ready=("False", "AddressConflict", "x")))
    return Report([peer("alice"), peer("bob"), pending], {("vpn", "office"): known})


def test_what_people_see_on_80_columns() -> None:
    assert peers.show(live(), Screen(80), everywhere=False) == [
        "PEER   ADDRESS   READY            CONNECTED  HEARD  BACK BY    OUTAGE",
        "alice  10.8.0.7  yes              yes           0s  resumed     41 ms",
        "bob    10.8.0.7  yes              no            0s  announced   1.2 s",
        "carol  10.8.0.7  AddressConflict  no             -  -               -",
    ]


def test_a_pipe_gets_everything() -> None:
    lines = peers.show(live(), Screen(), everywhere=True)
    assert lines[0].split()[:3] == ["NAMESPACE", "PEER", "ADDRESS"]
    assert lines[1].endswith("198.51.100.7:40000")


def test_the_longest_names_fit_on_80_columns() -> None:
    long = peer("a-client-with-a-name-of-as-many-characters-as-there-may-be-in-a-name")
    long["status"]["addresses"] = ["10.8.255.255/32", "fd00:8:1234:5678:9abc:def0:1234:5678/128"]
    clients = {("vpn", "office"): {long["status"]["publicKey"]: Client.of(client("x", method="announced"))}}
    for everywhere in (False, True):
        lines = peers.show(Report([long], clients), Screen(80), everywhere=everywhere)
        assert max(map(len, lines)) <= 80


def test_who_may_not_ask_pods_sees_what_the_operator_has_written(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("tunnels", tunnel())
    cluster.add("peers", peer("alice"))
    cluster.add("pods", pod())
    cluster.forbidden = {("create", "pods/exec")}
    assert run("peers") == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["PEER", "ADDRESS", "READY", "CONNECTED"]
    assert out.splitlines()[1].split() == ["alice", "10.8.0.7", "yes", "yes"]
    assert "you may not create pods/exec in namespace vpn" in err


def test_programs_read_the_same(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("tunnels", tunnel(), tunnel("lab"))
    cluster.add("peers", peer("alice"), peer("bob"))
    cluster.add("pods", pod())
    cluster.said = {POD: said("active", client("alice", method="answered", outage=0.1), DARK)}
    assert run("peers", "office", "-o", "json") == 0
    alice, bob = json.loads(capsys.readouterr().out)["peers"]
    assert (alice["name"], alice["method"], alice["outageSeconds"]) == ("alice", "answered", 0.1)
    assert (bob["connected"], bob["latencySeconds"]) == (False, 0.2)
    # Only the active pod is asked.
    assert cluster.calls == [f"exec {POD} handfast-tunnel status --json"]
