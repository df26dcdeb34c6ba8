"""The keeper holds what its worker registers, and nothing else: no thread, no key, no packet (DESIGN, 1)."""

from __future__ import annotations

import base64
import json
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from handfast_tunnel.continuity.layout import (
    HEADER_WORDS,
    KEYPAIR_WORDS,
    KEYPAIRS,
    PEER_WORDS,
    WORD,
    KeypairSlot,
    PeerSlot,
)
from tests.interop.conftest import Pair
from tests.lab.namespaces import Node, wait_until
from tests.lab.peer import Peer, preshared_key
from tests.lab.restarts import kill_worker, spare_of, take_down, worker_of

SERVING = Counter(
    {
        "/dev/net/tun": 1,
        "anon_inode:inotify": 1,
        "socket": 6,  # UDP for IPv4 and IPv6, configuration, control, the lines to the worker and the spare
    }
)
WAITING = SERVING - Counter({"socket": 1}) + Counter({"/run/handfast/wg0.state": 1})
"""One line, and the file whose lock tells of the worker's end."""

_SEARCH = """
import json, re, sys
pid, secrets = sys.argv[1], [bytes.fromhex(secret) for secret in sys.argv[2:]]
found = set()
with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
    for line in maps:
        start, end, rights = re.match("([0-9a-f]+)-([0-9a-f]+) (....)", line).groups()
        if rights[0] == "r" and "[v" not in line:
            memory.seek(int(start, 16))
            data = memory.read(int(end, 16) - int(start, 16))
            found |= {number for number, secret in enumerate(secrets) if secret in data}
print(json.dumps(sorted(found)))
"""


def descriptors(pid: int) -> Counter[str]:
    """What a process has open beyond its standard streams."""
    links = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            links += [link.readlink()] if int(link.name) > 2 else []
    return Counter(str(link).partition(":[")[0] for link in links)


def locked(pid: int) -> bool:
    """Whether any of its memory cannot be swapped to a disk."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return any(line.startswith("Locked:") and int(line.split()[1]) > 0 for line in lines)


def inner_pid(pid: int) -> str:
    """As the node's own processes see it."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[-1] for line in lines if line.startswith("NSpid"))


def secrets_in(node: Node, pid: int, secrets: list[bytes]) -> list[int]:
    """Which of them lie in a process's memory, read by root of its namespace."""
    arguments = [secret.hex() for secret in secrets]
    found: list[int] = json.loads(node.run(sys.executable, "-c", _SEARCH, inner_pid(pid), *arguments))
    return found


def session_keys(server: Peer) -> list[bytes]:
    """Of the only peer in the state memory."""
    memory = Path(f"/proc/{server.node.pid}/root/run/handfast/{server.interface}.state").read_bytes()
    places = [
        (base + PeerSlot.KEYPAIRS + number * KEYPAIR_WORDS + key) * WORD
        for base in range(HEADER_WORDS, len(memory) // WORD, PEER_WORDS)
        for number in range(KEYPAIRS)
        for key in (KeypairSlot.SEND_KEY, KeypairSlot.RECEIVE_KEY)
    ]
    return [memory[at : at + 32] for at in places if any(memory[at : at + 32])]


def test_it_holds_what_is_in_use_and_starts_no_thread(usual: Pair) -> None:
    server, client = usual.server, usual.client
    usual.start()
    client.reaches(server)
    keeper = server.running.pid
    spare = spare_of(server)
    assert descriptors(keeper) == SERVING
    wait_until(lambda: descriptors(spare) == WAITING, 10, "the spare to have rehearsed")
    for change in (
        lambda: kill_worker(server),
        lambda: server.set("listen-port", "51999"),
        lambda: kill_worker(server),
    ):
        change()
        assert server.ping(client)
        spare_of(server)
        wait_until(lambda: descriptors(keeper) == SERVING, 10, "the former worker's descriptors to go")
        assert locked(worker_of(server))
    take_down(server)
    wait_until(lambda: descriptors(keeper) == SERVING - Counter({"socket": 2}), 10, "the sockets' release")
    server.bring_up()
    wait_until(lambda: descriptors(keeper) == SERVING, 10, "the next sockets")
    assert [int(task.name) for task in Path(f"/proc/{keeper}/task").iterdir()] == [keeper]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_key_is_in_its_memory(usual: Pair, workers: int) -> None:
    server, client = usual.server, usual.client
    shared = preshared_key()
    server.knows(client, endpoint=False, preshared_key=shared)
    client.knows(server, preshared_key=shared)
    usual.start()
    client.reaches(server)
    for _ in range(workers - 1):
        kill_worker(server)
        client.reaches(server)
    texts = [server.keys.private, shared]
    raw = [base64.b64decode(text) for text in texts]
    written = [text.encode() for text in texts] + [key.hex().encode() for key in raw]
    secrets = raw + session_keys(server) + written
    assert len(secrets) == 8
    assert secrets_in(server.node, server.running.pid, secrets) == []
    spare = spare_of(server)
    wait_until(lambda: descriptors(spare) == WAITING, 10, "the spare to have rehearsed")
    assert secrets_in(server.node, spare, secrets) == []
    in_the_worker = secrets_in(server.node, worker_of(server), secrets)
    assert {0, 1, 2, 3} <= set(in_the_worker), "they would have been found"


def test_its_spare_takes_over(usual: Pair) -> None:
    server, client = usual.server, usual.client
    usual.start()
    client.reaches(server)
    for _ in range(2):
        spare = spare_of(server)
        kill_worker(server)
        assert client.ping(server)
        assert worker_of(server) == spare


def test_its_spare_keeps_quiet_where_a_worker_ends_on_purpose(usual: Pair) -> None:
    """It sees the end, and a device that is gone; then it is dismissed."""
    server = usual.server
    usual.start()
    spare = spare_of(server)
    wait_until(lambda: descriptors(spare) == WAITING, 10, "the spare to have rehearsed")
    server.node.run("ip", "link", "delete", "wg0")
    assert server.running.wait() == 0
    assert server.running.output().rstrip().endswith("the interface was deleted")
