"""What systemd is told: that we serve, that we live, that we end (sd_notify(3), sd_watchdog_enabled(3))."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)


class Notifier:
    """Sends to the socket that the environment names; to nobody if it names none."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        self._address = name.replace("@", "\0", 1) if name.startswith("@") else name
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._has_watchdog = watched and bool(environment.get("WATCHDOG_USEC"))

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")
        self.alive()

    def status(self, text: str) -> None:
        self._send(f"STATUS={text}")

    def alive(self) -> None:
        """To be called more often than twice in the time that the watchdog allows."""
        if self._has_watchdog:
            self._send("WATCHDOG=1")

    def stopping(self) -> None:
        self._send("STOPPING=1\nSTATUS=ending")

    def _send(self, message: str) -> None:
        """Over a socket that is closed again at once: the keeper has none of its own."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
                line.sendto(message.encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.debug("telling systemd %r failed: %s", message, error.strerror)


class Unwatched:
    """Signs of life of a tunnel without a keeper: it tells systemd itself."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def ready(self) -> None:
        self._notifier.ready("serving")

    def alive(self) -> None:
        self._notifier.alive()
