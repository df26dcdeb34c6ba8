"""What runs in the pods of tests.

workload.py              UDP port 7 echoes, port 8 tells who answers and who asked; both families
workload.py idle         answers nobody: for a second container of a pod
workload.py ask ADDRESS  asks such an echo 20 times a second, and tells what became of that after its SIGTERM,
                         or from SIGUSR1 on
workload.py reach ADDRESS  the same until the first answer: for what has to be reached before anything begins
workload.py note WORD    writes WORD and the time to the log of the container, from a hook for instance
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time

ECHO, WHO = 7, 8
INTERVAL = 0.05
PATIENCE = 1.0
"""For the last answers."""


def note(word: str, file: str = "/proc/1/fd/1") -> None:
    """A line of the log: the time, the same on all nodes, and what happened."""
    with open(file, "w") as log:  # noqa: PTH123
        log.write(f"{time.time():.4f} {word}\n")


def serve(linger: float, ports: tuple[int, ...]) -> None:
    """Until SIGTERM, and `linger` seconds longer."""
    ends: list[float] = []

    def end(*_: object) -> None:
        note("SIGTERM")
        ends.append(time.monotonic() + linger)

    signal.signal(signal.SIGTERM, end)
    selector = selectors.DefaultSelector()
    for port in ports:
        opened = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        opened.bind(("::", port))
        selector.register(opened, selectors.EVENT_READ)
    note("serving")
    while not ends or time.monotonic() < ends[0]:
        for key, _ in selector.select(0.05):
            asked = key.fileobj
            assert isinstance(asked, socket.socket)
            answer(asked)
    note("exit")


def ask(address: str, linger: float, *, once: bool) -> None:
    """Until SIGTERM, and `linger` seconds longer: since the first signal, how many got no answer?"""
    ends, counts = list[float](), list[bool]()

    def hear(number: int, _: object) -> None:
        counts.append(True)
        if number == signal.SIGTERM:
            ends.append(time.monotonic() + linger)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, hear)
    asked, answered, before = 0, set[int](), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        while not ends or time.monotonic() < ends[0]:
            with contextlib.suppress(OSError):
                opened.sendto(asked.to_bytes(8, "big"), (address, ECHO))
            before += not counts
            asked += 1
            answered |= heard(opened, time.monotonic() + INTERVAL)
            if answered and once:
                note("reached")
                return
        answered |= heard(opened, time.monotonic() + PATIENCE)
    counted = range(before, asked)
    note(f"asked={len(counted)}")
    note(f"lost={len(set(counted) - answered)}")


def heard(opened: socket.socket, until: float) -> set[int]:
    """Which questions were answered by then."""
    found = set[int]()
    while (left := until - time.monotonic()) > 0:
        opened.settimeout(left)
        with contextlib.suppress(OSError):
            found.add(int.from_bytes(opened.recv(64), "big"))
    return found


def answer(opened: socket.socket) -> None:
    payload, client = opened.recvfrom(65536)
    if opened.getsockname()[1] == WHO:
        address = client[0].removeprefix("::ffff:")
        payload = f"{socket.gethostname()} {address} {client[1]}".encode()
    opened.sendto(payload, client)


if __name__ == "__main__":
    if sys.argv[1:2] == ["note"]:
        note(sys.argv[2])
    elif sys.argv[1:2] in (["ask"], ["reach"]):
        ask(sys.argv[2], float(os.environ.get("LINGER", "0")), once=sys.argv[1] == "reach")
    else:
        serve(float(os.environ.get("LINGER", "0")), () if sys.argv[1:] == ["idle"] else (ECHO, WHO))
