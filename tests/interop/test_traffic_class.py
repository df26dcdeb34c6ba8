"""What routers on the way may see and say: DSCP of handshakes, ECN in both directions (RECOVERY, 8)."""

from __future__ import annotations

import socket

from tests.interop.conftest import Pair
from tests.lab.filters import Filters, Message

AF41 = 0x88
ECN, ECT0, CE = 3, 2, 3


def test_handshakes_are_marked_af41(pair: Pair) -> None:
    pair.start()
    pair.client.reaches(pair.server)
    source = pair.ours.host.ipv4
    sent = pair.on_client_cable.matching(source=source)
    handshakes = [d for d in sent if d.type in (Message.INITIATION, Message.RESPONSE)]
    assert handshakes
    assert {d.traffic_class for d in handshakes} == {AF41}
    assert {d.traffic_class for d in sent if d.type is Message.TRANSPORT} == {0}


def test_ecn_shows_outside_and_congestion_comes_in(usual: Pair, filters: Filters) -> None:
    ours, theirs = usual.server, usual.client
    usual.start()
    theirs.reaches(ours)
    # Towards the client: what we seal carries the inner packet's ECN.
    assert ours.node.attempt("ping", "-c1", "-W2", f"-Q{ECT0}", theirs.ipv4).returncode == 0
    sent = usual.on_client_cable.matching(Message.TRANSPORT, source=ours.host.ipv4)
    assert sent[-1].traffic_class == ECT0

    # Towards us: a router marks the outer packet, and the inner one tells it to who asked for it.
    filters.mark_congestion(destination="server")
    with ours.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind((ours.ipv4, 9999))
        sink.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sink.settimeout(5)
        with theirs.node.socket(socket.AF_INET, socket.SOCK_DGRAM) as source:
            source.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, ECT0)
            source.sendto(b"marked", (ours.ipv4, 9999))
        payload, control, _, _ = sink.recvmsg(100, 100)
    assert payload == b"marked"
    assert control[0][2][0] & ECN == CE
