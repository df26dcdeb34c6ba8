"""The configuration socket that `wg` speaks to: /var/run/wireguard/INTERFACE.sock."""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ..errors import ConfigurationError, StartError
from .local_server import NEXT_TURN, Client, Conversation, LocalServer, listen, remove
from .uapi import SetParser, format_get, format_status

if TYPE_CHECKING:
    from .tunnel import Tunnel

DIRECTORY: Final = Path("/var/run/wireguard")
OPERATION_LIMIT: Final = 64
"""Bytes of an operation's first line, `get=1` or `set=1`."""

T = TypeVar("T")
log = logging.getLogger(__name__)


def open_listener(interface: str) -> socket.socket:
    return listen(DIRECTORY / f"{interface}.sock", 0o755)


def inherit_listener(fd: int) -> socket.socket:
    """The socket that a supervisor opened (WG_UAPI_FD)."""
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise StartError(f"WG_UAPI_FD={fd} is not a socket: {error.strerror}") from None
    if listener.family != socket.AF_UNIX or listener.type != socket.SOCK_STREAM:
        listener.close()
        raise StartError(f"WG_UAPI_FD={fd} is not a Unix stream socket, as a configuration socket must be")
    listener.listen()
    return listener


class UapiServer:
    """Serves `get` and `set` to several clients at once; a `set` takes effect whole, one at a time."""

    def __init__(self, tunnel: Tunnel, listener: socket.socket) -> None:
        self._tunnel = tunnel
        self._busy = False
        name = listener.getsockname()
        self._path = Path(name) if isinstance(name, str) and name.startswith("/") else None
        self._server = LocalServer(tunnel.loop, listener, self._converse)
        self._watch = -1

    def close(self) -> None:
        self._server.close()
        if self._watch >= 0:
            self._tunnel.loop.unwatch(self._watch)
            os.close(self._watch)
            self._watch = -1
        if self._path is not None:
            remove(self._path)

    def end_with_file(self, watch: int | None = None) -> int | None:
        """Ends the process when the socket's file is removed, as wireguard-go does.

        Returns the descriptor that tells of it; `watch` is that of a former worker.
        """
        if self._path is None:
            return None
        from ..libc import watch_file

        try:
            self._watch = watch_file(self._path) if watch is None else watch
        except FileNotFoundError:
            self._removed()
            return None
        except OSError as error:
            log.warning("will not notice the removal of %s: %s", self._path, error.strerror)
            return None
        self._tunnel.loop.watch(self._watch, self._file_changed)
        return self._watch

    def _file_changed(self, _events: int) -> None:
        os.read(self._watch, 4096)
        if self._path is not None and _is_gone(self._path):
            self._removed()

    def _removed(self) -> None:
        log.info("%s was removed: ending", self._path)
        self._path = None
        self._tunnel.loop.stop()

    def _converse(self, client: Client) -> Conversation:
        while True:
            operation = yield from client.receive_line(OPERATION_LIMIT)
            if operation == b"set=1":
                code = yield from self._set(client)
            elif operation == b"get=1":
                code = yield from self._get(client)
            else:
                log.error("neither get=1 nor set=1 on the configuration socket: client dropped")
                return
            yield from client.send(format_status(code).encode())

    def _set(self, client: Client) -> Generator[int, None, int]:
        parser = SetParser()
        while not parser.finished:
            parser.feed((yield from client.receive()))
            yield NEXT_TURN
        client.push_back(parser.remainder)
        try:
            yield from self._alone(self._tunnel.apply(parser.result()))
        except ConfigurationError as error:
            return _refused(error)
        return 0

    def _get(self, client: Client) -> Generator[int, None, int]:
        """Formats all of it before the first byte leaves: a slow reader must not hold up a `set`."""
        if (yield from client.receive_line(OPERATION_LIMIT)):
            return _refused(ConfigurationError("characters between get=1 and its blank line"))
        for piece in (yield from self._alone(format_get(self._tunnel.device))):
            yield from client.send(piece.encode())
            yield NEXT_TURN
        return 0

    def _alone(self, job: Iterator[T]) -> Generator[int, None, list[T]]:
        """Does `job` in turns while nothing else touches the configuration, and all of it is there."""
        while self._busy or self._tunnel.device.building_up:
            yield NEXT_TURN
        self._busy = True
        results = []
        try:
            for result in job:
                results.append(result)
                yield NEXT_TURN
        finally:
            self._busy = False
        return results


def _refused(error: ConfigurationError) -> int:
    log.error("%s", error)
    return error.code


def _is_gone(path: Path) -> bool:
    """The kernel tells of an unlink a moment before the name is gone; the link count knows already."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return True
    return status.st_nlink == 0 or not stat.S_ISSOCK(status.st_mode)
