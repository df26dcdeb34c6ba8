"""Numbers that both sides of a connection must agree on, as the paper has them (section 6.1)."""

from __future__ import annotations

from handfast_tunnel.core import constants


def test_the_papers_numbers() -> None:
    assert constants.REKEY_AFTER_MESSAGES == 2**60
    assert constants.REJECT_AFTER_MESSAGES == 2**64 - 2**13 - 1
    assert constants.REKEY_AFTER_TIME == 120
    assert constants.REJECT_AFTER_TIME == 180
    assert constants.REKEY_ATTEMPT_TIME == 90
    assert constants.REKEY_TIMEOUT == 5
    assert constants.KEEPALIVE_TIMEOUT == 10


def test_a_jump_over_the_whole_window_stays_below_the_counters_that_exist() -> None:
    """The limit leaves room for a window's worth of packets sealed at the same time (section 5.4.6)."""
    assert 2**64 - constants.REJECT_AFTER_MESSAGES > constants.REPLAY_WINDOW


def test_a_cookie_is_used_shorter_than_it_is_honoured() -> None:
    assert constants.COOKIE_LIFETIME < constants.COOKIE_SECRET_TIME


def test_the_cadences_silence_is_longer_than_what_an_initiation_stops() -> None:
    """RECOVERY, section 4: at least 12 s, more than a client's own retry waits."""
    assert constants.CADENCE_SILENCE >= 12 > constants.REKEY_TIMEOUT + constants.REKEY_TIMEOUT_JITTER
