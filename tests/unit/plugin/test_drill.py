"""What a restart is for each client, by what pods say before and after it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from handfast_plugin import drill, outages
from handfast_plugin.errors import ExecFailed
from handfast_plugin.outages import Watch
from handfast_plugin.pods import Pod
from handfast_plugin.screen import Screen

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import OTHER, POD, client, peer, pod, said, tunnel

NAMES = {f"key-of-{name}": name for name in ("alice", "bob", "carol")}


def one(*clients: dict[str, Any], name: str = POD, **more: Any) -> Pod:
    return Pod.of(pod(name), said("active", *clients, **more))


def before() -> Watch:
    """alice sends, bob keeps alive, carol is not there."""
    bob, carol = client("bob", received_age=17.0), client("carol", received_age=None, handshake_age=None)
    return Watch.begin(
        one(client("alice"), bob, carol), one(client("alice", received_bytes=3000), bob, carol), NAMES
    )


def test_who_was_sending() -> None:
    assert {w.name: w.before for w in before().watched.values()} == {
        "alice": "sending",
        "bob": "connected",
        "carol": "silent",
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        # A keepalive came just before the first look, or between both.
        (client("alice"), client("alice")),
        (client("alice", received_age=20.0), client("alice", received_bytes=1032)),
        (client("alice", received_age=None), client("alice", received_bytes=3000)),
    ],
)
def test_a_keepalive_is_not_sending(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert Watch.begin(one(first), one(second), NAMES).count("sending") == 0


def test_the_pod_that_is_to_end_tells_nothing_new() -> None:
    watch = before()
    assert watch.look(one(client("alice", method="resumed")), 0.5) == []
    assert watch.look(None, 0.5) == []
    assert (watch.successor, len(watch.awaited)) == ("", 1)


@pytest.mark.parametrize(
    "after",
    [
        lambda *clients: one(*clients, name=OTHER, term=13),
        lambda *clients: one(*clients, incarnation=4),
    ],
    ids=["another pod", "in place"],
)
def test_who_is_back(after: Callable[..., Pod]) -> None:
    watch = before()
    assert watch.look(after(client("alice"), client("bob")), 1.0) == []
    assert len(watch.awaited) == 1
    (back,) = watch.look(after(client("alice", method="answered", outage=0.04), client("bob")), 1.4)
    assert (back.name, back.seen_back, watch.awaited) == ("alice", 1.4, [])
    # Seen once: what happens to it later is another interruption.
    assert watch.look(after(client("alice", method="resumed", outage=9.0)), 9.0) == []
    assert outages.rows(watch.watched.values()) == [
        ["alice", "sending", "40 ms", "answered", "1.4 s"],
        ["bob", "connected", "-", "not heard yet", "-"],
        ["carol", "silent", "-", "not heard yet", "-"],
    ]


def test_who_is_not_back_comes_first_and_is_red() -> None:
    watch = before()
    lines = outages.show(watch, Screen(80, colour=True))
    assert lines[1].startswith("alice  sending")
    assert "\x1b[31mnot back\x1b[0m" in lines[1]
    assert lines[-1] == "0 of 1 sending clients are back."
    assert max(map(len, outages.show(watch, Screen(80)))) <= 80


def test_nobody_was_sending() -> None:
    watch = Watch.begin(one(), one(), NAMES)
    assert outages.verdict(watch).startswith("Nobody was sending")


def test_how_it_stands_while_it_lasts() -> None:
    watch = before()
    watch.look(None, 0.5)
    assert outages.lines(watch, 0.5) == ["  0.5 s  no pod is active"]
    watch.look(one(), 1.0)
    assert outages.lines(watch, 1.0) == [f"  1.0 s  pod {POD} serves on, until another one takes over"]
    watch.look(one(client("alice"), name=OTHER), 2.0)
    assert outages.lines(watch, 2.0) == ["  2.0 s  1 of 1 sending clients are dark", "         alice"]
    (alice,) = watch.look(one(client("alice", method="waited"), name=OTHER), 3.0)
    assert outages.lines(watch, 3.0) == ["  3.0 s  0 of 1 sending clients are dark"]
    nobody = Watch.begin(one(), one(), NAMES)
    nobody.look(one(name=OTHER), 2.0)
    assert outages.lines(nobody, 2.0) == [f"  2.0 s  pod {OTHER} is active; nobody was sending"]
    # A failover knows of no outage: nobody was there to note when it began.
    assert outages.told(alice) == "alice is back"


class Time:
    """Nothing waits; what happens at a moment happens in `then`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.then: dict[float, Callable[[], None]] = {}

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for moment in [each for each in self.then if each <= self.now]:
            self.then.pop(moment)()


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(drill, "time", time)
    return time


@pytest.fixture
def lab(cluster: FakeCluster, time: Time) -> FakeCluster:
    """alice sends to the active pod; when that is gone she is back at the other one, or is not."""
    cluster.add("tunnels", tunnel())
    cluster.add("pods", pod(), pod(OTHER))
    cluster.add("peers", peer("alice"))
    cluster.said = {POD: said("active", client("alice")), OTHER: said("standby")}

    def sends() -> None:
        cluster.said[POD] = said("active", client("alice", received_bytes=5000))

    time.then[1.0] = sends
    return cluster


def back(lab: FakeCluster, **how: Any) -> Callable[[], None]:
    def happens() -> None:
        lab.said[OTHER] = said("active", client("alice", **how), term=13)

    return happens


def test_a_drill(lab: FakeCluster, time: Time, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    time.then[3.0] = back(lab)
    time.then[4.0] = back(lab, method="answered", outage=0.041)
    assert run("drill", "--yes") == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "PEER   BEFORE   OUTAGE  BACK BY   SEEN BACK AFTER",
        "alice  sending   41 ms  answered            2.7 s",
        "",
        "1 of 1 sending clients are back; the longest outage was 41 ms.",
    ]
    assert f"pod {OTHER} is active" in err
    assert "alice is back: dark for 41 ms, answered" in err
    assert f"DELETE /api/v1/namespaces/vpn/pods/{POD}" in lab.calls


def test_a_client_that_does_not_come_back(
    lab: FakeCluster, time: Time, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    time.then[3.0] = back(lab)
    assert run("drill", "office", "--yes", "--timeout", "20", "-o", "json") == 1
    read = json.loads(capsys.readouterr().out)
    assert (read["successor"], read["lost"]) == (OTHER, 1)
    assert read["clients"][0] == {
        "name": "alice",
        "before": "sending",
        "back": False,
        "outageSeconds": None,
        "latencySeconds": None,
        "method": None,
        "seenBackSeconds": None,
    }
    assert time.now > 20


def test_a_gateway_that_does_not_come_back(
    lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.said[POD] = said("active")
    assert run("drill", "--yes", "--timeout", "5") == 1
    assert "Nobody was sending" in capsys.readouterr().out


def test_in_place_no_pod_is_deleted(
    lab: FakeCluster, time: Time, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def resumed() -> None:
        lab.said[POD] = said("active", client("alice", method="resumed", outage=0.3), incarnation=4)

    def dying() -> None:
        lab.said[POD] = ExecFailed("container not found")

    time.then |= {1.6: dying, 2.5: resumed}
    assert run("drill", "--in-place", "--yes") == 0
    assert "300 ms  resumed" in capsys.readouterr().out
    assert f"exec {POD} sh -c kill -TERM 1" in lab.calls
    assert not any(call.startswith("DELETE") for call in lab.calls)


def test_nothing_happens_unasked(
    lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert run("drill") == 2
    assert "say --yes" in capsys.readouterr().err
    assert not any(call.startswith("DELETE") for call in lab.calls)


@pytest.mark.parametrize("answer", ["n", "", "yo"])
def test_a_person_says_no(
    answer: str,
    lab: FakeCluster,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdin = io.StringIO(f"{answer}\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", stdin)
    assert run("drill") == 1
    asked = f"Pod {POD} serves 1 sending and 0 other connected clients.\nDelete pod {POD}? [y/N] "
    assert capsys.readouterr().err == asked
    assert not any(call.startswith("DELETE") for call in lab.calls)


def test_without_the_right_to_look(lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lab.forbidden = {("create", "pods/exec")}
    assert run("drill", "--yes") == 1
    assert "may not create pods/exec in namespace vpn" in capsys.readouterr().err


def test_without_the_right_to_delete(lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lab.forbidden = {("delete", "pods")}
    assert run("drill", "--yes") == 1
    assert "may not delete pods in namespace vpn" in capsys.readouterr().err


def test_nobody_is_active(lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    lab.said[POD] = ExecFailed("office: nobody answers")
    assert run("drill", "--yes") == 1
    assert (
        "has no active pod, so there is nothing to drill: office: nobody answers" in capsys.readouterr().err
    )


def test_only_the_pod_that_the_operator_knows_is_ended(
    lab: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    lab.said[OTHER] = said("active", term=999)
    assert run("drill", "--yes") == 1
    assert f"pod {OTHER} says that it is active, and the operator that {POD} is" in capsys.readouterr().err
    assert not any(call.startswith("DELETE") for call in lab.calls)


@pytest.mark.parametrize(
    "stranger",
    [
        {"ownerReferences": []},
        {"ownerReferences": [{"kind": "ReplicaSet", "name": "shop-7d9", "controller": True}]},
        {"labels": {"handfast.dev/tunnel": "office"}},
    ],
)
def test_a_label_alone_makes_nobody_a_pod_of_the_tunnel(
    stranger: dict[str, Any], lab: FakeCluster, run: Run
) -> None:
    body = pod(OTHER)
    body["metadata"] |= stranger
    lab.add("pods", body)
    lab.said[OTHER] = said("active", term=999)
    assert not Pod.of(body).is_of(tunnel())
    run("drill", "--yes", "--timeout=1")
    assert not any(call.startswith(f"exec {OTHER}") for call in lab.calls)


def test_a_sidecar_in_anyones_pod() -> None:
    body = pod()
    body["status"]["initContainerStatuses"] = [{"name": "handfast-tunnel", "restartCount": 4}]
    body["status"]["containerStatuses"] = [{"name": "app", "restartCount": 9}]
    found = Pod.of(body)
    assert (found.container, found.restarts) == ("handfast-tunnel", 4)
    injected = tunnel()
    del injected["spec"]["gateway"]
    assert not found.is_of(injected)
    body["spec"]["initContainers"] = [{"name": "handfast-tunnel", "restartPolicy": "Always"}]
    assert found.is_of(injected)
    assert not Pod.of(body | {"metadata": body["metadata"] | {"ownerReferences": []}}).is_of(tunnel())
