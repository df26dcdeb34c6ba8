"""The HTTP servers of a pod, in a thread of their own that starts after the first packets.

Two ports: the control API by mutual TLS, and metrics and probes in plain. Both listeners exist from the
start, so whoever is early waits in their queues instead of being refused.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from typing import TYPE_CHECKING, Final

from ..errors import StartError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine
    from pathlib import Path

    from ..control.trust import TlsFiles
    from ..core.endpoint import Endpoint
    from .accepted import Accepted
    from .gateway import Gateway
    from .surroundings import Surroundings

START_DELAY: Final = 0.3
"""Seconds in which the first packets have the interpreter for themselves."""
SWITCH_INTERVAL: Final = 0.0005
"""How long the packets' thread waits at most for this one: a document of 10,000 peers takes 0.3 s to read."""
BACKLOG: Final = 64
CLOSE_TIME: Final = 2.0

log = logging.getLogger(__name__)


def open_listener(name: str, address: Endpoint) -> socket.socket:
    """`[::]` takes IPv4 too."""
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if not address.is_ipv6 or address.host != "::":
            raise
        return open_listener(name, address._replace(host="0.0.0.0"))
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.is_ipv6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"{name} {address}: {error.strerror}: choose an address of this host and a free port"
        ) from None
    return listener


class PodServer:
    """Serves until `close`. `control` is None where there are no certificates; `mounted` is the directory of
    the config Secret."""

    def __init__(
        self,
        gateway: Gateway,
        surroundings: Surroundings,
        accepted: Accepted,
        *,
        mounted: Path,
        metrics: socket.socket,
        control: socket.socket | None,
        tls: TlsFiles | None,
    ) -> None:
        self._parts = gateway, surroundings, accepted
        self._mounted = mounted
        self._metrics, self._control, self._tls = metrics, control, tls
        self._closing = threading.Event()
        self._loop: AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_TIME)
        for listener in (self._metrics, self._control):
            if listener is not None:
                listener.close()

    def _run(self) -> None:
        if self._closing.wait(START_DELAY):
            return
        sys.setswitchinterval(SWITCH_INTERVAL)
        try:
            if not self._parts[0].is_outline or self._complete():
                self._serve()
        except Exception:
            log.exception("a bug in the HTTP server, which ends; the tunnel goes on")

    def _complete(self) -> bool:
        """Reads the peers of the gateway's outline. False where that cannot be done any more: the next
        process begins without it."""
        from .accepted import load_newest

        gateway, _, accepted = self._parts
        outline = gateway.configuration
        try:
            whole = load_newest(self._mounted, accepted)
        except StartError as error:
            log.error("%s", error)  # noqa: TRY400
            whole = outline.at(-1)
        loop = gateway.tunnel.loop
        if (whole.tunnel, whole.generation) != (outline.tunnel, outline.generation):
            log.error("generation %d cannot be read any more: beginning anew", outline.generation)
            loop.call_soon_threadsafe(gateway.begin_anew)
            return False
        done = threading.Event()

        def complete() -> None:
            gateway.complete(whole)
            done.set()

        loop.call_soon_threadsafe(complete)
        while not done.wait(CLOSE_TIME / 10):
            if self._closing.is_set():
                return False
        return True

    def _serve(self) -> None:
        import asyncio

        from .api import Api
        from .sites import serve_control, serve_probes

        self._loop = loop = asyncio.new_event_loop()
        gateway, surroundings, accepted = self._parts
        api = Api(gateway, surroundings, accepted)
        works: list[Coroutine[None, None, None]] = [
            serve_probes(gateway, self._metrics),
            api.follow(self._mounted),
        ]
        if self._control is not None and self._tls is not None:
            works.append(serve_control(api, self._control, self._tls))
        tasks = [loop.create_task(work) for work in works]
        if not self._closing.is_set():
            loop.run_forever()
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.close()
