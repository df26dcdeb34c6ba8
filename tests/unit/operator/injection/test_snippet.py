"""The tunnel as YAML, for those who want no webhook."""

from __future__ import annotations

import io

import pytest
import yaml

from handfast_operator.__main__ import main
from handfast_operator.injection.pod import injected
from handfast_operator.injection.snippet import SnippetError, snippet
from handfast_operator.resources import TunnelSpec

from .pods import SETTINGS, SPEC, pod

TUNNEL = {"kind": "Tunnel", "metadata": {"name": "office"}, "spec": SPEC}


def test_it_is_what_the_injector_puts_there() -> None:
    made = yaml.safe_load(snippet(TUNNEL, SETTINGS))
    assert made["metadata"] == {"labels": {"handfast.dev/tunnel": "office"}}
    ours = injected(pod(), "office", TunnelSpec.model_validate(SPEC), SETTINGS)
    assert made["spec"] == {name: ours[name] for name in ("initContainers", "volumes")}


@pytest.mark.parametrize("wrong", [None, {}, {"metadata": {"name": "x"}, "spec": {}}])
def test_what_is_no_tunnel(wrong: object) -> None:
    with pytest.raises(SnippetError, match="this is no Tunnel"):
        snippet(wrong, SETTINGS)  # type: ignore[arg-type]


def test_a_gateway_is_not_injected() -> None:
    with pytest.raises(SnippetError, match="pods of its own"):
        snippet(TUNNEL | {"spec": SPEC | {"gateway": {}}}, SETTINGS)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HANDFAST_TUNNEL_IMAGE", "registry.example.com/tunnel:7")
    monkeypatch.setattr("sys.argv", ["handfast-operator", "snippet"])
    monkeypatch.setattr("sys.stdin", io.StringIO(yaml.safe_dump(TUNNEL)))
    assert main() == 0
    assert "image: registry.example.com/tunnel:7" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO("nothing: here\n"))
    assert main() == 1
    assert "kubectl get tunnel" in capsys.readouterr().err


def test_an_unknown_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["handfast-operator", "injct"])
    assert main() == 2
    assert "usage" in capsys.readouterr().err
