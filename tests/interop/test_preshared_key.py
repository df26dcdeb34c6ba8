"""Preshared keys: both ends need the same one, and it can be changed while they run."""

from __future__ import annotations

from tests.interop.conftest import Pair
from tests.lab.peer import introduce, preshared_key


def test_the_same_on_both_ends(pair: Pair) -> None:
    introduce(pair.client, pair.server, preshared_key=preshared_key())
    pair.start()
    assert pair.client.ping(pair.server)


def test_another_one_is_refused_until_it_is_corrected(pair: Pair) -> None:
    pair.client.knows(pair.server, preshared_key=preshared_key())
    pair.server.knows(pair.client, endpoint=False, preshared_key=preshared_key())
    pair.start()
    assert not pair.client.ping(pair.server, timeout=1)
    assert pair.server.status(pair.client).latest_handshake == 0

    introduce(pair.client, pair.server, preshared_key=preshared_key())
    pair.server.configure()
    pair.client.configure()
    pair.client.reaches(pair.server)
