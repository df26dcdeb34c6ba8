"""What is read for the rules, and what becomes of what may not be read."""

from __future__ import annotations

import base64
import json
import time

import pytest

from handfast_operator import certificates
from handfast_plugin import doctor
from handfast_plugin.api import Api
from handfast_plugin.faults import RULES
from handfast_plugin.pods import Pod

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import POD, operator, pod, said, tunnel

LOOK = """\
now 1000.500000000
mtu eth0 1450
mtu lo 65536
mtu wg0 1370
swaps 2
tmpfs /run/handfast tmpfs rw,relatime,size=65536k,noswap 0 0
"""


def test_what_is_seen_inside() -> None:
    found = doctor.inside(Pod.of(pod()), LOOK, 1000.0, 1001.0, "wg0")
    assert (found.pod, found.node, found.interface) == (POD, "node1", "wg0")
    assert found.mtu == {"eth0": 1450, "lo": 65536, "wg0": 1370}
    assert (found.swap, found.noswap) == (True, True)
    swapping = doctor.inside(Pod.of(pod()), LOOK.replace(",noswap", ""), 1000.0, 1001.0, "wg0")
    assert not swapping.noswap


@pytest.mark.parametrize(
    ("began", "ended", "ahead"), [(1000.0, 1001.0, 0.0), (990.0, 991.0, 9.5), (1010.0, 1012.0, -9.5)]
)
def test_how_long_it_takes_to_ask_is_not_the_clocks_fault(began: float, ended: float, ahead: float) -> None:
    assert doctor.inside(Pod.of(pod()), LOOK, began, ended, "wg0").ahead == ahead


@pytest.fixture
def lab(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    now = time.time()
    authority = certificates.make_authority(now)
    leaf = certificates.tunnel_leaf(authority, "vpn", "office", now)
    cluster.add("tunnels", tunnel())
    cluster.add("pods", pod())
    cluster.add("deployments", operator())
    cluster.add("namespaces", {"metadata": {"name": "vpn", "labels": {}}})
    data = {"tls.crt": base64.b64encode(leaf.certificate.encode()).decode()}
    cluster.add("secrets", {"metadata": {"name": "office-handfast-tls", "namespace": "vpn"}, "data": data})

    def answer(namespace: str, name: str, container: str, command: tuple[str, ...]) -> str:
        text: str = json.dumps(said()) if command[0] == "handfast-tunnel" else LOOK
        cluster.exec(namespace, name, container, command)
        return text.replace("1000.500000000", repr(time.time()))

    cluster.said = {POD: said()}
    monkeypatch.setattr(Api, "exec", staticmethod(answer))
    return cluster


def checked(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.strip() for line in capsys.readouterr().out.splitlines()]


def test_all_is_well(lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("doctor") == 0
    assert checked(capsys) == ["vpn/office", f"ok: {', '.join(RULES)}"]
    assert not any(call.startswith(("PATCH", "DELETE")) for call in lab.calls)


def test_what_is_wrong(lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lab.objects["/api/v1/namespaces/vpn"]["metadata"]["labels"] = {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    assert run("doctor", "office") == 1
    lines = checked(capsys)
    assert "Pod Security" not in lines[1]
    assert lines[2].startswith("wrong: Pod Security: namespace vpn enforces restricted")
    assert lines[3].startswith("kubectl label namespace vpn ")
    assert run("doctor", "-A", "--output", "json") == 1
    (read,) = json.loads(capsys.readouterr().out)["tunnels"]
    assert [fault["what"] for fault in read["faults"]] == ["Pod Security"]


@pytest.mark.parametrize(
    ("verb", "resource", "missing", "checks"),
    [
        ("get", "namespaces", "get namespaces in all of the cluster", ["Pod Security"]),
        ("get", "secrets", "get secrets in namespace vpn", ["certificates"]),
        ("list", "deployments", "list deployments.apps in all of the cluster", ["operator"]),
        ("list", "events", "list events in namespace vpn", ["/dev/net/tun"]),
        ("create", "pods/exec", "create pods/exec in namespace vpn", ["MTU", "clock", "swap", "versions"]),
    ],
)
def test_what_may_not_be_read_is_not_called_well(
    verb: str,
    resource: str,
    missing: str,
    checks: list[str],
    lab: FakeCluster,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lab.forbidden = {(verb, resource)}
    assert run("doctor") == 0
    lines = checked(capsys)
    well = lines[1].removeprefix("ok: ").split(", ")
    assert not set(checks) & set(well)
    assert {line for line in lines if line.startswith("not checked")} == {
        f"not checked: {check}: you may not {missing}" for check in checks
    }


@pytest.mark.parametrize("previous", ["true", "false"])
def test_a_pod_that_does_not_start_is_asked_for_its_last_words(
    previous: str, lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.add("pods", pod(ready=False))
    lab.said = {}
    words = "handfast-tunnel: cannot open /dev/net/tun: Operation not permitted; allow this container"
    lab.logs = {(POD, previous): words, (POD, "false" if previous == "true" else "true"): ""}
    assert run("doctor") == 1
    lines = checked(capsys)
    assert any(line.startswith("wrong: /dev/net/tun: ") for line in lines)
    assert "not checked: MTU: no pod answers" in lines


def test_a_pod_that_never_ran_has_no_last_words(lab: FakeCluster, run: Run) -> None:
    lab.add("pods", pod(ready=False))
    assert run("doctor") == 0
