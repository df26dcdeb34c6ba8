from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from handfast_tunnel import cli
from handfast_tunnel.continuity.inspect import inspect
from handfast_tunnel.continuity.layout import VERSION
from handfast_tunnel.continuity.state_file import StateFile
from handfast_tunnel.continuity.storage import KeypairFacts, Position
from handfast_tunnel.core.endpoint import Endpoint

KEY, CONTEXT = b"p" * 32, b"context"
BASE64 = "cHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHA="


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    """One peer with two sessions, one of them expired; another without any."""
    state = StateFile(tmp_path / "wg0.state", "wg0")
    state.memory.listen_port = 51820
    marks = state.memory.peer_marks(KEY)
    marks.endpoint, marks.last_received, marks.outbound_stamp = (
        Endpoint("192.0.2.1", 51820),
        now() - 3,
        10**18,
    )
    for position, age in ((Position.CURRENT, 5.0), (Position.PREVIOUS, 200.0)):
        facts = KeypairFacts(b"s" * 32, b"r" * 32, 0xAAAA, 0xBBBB, True, now() - age, 120.0)
        numbers = state.memory.keypair_numbers(KEY, facts, CONTEXT)
        numbers.place(position)
        numbers.ceiling, numbers.highest_received, numbers.heard = 512, 41, True
    state.memory.peer_marks(b"q" * 32)
    return state


@pytest.mark.usefixtures("state")
def test_everything_but_the_keys_is_shown(tmp_path: Path) -> None:
    found = inspect(tmp_path / "wg0.state", "wg0")
    assert found["refused"] is None
    assert (found["held"], found["incarnation"], found["version"]) == (True, 1, VERSION)
    assert (found["drained"], found["committed_term"], found["listen_port"]) == (False, 0, 51820)
    peer = next(peer for peer in found["peers"] if peer["public_key"] == BASE64)
    assert peer["endpoint"] == "192.0.2.1:51820"
    assert 2 < peer["received_age"] < 60
    assert peer["sent_age"] is None
    assert peer["outbound_stamp"] == 10**9
    current, previous = peer["sessions"]
    assert (current["position"], current["expired"]) == ("current", False)
    assert (previous["position"], previous["expired"]) == ("previous", True)
    assert (current["local_index"], current["remote_index"]) == (0xAAAA, 0xBBBB)
    assert (current["send_ceiling"], current["highest_received"], current["heard"]) == (512, 41, True)
    text = json.dumps(found)
    assert (b"s" * 32).hex() not in text
    assert "ssss" not in text
    assert "c3Nzc3" not in text


def test_looking_changes_nothing_and_takes_no_lock(state: StateFile, tmp_path: Path) -> None:
    path = tmp_path / "wg0.state"
    before = path.read_bytes()
    assert inspect(path, "wg0")["held"]
    assert path.read_bytes() == before
    state.header.release()


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: os.truncate(path, 100), "it is too short"),
        (lambda path: os.truncate(path, 5000), "its length does not fit"),
        (lambda path: path.write_bytes(b"x" + path.read_bytes()[1:]), "it is no state memory"),
        (lambda path: path.chmod(0o644), "it is open to others: it must be a file of yours alone, mode 0600"),
    ],
)
def test_why_it_would_be_refused(damage: object, reason: str, tmp_path: Path) -> None:
    assert callable(damage)
    damage(tmp_path / "wg0.state")
    found = inspect(tmp_path / "wg0.state", "wg0")
    assert found["refused"] == reason
    assert "peers" not in found


@pytest.mark.usefixtures("state")
def test_another_interfaces_file_would_be_refused(tmp_path: Path) -> None:
    assert inspect(tmp_path / "wg0.state", "wg1")["refused"] == "it belongs to another interface"


def test_after_a_handover_nothing_would_be_resumed(state: StateFile, tmp_path: Path) -> None:
    state.memory.committed_term = 4
    found = inspect(tmp_path / "wg0.state", "wg0")
    assert found["refused"] == "another took over at term 4"
    assert found["committed_term"] == 4


# --- the command ---------------------------------------------------------------------------------


def show(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["state", "show", *arguments]) == 0
    return capsys.readouterr().out


@pytest.mark.usefixtures("state")
def test_a_person_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = show(capsys, "--state", str(tmp_path)).splitlines()
    assert lines[0] == f"wg0: {tmp_path}/wg0.state, 964 KiB"
    assert lines[1] == "  in use, owner number 1, 2 peers"
    assert any(line.startswith("cHBwcHBwcHB… current   initiator") for line in lines)
    assert any(line.startswith("cHBwcHBwcHB… expired ") for line in lines)
    assert any(line.endswith("no session") for line in lines)
    assert all(len(line) <= 80 for line in lines[1:])


@pytest.mark.usefixtures("state")
def test_a_program_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANDFAST_STATE_DIR", str(tmp_path))
    assert len(json.loads(show(capsys, "wg0", "--json"))["peers"]) == 2


@pytest.mark.usefixtures("state")
def test_a_refused_file_is_named_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.truncate(tmp_path / "wg0.state", 100)
    shown = show(capsys, "--state", str(tmp_path), "wg0").splitlines()
    assert shown == [f"wg0: {tmp_path}/wg0.state, 100 B", "  would be refused: it is too short"]


def test_without_a_file_one_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["wg0"], []):
        assert cli.main(["state", "show", "--state", str(tmp_path), *arguments]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith("handfast-tunnel: no ")
        assert captured.err.count("\n") == 1


def test_one_of_several_is_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("wg0", "wg1"):
        StateFile(tmp_path / f"{name}.state", name)
    assert cli.main(["state", "show", "--state", str(tmp_path)]) == 1
    assert "wg0, wg1" in capsys.readouterr().err
