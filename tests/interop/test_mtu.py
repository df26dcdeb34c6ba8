"""Packets of every size, whole and unfragmented inside the tunnel."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.interop.conftest import Pair
from tests.lab.adversary import Injector
from tests.lab.filters import Message
from tests.lab.restarts import worker_of

IPV4_AND_ICMP = 28
IPV6_AND_ICMP = 48
MTU = 1420
BATCH = 20


def sizes(header: int) -> list[int]:
    """Around multiples of the padding, small and large, up to the MTU."""
    return [0, 1, 3, 4, 5, 15, 16, 17, 31, 500, 1000, *range(MTU - header - 18, MTU - header + 1)]


def test_every_size_to_the_mtu(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    for size in sizes(IPV4_AND_ICMP):
        assert pair.client.ping(pair.server, size=size), size
        assert pair.server.ping(pair.client, size=size), size
    for size in sizes(IPV6_AND_ICMP)[-3:]:
        assert pair.client.ping(pair.server, ipv6=True, size=size), size
    assert not pair.client.ping(pair.server, size=MTU - IPV4_AND_ICMP + 1, timeout=1), "the sender refuses it"
    assert not any(d.is_fragment for d in pair.on_client_cable.matching()), (
        "80 bytes are enough for the tunnel's own headers"
    )


@pytest.mark.parametrize("other", ["wireguard-go", "wireguard-go-modern"], indirect=True)
def test_a_larger_mtu_is_followed(pair: Pair) -> None:
    """Boringtun does not follow. No run of datagrams may leave as one then: the kernel refuses to cut it."""
    pair.start()
    pair.client.reaches(pair.server)
    for peer in (pair.server, pair.client):
        peer.node.run("ip", "link", "set", "wg0", "mtu", "9000")
    assert pair.client.ping(pair.server, size=8900), "in fragments of the underlay"
    with (
        pair.theirs.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink,
        pair.ours.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as source,
    ):
        os.kill(worker_of(pair.ours), signal.SIGSTOP)  # so that they are read as one batch
        sink.bind((pair.theirs.ipv4, 9999))
        sink.settimeout(2)
        for number in range(BATCH):
            source.sendto(bytes([number]) * 3000, sink.getsockname())
        os.kill(worker_of(pair.ours), signal.SIGCONT)
        assert [sink.recv(9000)[0] for _ in range(BATCH)] == list(range(BATCH))


def test_datagrams_may_be_fragmented_on_the_way(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    assert pair.client.ping(pair.server, size=1300)
    sent = pair.on_client_cable.matching(source=pair.ours.host.ipv4)
    assert sent
    assert all(d.may_be_fragmented for d in sent)


def test_a_forged_message_does_not_shrink_the_path(serving: Pair, injector: Injector) -> None:
    """Anyone may send ICMP in the name of a router (RECOVERY, 8)."""
    serving.start()
    serving.client.reaches(serving.server)
    capture = serving.on_client_cable
    sent = capture.matching(Message.TRANSPORT, source=serving.server.host.ipv4)[-1]
    injector.claim_small_path(sent, mtu=600)
    time.sleep(0.1)
    assert serving.server.ping(serving.client, size=1300)
    assert not any(d.is_fragment for d in capture.matching(source=serving.server.host.ipv4))
