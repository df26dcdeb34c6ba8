from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from handfast_tunnel.adapters import calls, control
from handfast_tunnel.adapters.control import ControlServer, open_listener
from handfast_tunnel.adapters.control_client import ControlError, ask, running
from handfast_tunnel.adapters.text import format_key, parse_prefix
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.peer import Recovery

from .fake_tunnel import FakeTunnel

PRIVATE, SHARED, ONE, TWO = (bytes([number]) * 32 for number in (1, 2, 3, 4))
CHANGE = InterfaceChange(
    private_key=PRIVATE,
    listen_port=51820,
    peers=(
        PeerChange(
            ONE,
            preshared_key=SHARED,
            endpoint=Endpoint("192.0.2.1", 7),
            allowed_ips=(parse_prefix("10.0.0.1/32"),),
        ),
        PeerChange(TWO),
    ),
)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HANDFAST_RUN_DIR", str(tmp_path / "run" / "handfast"))
    return tmp_path / "run" / "handfast"


@pytest.fixture
def tunnel(directory: Path) -> Iterator[FakeTunnel]:
    tunnel = FakeTunnel()
    tunnel.device.configure(CHANGE, tunnel.loop.now)
    server = ControlServer(tunnel.as_tunnel, open_listener("wg0"))
    tunnel.start()
    yield tunnel
    tunnel.stop()
    server.close()
    tunnel.close()
    assert not list(directory.iterdir())


def test_only_its_owner_can_reach_it(directory: Path) -> None:
    with open_listener("wg0"):
        assert directory.stat().st_mode & 0o777 == 0o700
        assert (directory / "wg0.control").stat().st_mode & 0o777 == 0o600


def test_drain_and_thaw(tunnel: FakeTunnel) -> None:
    assert ask("wg0", {"call": "drain"}) == {"frozen": True}
    assert tunnel.device.frozen
    assert ask("wg0", {"call": "drain", "on": False}) == {"frozen": False}
    assert not tunnel.device.frozen


def test_handshake_with_all_or_named_peers(tunnel: FakeTunnel) -> None:
    assert ask("wg0", {"call": "handshake"}) == {"initiated": 2}
    assert ask("wg0", {"call": "handshake", "peers": [format_key(TWO)]}) == {"initiated": 1}
    assert tunnel.handshakes == [None, [TWO]]


def test_a_start_hook_greets_only_who_lost_its_session(tunnel: FakeTunnel) -> None:
    assert ask("wg0", {"call": "handshake", "lost_only": True}) == {"initiated": 1}
    named = {"call": "handshake", "lost_only": True, "peers": [format_key(TWO)]}
    assert ask("wg0", named) == {"initiated": 1}
    assert (tunnel.greetings, tunnel.handshakes) == (1, [[TWO]])


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ({"call": "handshake", "peers": [format_key(PRIVATE)]}, "wg0 refused: wg0 has no peer AQEB"),
        ({"call": "handshake", "peers": ["x"]}, "peer 'x': not a key"),
        ({"call": "handshake", "peers": "x"}, "not a list"),
        ({"call": "drain", "on": "yes"}, "neither true nor false"),
        ({"call": "shutdown"}, "out of drain, handshake, status"),
        ({}, "out of drain, handshake, status"),
    ],
)
def test_refused(tunnel: FakeTunnel, request_: dict[str, Any], reason: str) -> None:
    with pytest.raises(ControlError, match=reason):
        ask("wg0", request_)
    assert not tunnel.handshakes
    assert not tunnel.device.frozen


@pytest.mark.usefixtures("tunnel")
@pytest.mark.parametrize("line", [b"", b"drain", b"[]", b"1", b'{"call": []}', b"\xff"])
def test_no_request_at_all(directory: Path, line: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(directory / "wg0.control"))
        connection.sendall(line + b"\n")
        assert "a request is JSON" in json.loads(connection.makefile().readline())["error"]


@pytest.mark.usefixtures("tunnel")
def test_a_request_without_end_is_dropped(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_LIMIT", 1000)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(directory / "wg0.control"))
        connection.sendall(b" " * 1001)
        assert connection.recv(1) == b""
    assert ask("wg0", {"call": "drain", "on": False}) == {"frozen": False}


def test_status(tunnel: FakeTunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_700_000_061_500_000_000)
    peer = tunnel.device.peers[ONE]
    peer.last_handshake_wall = 1_700_000_000_500_000_000
    peer.sent_bytes, peer.received_bytes = 12, 34
    peer.recovery = Recovery("announced", "recovered")
    peer.recovery.latency, peer.outage = 0.125, 0.25
    peer.marks.last_received = tunnel.loop.now - 1
    answer = ask("wg0", {"call": "status"})
    assert answer["interface"] == "wg0"
    assert answer["listen_port"] == 51820
    assert answer["frozen"] is False
    assert answer["incarnation"] == 3
    assert answer["queue_drops"]["at_takeover"] == {"udp_queue": 2, "tun_queue": 1, "tun_host": 0}
    assert answer["queue_drops"]["total"] == {"udp_queue": 4, "tun_queue": 3, "tun_host": 0}
    assert answer["settings"] == {"timers": "recovery", "announce": True, "burst_per_second": 500.0}
    assert (answer["data_plane"], answer["features"]) == ("pure", ["TUN: none", "UDP: none"])
    assert answer["recovery"] == {"total": 1, "pending": 0, "waiting": 0, "recovered": 1}
    assert 1 <= answer["peers"][0].pop("received_age") < 60
    assert answer["peers"] == [
        {
            "public_key": format_key(ONE),
            "endpoint": "192.0.2.1:7",
            "allowed_ips": ["10.0.0.1/32"],
            "recovery": "recovered",
            "method": "announced",
            "latency": 0.125,
            "outage": 0.25,
            "last_handshake": 1_700_000_000.5,
            "handshake_age": 61.0,
            "received_bytes": 34,
            "sent_bytes": 12,
        },
        {
            "public_key": format_key(TWO),
            "endpoint": None,
            "allowed_ips": [],
            "recovery": "idle",
            "method": None,
            "latency": None,
            "outage": None,
            "last_handshake": None,
            "handshake_age": None,
            "received_age": None,
            "received_bytes": 0,
            "sent_bytes": 0,
        },
    ]


@pytest.mark.usefixtures("tunnel")
def test_status_holds_no_secret() -> None:
    text = json.dumps(ask("wg0", {"call": "status"}))
    for secret in (PRIVATE, SHARED):
        assert format_key(secret) not in text
        assert secret.hex() not in text


def test_status_of_a_fresh_interface() -> None:
    with closing(FakeTunnel()) as tunnel:
        answer = json.loads("".join(calls.status(tunnel.as_tunnel, {})))
    assert answer["public_key"] is None
    assert answer["peers"] == []
    assert answer["recovery"]["total"] == 0


def test_status_of_many_peers_comes_in_small_pieces() -> None:
    peers = tuple(PeerChange(number.to_bytes(32, "big")) for number in range(1, 1001))
    with closing(FakeTunnel()) as tunnel:
        tunnel.device.configure(InterfaceChange(peers=peers), tunnel.loop.now)
        pieces = list(calls.status(tunnel.as_tunnel, {}))
    assert len(pieces) > 1000 // calls.PEERS_A_PIECE
    assert len(json.loads("".join(pieces))["peers"]) == 1000


@pytest.mark.usefixtures("directory")
def test_asking_where_nobody_is() -> None:
    with pytest.raises(
        ControlError, match=r"no tunnel answers at .*wg7\.control: start `handfast-tunnel wg7`"
    ):
        ask("wg7", {"call": "status"})


@pytest.mark.usefixtures("directory")
def test_an_answer_cut_short() -> None:
    with open_listener("wg0") as listener:

        def die_in_the_middle() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b'{"frozen": ')

        thread = threading.Thread(target=die_in_the_middle)
        thread.start()
        with pytest.raises(ControlError, match="it ended before its answer"):
            ask("wg0", {"call": "drain"})
        thread.join()


@pytest.mark.usefixtures("directory")
def test_running_names_those_that_answer() -> None:
    assert running() == []
    open_listener("wg0").close()
    with open_listener("wg1"), open_listener("wg2"):
        assert running() == ["wg1", "wg2"]
