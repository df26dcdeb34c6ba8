"""What the tests of continuity share: a client without plans, the rung by which it came back, and connections
to hold."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.interop.conftest import Pair
from tests.lab.filters import Message
from tests.lab.namespaces import Node, wait_until
from tests.lab.network import Host
from tests.lab.peer import Peer
from tests.lab.restarts import status_of
from tests.lab.wire import Capture, Datagram


def settle(
    capture: Capture, client: Host, shake_hands: Callable[[], object], speak: Callable[[], object]
) -> None:
    """Renew a session from the server's side: after that its client does nothing that nobody asks it to.

    wireguard-go starts the timer that repeats an initiation when it has sent it (device/send.go), and where
    the answer was faster, it begins anew 5 s after a handshake that is over. A handshake that the server
    begins stops that timer when the client takes the session into use (device/receive.go). The capture is on
    the client's cable; `speak` makes it send.
    """
    asked, addresses = time.monotonic(), {client.ipv4, client.ipv6}
    shake_hands()

    def renewed() -> bool:
        speak()
        passed = capture.matching(since=asked)
        begun = {d.sender for d in passed if d.type is Message.INITIATION and d.source not in addresses}
        used = {d.receiver for d in passed if d.type is Message.TRANSPORT and d.source in addresses}
        return bool(begun & used)

    wait_until(renewed, 10, "the client to use the session that the server began")


def settle_pair(pair: Pair) -> None:
    """The server has heard the client."""
    server, client = pair.server, pair.client
    settle(
        pair.on_client_cable,
        client.host,
        lambda: server.command("handshake", server.interface, client.keys.public),
        lambda: server.ping(client),
    )


def wait_for_method(server: Peer, client: Peer, method: str, timeout: float = 5) -> None:
    """Wait until the peer is back, by this rung of the ladder."""
    wait_until(
        lambda: status_of(server, client)["method"] == method, timeout, f"the peer to be back: {method}", 0.1
    )


def handshakes(pair: Pair, since: float) -> list[Datagram]:
    """All handshake messages on the client's cable."""
    return [d for d in pair.on_client_cable.matching(since=since) if d.type is not Message.TRANSPORT]


class Conversation:
    """A TCP connection that stays open; a context manager."""

    def __init__(self, caller: Node, callee: Node, address: str, port: int) -> None:
        with callee.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("", port))
            listener.listen()
            listener.settimeout(10)
            self._caller = caller.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._caller.settimeout(10)
            self._caller.connect((address, port))
            self._callee, _ = listener.accept()
        self._callee.settimeout(10)
        self._said = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._caller.close()
        self._callee.close()

    def goes_on(self) -> None:
        """Either side says something, and the other hears it, in order and once."""
        for speaker, listener in ((self._caller, self._callee), (self._callee, self._caller)):
            self._said += 1
            words = f"{self._said:08}".encode()
            speaker.sendall(words)
            assert listener.recv(64) == words
