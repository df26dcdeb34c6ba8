"""A stream of bytes through the tunnel, compared at its end."""

from __future__ import annotations

import random
import socket
import threading

from tests.lab.peer import Peer

_PORT = 5001


def transfer(source: Peer, sink: Peer, size: int, *, ipv6: bool = False, timeout: float = 30) -> None:
    """Send `size` bytes over TCP inside the tunnel; they arrive as they were."""
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    sent = random.Random(size).randbytes(size)
    with (
        sink.node.socket(family, socket.SOCK_STREAM) as listener,
        source.node.socket(family, socket.SOCK_STREAM) as sender,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((sink.ipv6 if ipv6 else sink.ipv4, _PORT))
        listener.listen()
        listener.settimeout(timeout)
        sender.settimeout(timeout)
        sender.connect(listener.getsockname()[:2])
        receiver, _ = listener.accept()
        receiver.settimeout(timeout)
        sending = threading.Thread(target=_send, args=(sender, sent))
        sending.start()
        with receiver:
            received = b"".join(iter(lambda: receiver.recv(1 << 16), b""))
        sending.join()
    assert received == sent


def there_and_back(client: Peer, server: Peer, size: int, *, ipv6: bool = False) -> None:
    """A stream each way, once the tunnel lets anything through."""
    client.reaches(server)
    transfer(client, server, size, ipv6=ipv6)
    transfer(server, client, size, ipv6=ipv6)


def _send(sender: socket.socket, payload: bytes) -> None:
    sender.sendall(payload)
    sender.shutdown(socket.SHUT_WR)
