"""Nothing from a cluster reaches a terminal as a command for it."""

from __future__ import annotations

import base64
import re

import pytest

from handfast_plugin import plain
from handfast_plugin.errors import ExecFailed, PluginError

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import POD, client, conditions, operator, peer, pod, said, tunnel

CLEAR, TITLE, BACK = "\x1b[2J", "\x1b]0;owned\x07", "\u202e"
EVIL = f"{CLEAR}{TITLE}\r{BACK}\x9b31m\nwrong: do this\x7f"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("vpn/office: 10.8.0.1 ☃", "vpn/office: 10.8.0.1 ☃"),
        ("a\x1b[2Jb", "a�[2Jb"),
        ("two\nlines\tand\rmore", "two lines and more"),
        ("\u202etxt.exe\u2066", "�txt.exe�"),
        ("\x9b0m\x7f\ud800\u2028", "�0m���"),
    ],
)
def test_what_is_not_printable_is_shown_as_that(text: str, shown: str) -> None:
    assert plain.line(text) == shown


def test_lines_stay_lines_and_documents_what_they_are() -> None:
    assert plain.lines("a\nb\x1b\n") == "a\nb�\n"
    assert plain.document({"a\x1b": [1, None, True, {"b": "c\n"}]}) == {"a�": [1, None, True, {"b": "c "}]}


def test_failures_too() -> None:
    assert str(PluginError(f"pod {EVIL}")).splitlines()[0].isprintable()


@pytest.fixture
def evil(cluster: FakeCluster) -> FakeCluster:
    """Everything that somebody may write there says so."""
    told = conditions(Ready=("False", EVIL, EVIL), Active=("False", EVIL, EVIL))
    cluster.add("tunnels", tunnel(conditions=told, endpoint=EVIL, lastHandover=None))
    cluster.add("pods", pod(), pod("office-6d5f9c7b8d-other", node=EVIL, ready=False))
    cluster.add("peers", peer("alice", addresses=[EVIL], conditions=told))
    cluster.add("namespaces", {"metadata": {"name": "vpn", "labels": {"a": EVIL}}})
    cluster.add("events", {"metadata": {"namespace": "vpn", "name": "e"}, "type": "Warning", "message": EVIL})
    cluster.add("deployments", operator())
    answer = said("active", client("alice", endpoint=EVIL, method=EVIL)) | {"version": EVIL}
    cluster.said = {POD: answer, "office-6d5f9c7b8d-other": ExecFailed(EVIL)}
    words = f"handfast-tunnel: cannot open /dev/net/tun: {EVIL}"
    cluster.logs = {("office-6d5f9c7b8d-other", previous): words for previous in ("true", "false")}
    return cluster


@pytest.mark.usefixtures("evil")
@pytest.mark.parametrize(
    "command", ["status", "peers", "doctor", "handover", "drill --yes --timeout=0.1"], ids=str
)
def test_commands(command: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run(*command.split())
    out, err = capsys.readouterr()
    assert (out + err).strip()
    assert all(line.isprintable() for line in (out + err).split("\n"))
    assert not re.search("^wrong: do this", out + err, re.MULTILINE)


def test_a_file_for_a_client(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("peers", peer("alice"))
    data = {"wg0.conf": base64.b64encode(f"[Interface]\n# {CLEAR}\n\xff".encode("latin-1")).decode()}
    cluster.add("secrets", {"metadata": {"name": "alice-handfast", "namespace": "vpn"}, "data": data})
    assert run("config", "alice") == 0
    assert capsys.readouterr().out == "[Interface]\n# �[2J\n�"
