"""What is made of what one event's clients saw: since when they were dark, and until when."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import pytest
from bench.clients import Client
from bench.cluster.clients import Entrance, Way
from bench.cluster.results import HANDFAST, Event, Exposure
from bench.cluster.run import View
from bench.results import Kind

from tests.lab.network import Host
from tests.lab.probes import Log

BEGAN, UNTIL = 100.0, 200.0
HANDOVER = 130.0
"""A chart's upgrade takes a while until it comes to the gateway's pods."""


def way(kind: Kind, *handshakes: float, log: Log | None = None) -> Way:
    host = cast(Host, SimpleNamespace(nat=False))
    entrance = Entrance(HANDFAST, "", "", "")
    return Way(
        Client(kind, host, 7, endpoint=True), Exposure.NODE_PORT, entrance, log=log, handshakes=[*handshakes]
    )


def probes(silence: float) -> Log:
    """Twenty a second, but for one silence that begins with the handover."""
    every = [BEGAN - 1 + 0.05 * number for number in range(2100)]
    return Log(arrived=[at for at in every if not HANDOVER < at < HANDOVER + silence])


def view(*ways: Way, methods: dict[str, str] | None = None) -> View:
    return View(Event.IMAGE, ways, BEGAN, UNTIL, methods or {})


@pytest.mark.parametrize("silence", [0.2, 15.0])
def test_a_keepalives_wait_begins_when_others_fall_silent(silence: float) -> None:
    quiet = way(Kind.KEEPALIVES, 95.0, 147.5)
    seen = view(quiet, way(Kind.SENDING, log=probes(silence)))
    assert seen.outage(quiet).seconds == pytest.approx(17.5, abs=0.1)


def test_without_a_silence_it_begins_with_the_event() -> None:
    quiet = way(Kind.KEEPALIVES, 95.0, 147.5)
    seen = view(quiet, way(Kind.SENDING, log=probes(0.0)))
    assert seen.outage(quiet).seconds == pytest.approx(47.5)


def test_who_is_never_answered_again_is_not_back() -> None:
    sender = way(Kind.SENDING, log=probes(math.inf))
    assert view(sender).outage(sender).seconds == math.inf


def test_what_a_former_event_left_is_no_method_of_this_one() -> None:
    sender = way(Kind.SENDING, 95.0, log=probes(0.0))
    key = sender.client.keys.public
    found = {
        known: view(sender, methods={key: known}).outage(sender).method for known in ("answered", "resumed")
    }
    assert found == {"answered": "session went on", "resumed": "resumed"}
    sender.note_handshake(HANDOVER + 0.1)
    assert view(sender, methods={key: "answered"}).outage(sender).method == "answered"
