"""Unix stream sockets on the event loop: each client's conversation is a generator.

A conversation reads as straight code and yields where it must wait: the epoll events it waits for, or
`NEXT_TURN` to let packets through before its next slice of work. While it waits for nothing but its turn
its descriptor is not watched, so a client can neither spin the loop nor make it hold more than one
piece of input.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..errors import StartError

if TYPE_CHECKING:
    from .event_loop import EventLoop

NEXT_TURN: Final = 0
CLIENT_LIMIT: Final = 64
"""So many are connected; for one more, the one that kept us waiting for longest has to go."""
PIECE: Final = 8192
"""Bytes of input a conversation works on between two turns."""

log = logging.getLogger(__name__)


class ClientLeft(Exception):
    """The other side closed, or sent what no conversation is about."""


class Client:
    """One connection, with the reads and writes a conversation needs; they raise ClientLeft."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection
        self._unread = b""
        self.parked = False
        """Watched until it is ready; its conversation is no job of the loop meanwhile."""

    def fileno(self) -> int:
        return self._connection.fileno()

    def close(self) -> None:
        self._connection.close()

    def receive(self) -> Generator[int, None, bytes]:
        """Between 1 and PIECE bytes."""
        piece, self._unread = self._unread[:PIECE], self._unread[PIECE:]
        while not piece:
            try:
                piece = self._connection.recv(PIECE)
            except BlockingIOError:
                yield select.EPOLLIN
                continue
            except OSError as error:
                raise ClientLeft(error.strerror) from None
            if not piece:
                raise ClientLeft("end of input")
        return piece

    def receive_line(self, limit: int) -> Generator[int, None, bytes]:
        """One line of at most `limit` bytes, without its end."""
        line = b""
        while True:
            piece = yield from self.receive()
            head, newline, rest = piece.partition(b"\n")
            line += head
            if len(line) > limit:
                raise ClientLeft(f"sent a line of more than {limit} bytes")
            if newline:
                self.push_back(rest)
                return line
            yield NEXT_TURN

    def push_back(self, data: bytes) -> None:
        self._unread = data + self._unread

    def send(self, data: bytes) -> Generator[int, None, None]:
        view = memoryview(data)
        while view:
            try:
                view = view[self._connection.send(view) :]
            except BlockingIOError:
                yield select.EPOLLOUT
            except OSError as error:
                raise ClientLeft(error.strerror) from None


Conversation = Generator[int, None, None]


class LocalServer:
    """Accepts clients on a listening socket and leads their conversations."""

    def __init__(
        self, loop: EventLoop, listener: socket.socket, converse: Callable[[Client], Conversation]
    ) -> None:
        listener.setblocking(False)
        self._loop = loop
        self._listener = listener
        self._converse = converse
        self._conversations: dict[Client, Conversation] = {}
        """Those that were heard of last are last."""
        self._listening = False
        self._listen()

    def close(self) -> None:
        """Ends all conversations; the file stays, for its owner to `remove`."""
        self._pause()
        self._listener.close()
        for client, conversation in self._conversations.items():
            if client.parked:
                self._loop.unwatch(client.fileno())
            conversation.close()
            client.close()
        self._conversations.clear()

    def _listen(self) -> None:
        if not self._listening:
            self._loop.watch(self._listener.fileno(), self._accept)
            self._listening = True

    def _pause(self) -> None:
        if self._listening:
            self._loop.unwatch(self._listener.fileno())
            self._listening = False

    def _accept(self, _events: int) -> None:
        if len(self._conversations) >= CLIENT_LIMIT and not self._let_the_idlest_go():
            self._pause()
            return
        try:
            connection, _ = self._listener.accept()
        except OSError as error:
            log.debug("accepting a client of a local socket failed: %s", error)
            return
        client = Client(connection)
        self._conversations[client] = self._converse(client)
        self._loop.spawn(self._advance(client))

    def _let_the_idlest_go(self) -> bool:
        """False if all of them wait for us."""
        client = next((each for each in self._conversations if each.parked), None)
        if client is None:
            return False
        log.debug("a client of a local socket was idle for longest: dropped for another")
        self._loop.unwatch(client.fileno())
        self._leave(client)
        return True

    def _advance(self, client: Client) -> Iterator[None]:
        """A job: leads the conversation up to its next wait, and is spawned anew when that is over."""
        try:
            for events in self._conversations[client]:
                if events != NEXT_TURN:
                    client.parked = True
                    self._listen()
                    self._loop.watch(client.fileno(), lambda _: self._resume(client), events)
                    return
                yield
        except ClientLeft as reason:
            log.debug("a client of a local socket is gone: %s", reason)
        except Exception:
            log.exception("a bug in a local conversation, which ends; the tunnel goes on")
        self._leave(client)

    def _resume(self, client: Client) -> None:
        client.parked = False
        self._conversations[client] = self._conversations.pop(client)
        self._loop.unwatch(client.fileno())
        self._loop.spawn(self._advance(client))

    def _leave(self, client: Client) -> None:
        conversation = self._conversations.pop(client, None)
        if conversation is not None:
            conversation.close()
            client.close()
            self._listen()


def listen(path: Path, directory_mode: int) -> socket.socket:
    """A listening socket at `path`, for its owner only. Replaces a dead process's; refuses a live one's."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=directory_mode, parents=True, exist_ok=True)
        if not _bind(listener, path):
            _remove_stale(path)
            listener.close()
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            _bind(listener, path)
        listener.listen(CLIENT_LIMIT)
    except OSError as error:
        listener.close()
        raise StartError(f"cannot create the socket {path}: {error.strerror or error}") from None
    return listener


def remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove the socket %s: %s", path, error.strerror)


def _bind(listener: socket.socket, path: Path) -> bool:
    """False where the path is taken."""
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    finally:
        os.umask(mask)
    return True


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, "another process serves it; end that one or choose another interface")
