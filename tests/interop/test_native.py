"""The compiled data plane with unmodified clients. Where it is not built, Python's takes its place here."""

from __future__ import annotations

import json
import time

import pytest

from tests.interop.conftest import Pair, make_pair
from tests.interop.outliving import handshakes, wait_for_method
from tests.interop.transfer import there_and_back, transfer
from tests.lab.filters import Message
from tests.lab.implementations import HANDFAST, NATIVE_IS_BUILT, Implementation, implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.probes import Probes
from tests.lab.restarts import EVENTS
from tests.lab.wire import session_completed

SIZE = 5_000_000


@pytest.fixture
def handfast() -> Implementation:
    return implementation("handfast-native" if NATIVE_IS_BUILT else "handfast")


def test_it_says_which_it_is(usual: Pair) -> None:
    usual.start()
    status = json.loads(usual.ours.node.run(str(HANDFAST), "status", "--json"))
    assert status["data_plane"] == ("native" if NATIVE_IS_BUILT else "pure")


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_streams_arrive_as_they_were(pair: Pair, ipv6: bool) -> None:
    pair.start()
    there_and_back(pair.client, pair.server, SIZE, ipv6=ipv6)


@pytest.mark.parametrize("disabled", ["vnet_hdr", "tso,uso", "udp_gso", "udp_gro"])
def test_without_features_of_the_kernel(usual: Pair, disabled: str) -> None:
    usual.ours.environment["HANDFAST_DISABLE"] = disabled
    usual.start()
    there_and_back(usual.client, usual.server, SIZE)


def test_two_of_a_kind(network: Network, handfast: Implementation) -> None:
    pair = make_pair(network, handfast, handfast, handfast_serves=True)
    pair.start()
    there_and_back(pair.client, pair.server, SIZE)


def test_keys_are_renewed_under_traffic(
    network: Network, handfast: Implementation, wireguard_go: Implementation, probes: Probes
) -> None:
    hurried = handfast.hurried(REKEY_AFTER_TIME=2.0, RECOVERY_REKEY_AGE=(2.0, 2.1), REKEY_TIMEOUT=0.5)
    pair = make_pair(network, hurried, wireguard_go, handfast_serves=False)
    pair.start()
    probes.answer(pair.server.node)
    log = probes.ask(pair.client.node, pair.server.ipv4, rate=200.0)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    began = time.monotonic()
    capture, ours = pair.on_server_cable, pair.ours.host.ipv4
    (renewal, *_) = capture.wait(Message.INITIATION, source=ours, since=began, timeout=10)
    capture.wait_for(lambda: session_completed(capture, renewal.time - 0.01), 5, "new keys")
    time.sleep(0.5)
    sent = capture.matching(Message.TRANSPORT, source=ours)
    assert sent[-1].receiver != sent[0].receiver
    assert log.longest_silence(began) < 1


@pytest.mark.parametrize("event", EVENTS)
def test_sessions_outlive_a_restart(usual: Pair, probes: Probes, event: str) -> None:
    usual.start()
    probes.answer(usual.server.node)
    log = probes.ask(usual.client.node, usual.server.ipv4, rate=200.0)
    wait_until(lambda: log.settled(0), 10, "the first answers")
    began = EVENTS[event](usual.server)
    wait_until(lambda: log.settled(began + 0.05), 10, "answers afterwards")
    wait_for_method(usual.server, usual.client, "resumed")
    assert not handshakes(usual, began)
    assert log.longest_silence(began) < 2
    transfer(usual.client, usual.server, SIZE)
