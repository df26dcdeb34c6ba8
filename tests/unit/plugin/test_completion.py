from __future__ import annotations

from pathlib import Path

import pytest

from handfast_operator import names, workload
from handfast_operator.requests import FROM_TERM
from handfast_operator.resources import GROUP, VERSION
from handfast_operator.resources.tunnel import Gateway
from handfast_operator.settings import Settings
from handfast_plugin import kinds
from handfast_plugin.arguments import COMMANDS, parse
from handfast_plugin.completion import complete, main
from tests.unit.operator.objects import OWNER, tunnel_spec

from .fake_cluster import FakeCluster, write_kubeconfig
from .objects import peer, tunnel


def offered(*words: str) -> list[str]:
    """Without descriptions."""
    return [each.partition("\t")[0] for each in complete(list(words))[0]]


def test_commands() -> None:
    assert offered("") == list(COMMANDS)
    assert offered("d") == ["drill", "doctor"]
    assert offered("-n", "vpn", "st") == ["status"]
    assert offered("fly", "") == []


def test_flags_that_each_command_has() -> None:
    """What is offered is understood, and nothing else is."""
    for name, command in COMMANDS.items():
        words = [name, "x"] if command.needed else [name]
        flags = offered(name, "--")
        for flag in flags:
            value = {"--output": ["json"], "--namespace": ["x"], "--context": ["x"], "--kubeconfig": ["x"]}
            parse([*words, flag, *value.get(flag, [])])
        assert ("--all-namespaces" in flags) == command.everywhere
        assert ("--yes" in flags) == command.asks
    assert offered("config", "--q") == ["--qr"]


def test_names_come_from_the_cluster(cluster: FakeCluster) -> None:
    cluster.add("tunnels", tunnel(), tunnel("lab"), tunnel("far", "other"))
    cluster.add("peers", peer("alice"), peer("bob"))
    cluster.add("namespaces", {"metadata": {"name": "vpn"}}, {"metadata": {"name": "other"}})
    assert offered("status", "") == ["office", "lab"]
    assert offered("status", "-n", "other", "") == ["far"]
    assert offered("status", "--namespace=other", "f") == ["far"]
    assert offered("config", "a") == ["alice"]
    assert offered("config", "alice", "") == []
    assert offered("status", "-n", "") == ["vpn", "other"]
    assert offered("status", "--namespace=o") == ["--namespace=other"]
    assert offered("status", "--context", "") == ["lab"]
    assert offered("status", "-o", "") == ["json"]


def test_files_are_the_shells_to_complete() -> None:
    assert complete(["status", "--kubeconfig", ""]) == ([], 0)


def test_nothing_is_said_where_nobody_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_kubeconfig(tmp_path, "http://127.0.0.1:1")
    assert main(["status", "--kubeconfig", str(file), ""]) == 0
    assert capsys.readouterr() == (":4\n", "")
    assert main(["status", "--kubeconfig", str(tmp_path / "nowhere"), "--context", ""]) == 0
    assert capsys.readouterr() == (":4\n", "")


def test_candidates_as_kubectl_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dr"]) == 0
    described = f"drill\t{COMMANDS['drill'].help}"
    assert capsys.readouterr().out == f"{described}\n:4\n"


def test_names_are_the_operators() -> None:
    """It is not imported for them."""
    assert (kinds.GROUP, kinds.VERSION, kinds.TUNNEL_LABEL) == (GROUP, VERSION, names.TUNNEL_LABEL)
    assert kinds.FROM_TERM == FROM_TERM
    gateway = workload.deployment(OWNER, tunnel_spec(), Gateway(), Settings())
    (container,) = gateway["spec"]["template"]["spec"]["containers"]
    assert container["name"] in kinds.CONTAINERS
    assert (kinds.tls_secret("x"), kinds.key_secret("x")) == (names.tls_secret("x"), names.key_secret("x"))
