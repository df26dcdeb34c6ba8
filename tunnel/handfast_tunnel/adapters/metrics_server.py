"""The HTTP server for metrics: a thread of its own, which starts late and never touches the tunnel."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ..errors import StartError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer
    from wsgiref.types import WSGIApplication

    from ..core.endpoint import Endpoint
    from .tunnel import Tunnel

START_DELAY: Final = 1.0
"""The first packets come first; scrapes that are early wait in the listener's queue."""
BACKLOG: Final = 16
REQUEST_TIME: Final = 5
"""A client that sends nothing for so long is dropped."""
REQUESTS: Final = 8
"""So many are served at a time; for one more, the oldest is dropped."""

log = logging.getLogger(__name__)


def open_listener(address: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if address.is_ipv6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartError(
            f"--metrics {address}: {error.strerror}: choose an address of this host and a free port"
        ) from None
    return listener


class MetricsServer:
    def __init__(self, tunnel: Tunnel, listener: socket.socket, *, per_peer: bool) -> None:
        self._tunnel = tunnel
        self._listener = listener
        self._per_peer = per_peer
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(REQUEST_TIME)
        self._listener.close()

    def _serve(self) -> None:
        if self._closing.wait(START_DELAY):
            return
        from .metrics import application

        server = _http_server(self._listener, application(self._tunnel, per_peer=self._per_peer))
        while not self._closing.is_set():
            server.handle_request()


def _http_server(listener: socket.socket, application: WSGIApplication) -> WSGIServer:
    """A WSGI server, a thread a request, on a socket that already listens."""
    from socketserver import ThreadingMixIn
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    class Handler(WSGIRequestHandler):
        timeout = REQUEST_TIME

        def log_message(self, format: str, *arguments: object) -> None:
            log.debug(format, *arguments)

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        served: ClassVar[dict[socket.socket, None]] = {}
        lock = threading.Lock()

        def process_request(self, request: Any, client_address: Any) -> None:
            """Slow clients must not add up. A scrape takes milliseconds: what is oldest is slow."""
            with self.lock:
                if len(self.served) >= REQUESTS:
                    oldest = next(iter(self.served))
                    del self.served[oldest]
                    with suppress(OSError):
                        oldest.shutdown(socket.SHUT_RDWR)
                self.served[request] = None
            super().process_request(request, client_address)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            try:
                super().process_request_thread(request, client_address)
            finally:
                with self.lock:
                    self.served.pop(request, None)

        def handle_error(self, request: Any, client_address: Any) -> None:
            log.debug("a client of /metrics is gone")

    address = listener.getsockname()
    server = Server(address, Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    server.server_name, server.server_port = address[:2]
    server.setup_environ()
    server.set_app(application)
    return server
