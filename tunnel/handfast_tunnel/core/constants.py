"""Numbers of the protocol and of recovery, each with its source.

"paper" is the WireGuard whitepaper (Donenfeld, 2020 revision); "RECOVERY" names the rules this
project adds, which never change what goes over the wire.
"""

from __future__ import annotations

from typing import Final

# paper, section 6.1; all times in seconds
REKEY_AFTER_MESSAGES: Final = 2**60
REJECT_AFTER_MESSAGES: Final = 2**64 - 2**13 - 1
REKEY_AFTER_TIME: Final = 120.0
REJECT_AFTER_TIME: Final = 180.0
REKEY_ATTEMPT_TIME: Final = 90.0
REKEY_TIMEOUT: Final = 5.0
KEEPALIVE_TIMEOUT: Final = 10.0

# Not in the paper; the values every implementation uses.
REKEY_TIMEOUT_JITTER: Final = 0.334
MAX_HANDSHAKE_ATTEMPTS: Final = int(REKEY_ATTEMPT_TIME / REKEY_TIMEOUT)
ZERO_AFTER_TIME: Final = REJECT_AFTER_TIME * 3
INITIATION_MIN_INTERVAL: Final = 0.020
"""A responder ignores initiations of one peer that come faster than this."""
COOKIE_SECRET_TIME: Final = 120.0
COOKIE_LIFETIME: Final = 115.0
"""A received cookie is used a little shorter than it is honoured (section 5.4.7 and COOKIE_SECRET_TIME)."""
UNDER_LOAD_AFTER_TIME: Final = 1.0
"""Once under load, stay so for this long."""
STAGED_PACKETS: Final = 128
"""Packets that wait for a handshake, per peer; the oldest is dropped first."""
REPLAY_WINDOW: Final = 8128
PADDING: Final = 16

KEY_LENGTH: Final = 32
HANDSHAKE_DSCP: Final = 0x88
"""AF41, the traffic class the kernel gives handshake messages."""

# RECOVERY, section 4
CADENCE: Final = (0.0, 0.25, 0.5, 1.0, 2.0)
"""When the first initiations of a recovery leave, counted from the first one."""
CADENCE_SILENCE: Final = 13.0
"""Each initiation a client consumes stops its own for 5 s: after the burst, leave it alone."""
CADENCE_INTERVAL: Final = 15.0
CADENCE_END: Final = 90.0
CONFIRM_REPEATS: Final = (0.1, 0.3, 0.7, 1.5)
CONFIRM_INTERVAL: Final = 1.0
HANDSHAKE_SLOTS: Final = 6
HANDSHAKE_SLOT_TIME: Final = 90.0
RECOVERY_REKEY_AGE: Final = (90.0, 120.0)
BURST_PER_SECOND: Final = 500.0
HANDSHAKE_BACKLOG_LIMIT: Final = 0.020
"""Under load: a backlog of handshakes that would take longer than this to work off, in seconds."""
HANDSHAKE_QUEUE: Final = 4096
RESPONSES_PER_SLOT: Final = 16
"""Answers to one initiation that wait at a time: whoever saw it can make up any number of them."""
CLOCK_TOLERANCE: Final = 3600.0
"""A clock further than this from what was known of it is worth a warning (RECOVERY, section 3)."""
CLOCK_GRANULARITY: Final = 1.0
"""A smaller change of the clock is not stored."""
LOADED_HANDSHAKES_PER_SECOND: Final = 2000.0
"""Under load so many initiations with a valid mac2 are let in, of all sources: about what a core can do."""
LOADED_HANDSHAKES_AT_ONCE: Final = 200.0
LOADED_HANDSHAKES_PER_SOURCE: Final = (20.0, 5.0)
"""A second and at once, from one address and port: behind a Service all clients share the address."""
SEAL_BATCH: Final = 512
"""Send ceilings are stored ahead of at most this many packets (RECOVERY, section 2)."""

# RECOVERY, section 6
ANSWER_INTERVAL: Final = 5.0
"""Least time between two answers to strays of a peer from unknown addresses; doubles with each."""
ANSWER_INTERVAL_LIMIT: Final = 160.0
