"""Drain: from one moment on nothing leaves, nothing is opened, and nothing is expired (RECOVERY, 7)."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.interop.conftest import Pair
from tests.interop.outliving import settle_pair
from tests.lab.filters import Message
from tests.lab.namespaces import wait_until
from tests.lab.peer import Peer
from tests.lab.probes import Probes
from tests.lab.wire import Datagram


def by_socket(server: Peer, on: bool) -> None:
    assert server.uapi(f"set=1\ndrain={str(on).lower()}\n\n") == "errno=0\n\n"


def by_command(server: Peer, on: bool) -> None:
    server.command("drain", *([] if on else ["--off"]))


def sent_by_us(pair: Pair, since: float) -> list[Datagram]:
    return pair.on_server_cable.matching(source=pair.server.host.ipv4, since=since)


@pytest.mark.parametrize("drain", [by_socket, by_command])
def test_drained_nothing_leaves_and_thawed_the_session_goes_on(
    serving: Pair, probes: Probes, drain: Callable[[Peer, bool], None]
) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    probes.answer(ours.node)
    log = probes.ask(theirs.node, ours.ipv4)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    settle_pair(serving)
    handshakes = len(serving.on_server_cable.matching(Message.RESPONSE))

    drain(ours, True)
    drained = time.monotonic()
    ours.node.start("ping", "-i0.2", theirs.ipv4)
    time.sleep(2)
    assert not sent_by_us(serving, drained)
    assert "wg0" in ours.wg("show"), "it still answers questions"

    drain(ours, False)
    thawed = time.monotonic()
    wait_until(lambda: log.settled(thawed), 5, "answers after the thaw")
    assert len(serving.on_server_cable.matching(Message.RESPONSE)) == handshakes, "the same session"
    assert not serving.on_server_cable.matching(Message.INITIATION, since=drained)


def test_drained_it_answers_no_handshake(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    ours.start()
    by_socket(ours, True)
    drained = time.monotonic()
    theirs.start()
    theirs.node.start("ping", "-i0.2", ours.ipv4)
    usual.on_server_cable.wait(Message.INITIATION, source=theirs.host.ipv4)
    time.sleep(0.5)
    assert not sent_by_us(usual, drained)
    by_socket(ours, False)
    theirs.reaches(ours)


def test_drained_it_greets_nobody(usual: Pair) -> None:
    ours, theirs = usual.server, usual.client
    theirs.start()
    ours.launch()
    by_socket(ours, True)
    ours.knows(theirs)
    ours.configure()
    ours.bring_up()
    time.sleep(1)
    assert not sent_by_us(usual, 0)
    by_socket(ours, False)
    usual.on_server_cable.wait(Message.INITIATION, source=ours.host.ipv4)


def test_sigterm_drains_and_ends(usual: Pair, probes: Probes) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    probes.answer(ours.node)
    log = probes.ask(theirs.node, ours.ipv4, rate=200)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    assert ours.stop() == 0
    stopped = time.monotonic()
    time.sleep(0.5)
    assert not sent_by_us(usual, stopped)
    last = sent_by_us(usual, 0)[-1]
    assert not last.is_keepalive, "no farewell"
    assert last.type is Message.TRANSPORT
    assert not ours.node.run("ls", "/run/wireguard")
