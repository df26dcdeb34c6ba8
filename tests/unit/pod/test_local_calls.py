"""What hooks and people may ask of a pod on its local socket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handfast_tunnel import commands
from handfast_tunnel.adapters import control
from handfast_tunnel.control import Role
from handfast_tunnel.control.roles import Call, Event, Standing
from handfast_tunnel.errors import ConfigurationError
from handfast_tunnel.pod import ending, offer
from handfast_tunnel.pod.accepted import Accepted
from handfast_tunnel.pod.gateway import Gateway
from handfast_tunnel.pod.local_calls import answer

from .conftest import CONFIGURATION, PodTunnel

ACTIVE = Standing(Role.ACTIVE, 3, 3)

Asker = Callable[..., dict[str, Any]]


@pytest.fixture
def tunnel() -> Iterator[PodTunnel]:
    tunnel = PodTunnel()
    yield tunnel
    tunnel.close()


def gateway_of(tunnel: PodTunnel, directory: Path, standing: Standing) -> Gateway:
    gateway = Gateway(tunnel.as_tunnel, Accepted(directory), CONFIGURATION, standing, "a")
    gateway.boot({}, 0)
    return gateway


@pytest.fixture
def active(tunnel: PodTunnel, tmp_path: Path) -> Gateway:
    return gateway_of(tunnel, tmp_path, ACTIVE)


@pytest.fixture
def standby(tunnel: PodTunnel, tmp_path: Path) -> Gateway:
    return gateway_of(tunnel, tmp_path, Standing())


def ask(gateway: Gateway, **request: object) -> dict[str, Any]:
    told: dict[str, Any] = json.loads("".join(answer(gateway, json.dumps(request).encode())))
    return told


def test_an_offer_freezes_nothing(active: Gateway) -> None:
    told = ask(active, call="offer")
    assert (told["role"], told["offering"], told["term"]) == ("active", True, 3)
    assert not active.tunnel.device.frozen
    assert ask(active, call="role")["offering"]


def test_an_offer_stands_where_its_handover_is_taken_back(active: Gateway) -> None:
    """The next successor may be a moment away, and the pod that is to end waits for it."""
    ask(active, call="offer")
    active.drain(Call(Event.DRAIN, 4, now=active.tunnel.loop.now, successor="b"), 5)
    active.thaw(4)
    assert (ask(active, call="role")["role"], active.offering) == ("active", True)
    active.thaw(4)
    assert not active.offering, "there is no successor"


def test_a_standby_has_nothing_to_offer(standby: Gateway) -> None:
    assert not ask(standby, call="offer")["offering"]


@pytest.mark.parametrize("on", [True, False])
def test_nobody_but_the_operator_drains_or_thaws(active: Gateway, standby: Gateway, on: bool) -> None:
    for gateway in (active, standby):
        frozen = gateway.tunnel.device.frozen
        with pytest.raises(ConfigurationError, match="drain --offer"):
            ask(gateway, call="drain", on=on)
        assert gateway.tunnel.device.frozen is frozen


def test_handshakes(active: Gateway) -> None:
    assert ask(active, call="handshake") == {"initiated": 3}


def test_a_standby_greets_nobody(standby: Gateway) -> None:
    assert ask(standby, call="handshake") == {"initiated": 0}


def test_status_shows_the_role(active: Gateway) -> None:
    status = ask(active, call="status")
    assert len(status["peers"]) == 3
    assert (status["role"], status["generation"]) == ("active", 5)
    ask(active, call="offer")
    lines = commands.format_status(ask(active, call="status"))
    assert "  active at term 3, generation 5, offering to hand over" in lines
    assert max(map(len, lines)) <= 80


def test_what_is_no_call(active: Gateway) -> None:
    with pytest.raises(ConfigurationError, match="a 'call' out of drain, handshake, status, offer, role"):
        ask(active, call="shutdown")


# --- the hook ---------------------------------------------------------------------------------------


@pytest.fixture
def listening(
    tunnel: PodTunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Standing], Gateway]]:
    """A gateway that answers on its socket."""
    monkeypatch.setenv("HANDFAST_RUN_DIR", str(tmp_path))
    servers = []

    def start(standing: Standing) -> Gateway:
        gateway = gateway_of(tunnel, tmp_path, standing)
        listener = control.open_listener("wg0")
        servers.append(control.ControlServer(tunnel.as_tunnel, listener, lambda line: answer(gateway, line)))
        tunnel.start()
        return gateway

    yield start
    if servers:
        tunnel.stop()
    for server in servers:
        server.close()


def test_the_hook_leaves_where_the_operator_does_not_call(
    listening: Callable[[Standing], Gateway],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(ending, "SILENCE", 0.3)
    gateway = listening(ACTIVE)
    assert offer.offer("wg0", 5.0) == 0
    assert capsys.readouterr().out == "wg0: the operator does not call\n"
    assert gateway.standing == ACTIVE


def test_the_hook_waits_no_longer_than_it_may(
    listening: Callable[[Standing], Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    listening(ACTIVE)
    began = time.monotonic()
    assert offer.offer("wg0", 0.3) == 0
    assert 0.3 <= time.monotonic() - began < 1.5
    assert capsys.readouterr().out == "wg0: nobody took over within 0.3 s\n"


def test_the_hook_of_a_standby_leaves_at_once(
    listening: Callable[[Standing], Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    listening(Standing())
    assert offer.offer(None, 5.0) == 0
    assert "nothing to hand over" in capsys.readouterr().out


def test_the_hook_sees_the_handover(
    listening: Callable[[Standing], Gateway], capsys: pytest.CaptureFixture[str]
) -> None:
    gateway = listening(ACTIVE)
    loop = gateway.tunnel.loop

    def hand_over() -> None:
        if not gateway.offering:
            loop.call_at(loop.now + 0.01, hand_over)
            return
        gateway.commit(4)

    loop.call_soon_threadsafe(hand_over)
    assert offer.offer("wg0", 5.0) == 0
    assert capsys.readouterr().out == "wg0: another pod took over\n"
    assert gateway.tunnel.device.committed


def test_hooks_succeed_where_nobody_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HANDFAST_RUN_DIR", str(tmp_path))
    assert commands.run("drain", ["--offer"]) == 0
    assert commands.run("handshake", ["--no-wait"]) == 0
    assert capsys.readouterr().err.count("no tunnel answers") == 2
