"""Status goes over the wire and back, and older and newer releases read each other's."""

from __future__ import annotations

import json
from typing import Any

import pytest

from handfast_tunnel.control import (
    DocumentError,
    FamilyStatus,
    ForwardingStatus,
    PeerStatus,
    RecoveryProgress,
    Refused,
    Role,
    Status,
)
from handfast_tunnel.control.status import DrainingStatus

STATUS = Status(
    role=Role.DRAINING,
    term=3,
    heard=4,
    generation=5,
    incarnation=2,
    offering=True,
    draining=DrainingStatus(3.5, "b"),
    pod_uid="a",
    uid="u",
    public_key="k",
    interface="wg0",
    listen_port=51820,
    mtu=1420,
    forwarding=ForwardingStatus(FamilyStatus(ready=True), FamilyStatus(reason="IPv6ForwardingOff")),
    recovery=RecoveryProgress(1, 2, 3),
    connected=1,
    max_received_age=0.5,
    control_age=None,
    outbound_stamp=None,
    peers=(PeerStatus("p", "alice", "192.0.2.1:7", 1.7e9, 1.7e9, "s", connected=True, method="answered"),),
)


def test_it_comes_back_as_it_was() -> None:
    assert Status.from_json(json.loads(json.dumps(STATUS.to_json()))) == STATUS


def test_its_names_are_those_of_the_api() -> None:
    names = set(STATUS.to_json())
    assert names >= {"role", "podUID", "listenPort", "publicKey", "maxReceivedAge", "outboundStamp"}
    assert names >= {"knownSessions", "peers"}
    assert STATUS.to_json()["role"] == "draining"
    assert set(STATUS.to_json()["peers"][0]) >= {
        "lastHandshake",
        "lastReceived",
        "receivedBytes",
        "sentBytes",
    }


def test_a_newer_sidecar_may_say_more() -> None:
    assert Status.from_json(STATUS.to_json() | {"weather": "fine"}) == STATUS


@pytest.mark.parametrize(
    "value", [None, [], {}, STATUS.to_json() | {"role": "king"}, STATUS.to_json() | {"peers": [1]}]
)
def test_what_is_no_status(value: Any) -> None:
    with pytest.raises(DocumentError):
        Status.from_json(value)


@pytest.mark.parametrize("body", [None, [], {"error": 1}, {"error": {}}, "x"])
def test_an_answer_that_is_not_a_sidecars(body: Any) -> None:
    assert "HTTP status 502" in str(Refused.from_json(502, body))


def test_a_refusal_comes_back_as_it_was() -> None:
    refused = Refused(409, "drain", "it is over", which="term 3", remedy="choose another")
    again = Refused.from_json(409, refused.to_json())
    assert str(again) == str(refused) == "drain term 3: it is over; choose another"
