"""The first process of a node: opens sockets in the node's network for the process that owns the lab.

It is process 1 of the node's PID namespace. When its owner closes the line to it, or dies, it ends, and
the kernel ends everything else in the node with it.
"""

from __future__ import annotations

import signal
import socket
import struct
import sys

REQUEST = struct.Struct("3i")


def serve(line: socket.socket) -> None:
    line.send(b"ready")
    while request := line.recv(REQUEST.size):
        try:
            opened = socket.socket(*REQUEST.unpack(request))
        except OSError as error:
            line.send(str(error).encode())
            continue
        with opened:
            socket.send_fds(line, [b"ok"], [opened.fileno()])


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Ctrl-C reaches the whole terminal; the owner of the lab decides when it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(socket.socket(fileno=int(sys.argv[1])))
