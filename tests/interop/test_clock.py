"""The clock is set back while we run: initiations still carry a later stamp than before (RECOVERY, 3)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.interop.conftest import Pair
from tests.lab.namespaces import wait_until
from tests.lab.wire import session_completed


@pytest.fixture
def clock(serving: Pair, tmp_path: Path) -> Path:
    """The server's: what is written there is added to the time."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    serving.server.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return clock


@pytest.mark.parametrize(("change", "said"), [("+2h", "s ahead"), ("-2h", "s behind")])
def test_more_than_an_hour_is_told_of(serving: Pair, clock: Path, change: str, said: str) -> None:
    ours, theirs = serving.server, serving.client
    serving.start()
    theirs.reaches(ours)
    clock.write_text(change)
    wait_until(lambda: said in ours.running.output(), 5, "a warning")
    assert theirs.ping(ours)


def test_an_hour_back(serving: Pair, clock: Path) -> None:
    ours, theirs = serving.server, serving.client
    ours.knows(theirs)
    serving.start()
    capture = serving.on_client_cable
    capture.wait_for(lambda: session_completed(capture), 5, "a session")
    assert theirs.ping(ours)

    clock.write_text("-1h")
    set_back = time.monotonic()
    ours.command("handshake")
    capture.wait_for(lambda: session_completed(capture, set_back), 8, "a session with the clock an hour back")
    assert ours.ping(theirs)
    assert time.time() - ours.status(theirs).latest_handshake > 3000, "the clock was really set back"
