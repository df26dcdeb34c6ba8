"""The clock is set back while we run: initiations still carry a later stamp than before (RECOVERY, 3)."""

from __future__ import annotations

import time
from pathlib import Path

from tests.interop.conftest import Pair
from tests.lab.wire import session_completed


def test_an_hour_back(serving: Pair, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    ours, theirs = serving.server, serving.client
    ours.environment |= {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    ours.knows(theirs)
    serving.start()
    capture = serving.on_client_cable
    capture.wait_for(lambda: session_completed(capture), 5, "a session")
    assert theirs.ping(ours)

    clock.write_text("-1h")
    set_back = time.monotonic()
    ours.command("handshake")
    capture.wait_for(lambda: session_completed(capture, set_back), 3, "a session with the clock an hour back")
    assert ours.ping(theirs)
    assert time.time() - ours.status(theirs).latest_handshake > 3000, "the clock was really set back"
