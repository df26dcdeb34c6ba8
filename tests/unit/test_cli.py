from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from handfast_tunnel import __version__, cli, commands
from handfast_tunnel.adapters.control import open_listener
from handfast_tunnel.commands import format_age, format_bytes, format_status
from handfast_tunnel.core.configuration import Prefix
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.errors import StartError
from handfast_tunnel.options import parse

KEY = "uFmW/sycfx/G0lcqdu2hHVm80gvo5UOxXOS9hajnWjM="


def test_defaults_are_wireguard_gos() -> None:
    options = parse(["wg0"], {})
    assert options.interface == "wg0"
    assert not options.foreground
    assert not options.keep_output
    assert options.metrics is None
    assert options.settings.timers == "recovery"
    assert options.settings.announce
    assert (options.tun_fd, options.uapi_fd) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "environment"),
    [
        (["-f", "wg0"], {}),
        (["wg0", "--foreground"], {}),
        (["wg0"], {"WG_PROCESS_FOREGROUND": "1"}),
    ],
)
def test_foreground(arguments: list[str], environment: dict[str, str]) -> None:
    assert parse(arguments, environment).foreground


def test_descriptors_of_a_supervisor() -> None:
    options = parse(["wg0"], {"WG_TUN_FD": "3", "WG_UAPI_FD": "4"})
    assert (options.tun_fd, options.uapi_fd) == (3, 4)


@pytest.mark.parametrize(
    ("level", "logged", "kept"),
    [
        ("verbose", logging.DEBUG, True),
        ("debug", logging.DEBUG, True),
        ("error", logging.ERROR, True),
        ("silent", logging.CRITICAL + 1, False),
        ("", logging.WARNING, False),
        ("other", logging.WARNING, True),
    ],
)
def test_log_level(level: str, logged: int, kept: bool) -> None:
    options = parse(["wg0"], {"LOG_LEVEL": level})
    assert (options.log_level, options.keep_output) == (logged, kept)


@pytest.mark.parametrize("arguments", [["--metrics", "[::1]:9586"], ["--metrics=[::1]:9586"]])
def test_metrics(arguments: list[str]) -> None:
    options = parse([*arguments, "--metrics-per-peer", "wg0"], {})
    assert options.metrics == Endpoint("::1", 9586)
    assert options.metrics_per_peer


@pytest.mark.parametrize(
    ("arguments", "environment", "timers"),
    [
        (["--timers", "strict"], {}, "strict"),
        (["--timers=recovery"], {"HANDFAST_TIMERS": "strict"}, "recovery"),
        ([], {"HANDFAST_TIMERS": "strict"}, "strict"),
        ([], {"HANDFAST_TIMERS": ""}, "recovery"),
    ],
)
def test_timers(arguments: list[str], environment: dict[str, str], timers: str) -> None:
    assert parse([*arguments, "wg0"], environment).settings.timers == timers


@pytest.mark.parametrize(
    ("arguments", "environment", "choice"),
    [
        ([], {}, "auto"),
        (["--data-plane", "pure"], {"HANDFAST_DATA_PLANE": "native"}, "pure"),
        (["--data-plane=native"], {}, "native"),
        ([], {"HANDFAST_DATA_PLANE": "native"}, "native"),
    ],
)
def test_data_plane(arguments: list[str], environment: dict[str, str], choice: str) -> None:
    assert parse([*arguments, "wg0"], environment).data_plane == choice


def test_shared_networks() -> None:
    networks = "10.0.0.0/8, fd00::/8"
    assert parse(["wg0"], {"HANDFAST_SHARED_NETWORKS": networks}).settings.shared_networks == (
        Prefix(b"\x0a\0\0\0", 8),
        Prefix(b"\xfd" + bytes(15), 8),
    )
    with pytest.raises(StartError, match="HANDFAST_SHARED_NETWORKS=everywhere"):
        parse(["wg0"], {"HANDFAST_SHARED_NETWORKS": "everywhere"})


@pytest.mark.parametrize(("text", "announce"), [("always", True), ("never", False), ("", True)])
def test_announce(text: str, announce: bool) -> None:
    assert parse(["wg0"], {"HANDFAST_ANNOUNCE": text}).settings.announce is announce


@pytest.mark.parametrize(
    ("arguments", "environment", "reason"),
    [
        ([], {}, "one INTERFACE is needed, not 0"),
        (["wg0", "wg1"], {}, "one INTERFACE is needed, not 2"),
        (["--frobnicate", "wg0"], {}, "unknown option '--frobnicate'"),
        (["wg0", "--metrics"], {}, "--metrics needs a value"),
        (["--metrics", "localhost:1", "wg0"], {}, "--metrics: 'localhost:1' is not an address and port"),
        (["--timers", "slow", "wg0"], {}, "--timers=slow: choose recovery or strict"),
        (["wg0"], {"HANDFAST_TIMERS": "slow"}, "HANDFAST_TIMERS=slow: choose recovery or strict"),
        (["--data-plane", "C", "wg0"], {}, "--data-plane=C: choose auto, pure or native"),
        (["wg0"], {"HANDFAST_DATA_PLANE": "C"}, "HANDFAST_DATA_PLANE=C: choose auto, pure or native"),
        (["wg0"], {"HANDFAST_ANNOUNCE": "auto"}, "HANDFAST_ANNOUNCE=auto: choose always or never"),
        (["wg0"], {"WG_TUN_FD": "x"}, "WG_TUN_FD: 'x' is not a number"),
    ],
)
def test_a_bad_call_says_what_and_why(arguments: list[str], environment: dict[str, str], reason: str) -> None:
    with pytest.raises(StartError, match=reason):
        parse(arguments, environment)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"handfast-tunnel {__version__}\n"


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())


def test_no_arguments_show_how_to_call_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 1
    assert capsys.readouterr().err.startswith("usage: handfast-tunnel")


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--frobnicate"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("handfast-tunnel: unknown option")
    assert output.err.count("\n") == 1


LATE = {"aiohttp", "argparse", "asyncio", "hashlib", "http", "nacl", "prometheus_client", "ssl", "wsgiref"}
LATE_FOR_A_DAEMON = LATE | {"dataclasses", "inspect", "json", "subprocess"}


@pytest.mark.parametrize(
    ("modules", "late"),
    [
        ("handfast_tunnel.daemon, handfast_tunnel.options", LATE_FOR_A_DAEMON),
        ("handfast_tunnel.pod.life, handfast_tunnel.pod.options", LATE),
    ],
    ids=["daemon", "pod"],
)
def test_the_start_imports_nothing_that_can_wait(modules: str, late: set[str]) -> None:
    program = f"import {modules}, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert late.isdisjoint(result.stdout.split())


# --- the commands -----------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    calls: list[tuple[str, dict[str, Any]]] = []
    answers: dict[str, dict[str, Any]] = {
        "drain": {"frozen": True},
        "handshake": {"initiated": 1},
        "status": STATUS,
    }

    def ask(interface: str, request: dict[str, Any]) -> dict[str, Any]:
        calls.append((interface, request))
        return answers[request["call"]]

    monkeypatch.setattr(commands, "ask", ask)
    monkeypatch.setattr(commands, "running", lambda: ["wg0"])
    return calls


STATUS: dict[str, Any] = {
    "interface": "wg0",
    "version": __version__,
    "public_key": KEY,
    "listen_port": 51820,
    "frozen": False,
    "incarnation": 12,
    "queue_drops": {
        "at_takeover": {"udp_queue": 1000, "tun_queue": 200, "tun_host": 0},
        "total": {"udp_queue": 123_456, "tun_queue": 200, "tun_host": 4},
    },
    "settings": {"timers": "recovery", "announce": True, "burst_per_second": 500.0},
    "data_plane": "native",
    "features": ["TUN: none"],
    "recovery": {"total": 3, "pending": 1, "waiting": 1, "recovered": 1},
    "peers": [
        {
            "public_key": KEY,
            "endpoint": "[2001:db8:1111:2222:3333:4444:5555:6666]:51820",
            "recovery": "recovered",
            "method": "announced",
            "handshake_age": 100 * 86400.0,
            "received_bytes": 2**40 - 1,
            "sent_bytes": 1023 * 2**30,
        },
        {
            "public_key": KEY,
            "endpoint": None,
            "recovery": "waiting",
            "method": None,
            "handshake_age": None,
            "received_bytes": 0,
            "sent_bytes": 0,
        },
    ],
}


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (["drain"], ("wg0", {"call": "drain", "on": True})),
        (["drain", "wg1"], ("wg1", {"call": "drain", "on": True})),
        (["drain", "wg1", "--off"], ("wg1", {"call": "drain", "on": False})),
        (["handshake"], ("wg0", {"call": "handshake", "peers": None})),
        (["handshake", KEY], ("wg0", {"call": "handshake", "peers": [KEY]})),
        (["handshake", "wg1", KEY, KEY], ("wg1", {"call": "handshake", "peers": [KEY, KEY]})),
        (["status"], ("wg0", {"call": "status"})),
        (["status", "--json", "wg1"], ("wg1", {"call": "status"})),
    ],
)
def test_command(
    asked: list[tuple[str, dict[str, Any]]],
    arguments: list[str],
    call: tuple[str, dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(arguments) == 0
    assert asked == [call]
    assert call[0] in capsys.readouterr().out or arguments[0] == "status"


def test_several_tunnels_must_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANDFAST_RUN_DIR", str(tmp_path))
    assert cli.main(["status"]) == 1
    assert "no tunnel answers in" in capsys.readouterr().err
    with open_listener("wg0"), open_listener("wg1"):
        assert cli.main(["status"]) == 1
    assert "several tunnels run here, name one of: wg0, wg1" in capsys.readouterr().err


def test_status_is_a_table_of_80_columns() -> None:
    lines = format_status(STATUS)
    assert all(len(line) <= 80 for line in lines)
    assert lines == [
        "wg0: serving on port 51820, 2 peers, public key",
        f"  {KEY}",
        "  incarnation 12; packets lost in queues: 1200 at its takeover, 123660 in all",
        "  data plane: native",
        "  recovery: 1 of 3 peers back, 1 in progress, 1 left to come by themselves",
        "",
        "PEER         ENDPOINT                    RECOVERY  HANDSHAKE  RECEIVED      SENT",
        "uFmW/sycfx/… [2001:db8:1111:2222:3333:4… announced  100d 00h   1.0 TiB   1.0 TiB",
        "uFmW/sycfx/… -                           waiting           -       0 B       0 B",
    ]


def test_status_before_any_configuration() -> None:
    progress = {"total": 0, "pending": 0, "waiting": 0, "recovered": 0}
    fresh = {**STATUS, "public_key": None, "peers": [], "frozen": True, "recovery": progress}
    fresh["incarnation"] = None
    assert format_status(fresh) == [
        "wg0: frozen on port 51820, 0 peers, public key",
        "  not set yet",
        "  data plane: native",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.9, "59s"), (60, "1m 00s"), (3599, "59m 59s"), (3600, "1h 00m"), (90061, "1d 01h")],
)
def test_age(seconds: float, text: str) -> None:
    assert format_age(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (99.5 * 1024, "100 KiB"),
        (2**30, "1.0 GiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_bytes(number: int, text: str) -> None:
    assert format_bytes(number) == text
