from __future__ import annotations

import base64
import re

import pytest
import segno

from handfast_plugin.config import qr_code
from handfast_plugin.errors import PluginError
from handfast_plugin.screen import Screen

from .conftest import Run
from .fake_cluster import FakeCluster
from .objects import conditions, peer

KEY = "YNqHbfBQKaGvlC4XPqYr1Cx0fXw8Lq5zT6R1b2u3c4E="
FILE = f"""\
# alice-phone of vpn/office
[Interface]
PrivateKey = {KEY}
Address = 10.8.0.7/32, fd00:8::7/128
DNS = 10.96.0.10, example.com

[Peer]
PublicKey = {KEY}
PresharedKey = {KEY}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.com:51820
PersistentKeepalive = 25
"""
_MODULES = {" ": (True, True), "▄": (True, False), "▀": (False, True), "█": (False, False)}


def modules(lines: list[str]) -> list[list[bool]]:
    """What a camera sees: dark or not."""
    rows: list[list[bool]] = []
    for line in lines:
        pairs = [_MODULES[letter] for letter in re.sub("\x1b\\[[0-9;]*m", "", line)]
        rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    return rows


def test_a_clients_file(cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    cluster.add("peers", peer("alice"))
    data = {"wg0.conf": base64.b64encode(FILE.encode()).decode()}
    cluster.add("secrets", {"metadata": {"name": "alice-handfast", "namespace": "vpn"}, "data": data})
    assert run("config", "alice") == 0
    assert capsys.readouterr().out == FILE
    assert run("config", "alice", "--qr") == 0
    code = segno.make_qr(FILE, error="l", boost_error=False)
    seen = modules(capsys.readouterr().out.splitlines())
    assert seen[: int(code.symbol_size(border=2)[1])] == [
        [bool(m) for m in row] for row in code.matrix_iter(border=2)
    ]


def test_a_code_of_an_ordinary_file_fits_on_80_columns() -> None:
    lines = qr_code(FILE, Screen(80, colour=True))
    assert max(len(re.sub("\x1b\\[[0-9;]*m", "", line)) for line in lines) <= 80
    # Black on white, whatever the terminal's own colours are.
    assert all(line.startswith("\x1b[97;40m") for line in lines)


def test_a_code_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PluginError, match="73 columns wide, and the terminal 40"):
        qr_code(FILE, Screen(40))


def test_a_peer_without_a_file_says_why(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = conditions(ConfigReady=("False", "EndpointUnknown", "the Tunnel's endpoint is not known yet"))
    cluster.add("peers", peer("alice", secretName="", conditions=waiting))
    assert run("config", "alice") == 1
    expected = "error: Peer alice has no configuration yet: the Tunnel's endpoint is not known yet\n"
    assert capsys.readouterr() == ("", expected)


def test_without_the_right_to_read_secrets(
    cluster: FakeCluster, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add("peers", peer("alice"))
    cluster.forbidden = {("get", "secrets")}
    assert run("config", "alice") == 1
    assert "may not get secrets in namespace vpn" in capsys.readouterr().err
