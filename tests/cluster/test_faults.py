"""Some rounds of faults; `make soak` runs fifty. What they check of captures is checked here, too."""

from __future__ import annotations

import pytest

from tests.lab.filters import Message
from tests.lab.wire import Datagram

from . import answers, faults
from .api import Api
from .cluster import Cluster
from .gateways import install
from .outside import Outside

ROUNDS, SEED = 3, 5
CLIENT = "10.77.1.2"


@pytest.mark.disturbs_nodes
@pytest.mark.timeout(400)
def test_rounds_of_faults(api: Api, machines: Cluster, outside: Outside) -> None:
    install(machines)
    with faults.scene(machines, api, outside) as scene:
        for each in faults.rounds(scene, SEED, ROUNDS):
            print(f"{each.number}: {each.fault}: {each.recovery}")
            assert not each.wrong, f"round {each.number}, {each.fault}: {each.wrong}"


def heard(
    kind: Message, at: float, receiver: int, *, counter: int = 0, sender: int = 0, to: str = CLIENT
) -> Datagram:
    first, second = (sender, receiver) if kind is Message.RESPONSE else (receiver, counter)
    payload = bytes([kind, 0, 0, 0]) + first.to_bytes(4, "little") + second.to_bytes(8, "little")
    return Datagram(at, "203.0.113.10", 51820, to, 40000, 0, 0, payload.ljust(64, b"\0"), 64)


WELL = [
    heard(Message.RESPONSE, 0.0, 7, sender=1),
    heard(Message.TRANSPORT, 0.1, 7, counter=0),
    heard(Message.TRANSPORT, 0.2, 7, counter=5),
    heard(Message.RESPONSE, 0.3, 8, sender=2),
    heard(Message.TRANSPORT, 0.4, 8, counter=0),
    heard(Message.TRANSPORT, 0.5, 7, counter=6),
]


def test_an_ordinary_change_of_sessions_is_no_complaint() -> None:
    assert not answers.complaints(WELL, CLIENT)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (heard(Message.TRANSPORT, 0.6, 8, counter=0), "for the second time"),
        (heard(Message.TRANSPORT, 0.7, 7, counter=7), "after a later session began"),
        (heard(Message.RESPONSE, 0.7, 8, sender=3), "answered the same initiation"),
    ],
)
def test_a_client_that_hears_too_much(wrong: Datagram, complaint: str) -> None:
    (found,) = answers.complaints([*WELL, wrong], CLIENT)
    assert complaint in found
    assert not answers.complaints([*WELL, wrong], "10.77.2.2")
