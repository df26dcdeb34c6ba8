"""The command line of `handfast-tunnel run`."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from handfast_tunnel.cli import main
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.errors import StartError
from handfast_tunnel.pod.options import PodOptions, parse


def test_what_is_left_out() -> None:
    assert parse(["--config", "/c"], {}) == PodOptions(
        config=Path("/c"),
        state_secret=None,
        tls=None,
        state=Path("/run/handfast/state"),
        run_directory=Path("/run/handfast"),
        control=Endpoint("::", 9587),
        metrics=Endpoint("::", 9586),
        pod_uid="",
        standby=False,
        log_level=logging.INFO,
    )


def test_all_of_it() -> None:
    arguments = [
        "--config=/c",
        "--state-secret=/s",
        "--tls",
        "/t",
        "--state=/m",
        "--run-dir=/r",
        "--control=127.0.0.1:1",
        "--metrics=[::1]:2",
        "--pod-uid=u",
        "--standby",
    ]
    options = parse(arguments, {"LOG_LEVEL": "error", "POD_UID": "other"})
    assert options == PodOptions(
        config=Path("/c"),
        state_secret=Path("/s"),
        tls=Path("/t"),
        state=Path("/m"),
        run_directory=Path("/r"),
        control=Endpoint("127.0.0.1", 1),
        metrics=Endpoint("::1", 2),
        pod_uid="u",
        standby=True,
        log_level=logging.ERROR,
    )
    assert parse(["--config=/c"], {"POD_UID": "other"}).pod_uid == "other"
    assert parse(["--config=/c"], {"HANDFAST_BESIDE_APP": "1"}).beside_app


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "--config is missing"),
        (["--config"], "--config needs a value"),
        (["--config="], "--config needs a value"),
        (["--config=/c", "wg0"], "unknown argument 'wg0'"),
        (["--config=/c", "--contol=x"], "unknown argument"),
        (["--config=/c", "--control=9587"], "--control: '9587' is not an address and port"),
        (["--config=/c", "--metrics=host:1"], "--metrics"),
    ],
)
def test_mistakes(arguments: list[str], why: str) -> None:
    with pytest.raises(StartError, match=why):
        parse(arguments, {})


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("usage: handfast-tunnel run --config")
    assert max(map(len, lines)) <= 80


def test_a_sidecars_options() -> None:
    found = parse(["--config=/c", "--standby", "--not-alone", "--after-app=9.5"], {})
    assert (found.standby, found.alone, found.after_app) == (True, False, 9.5)


@pytest.mark.parametrize("text", ["soon", "-1", "nan", "1e9"])
def test_how_long_an_offer_lasts(text: str) -> None:
    with pytest.raises(StartError, match="--after-app"):
        parse(["--config=/c", f"--after-app={text}"], {})
