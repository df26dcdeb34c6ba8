"""What a spare does before it waits: it takes over in small, again and again, from keys that it throws away.

So the pages that a worker writes to are its own before it is one, and the interpreter knows the way. Nothing
of it leaves the process: no socket is bound, no device opened, no file written.
"""

from __future__ import annotations

import gc
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

from ..continuity.packed_configuration import pack
from ..continuity.saved_configuration import SavedConfiguration
from ..continuity.state_file import StateFile
from ..core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from ..core.device import Device
from ..core.endpoint import Endpoint
from ..core.noise import static_key
from .checksum import complement, word_sum
from .control import ControlServer
from .data_plane import PURE
from .event_loop import EventLoop
from .keeper import DONE, KeeperLine
from .offload import coalesce, joined
from .outliving import Outliving
from .tun import IFF_NO_PI, IFF_TUN, Tun
from .tunnel import Tunnel
from .uapi_server import UapiServer

ROUNDS: Final = 10
"""The interpreter takes a shorter way from the eighth call of a function on."""
LOOPBACK: Final = "lo"
_NOWHERE: Final = Path("rehearsal")
_ENDPOINTS: Final = (Endpoint("192.0.2.1", 1, local=b"\xc0\0\2\2"), Endpoint("192.0.2.2", 1))
_ADDRESSES: Final = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
SERVER: Final = 0
CLIENT: Final = 1


def rehearse() -> None:
    """A session begins; then one tunnel after the other takes it over, and serves packets each way."""
    logging.disable()
    try:
        _rehearse()
    finally:
        logging.disable(logging.NOTSET)
        gc.collect()


def _rehearse() -> None:
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    with _in_memory("state") as state, _in_memory("configuration") as left:
        server, client = Device(memory=StateFile(_NOWHERE, LOOPBACK, state).memory), Device()
        secrets = [static_key(os.urandom(32)) for _ in _ADDRESSES]
        for own, device in enumerate((server, client)):
            other = 1 - own
            peer = PeerChange(
                secrets[other].public,
                endpoint=_ENDPOINTS[other],
                allowed_ips=(Prefix(_ADDRESSES[other], 32),),
            )
            device.configure(InterfaceChange(secrets[own].secret, peers=(peer,)), now)
            device.up(now)
        client.send([_packet(CLIENT)], now)
        _carry(server, client, now)
        os.write(left, b"".join(pack(server)))
        for _ in range(ROUNDS):
            _take_over(state, left, client)


@contextmanager
def _in_memory(name: str) -> Iterator[int]:
    fd = os.memfd_create(name)
    try:
        yield fd
    finally:
        os.close(fd)


class _Left(SavedConfiguration):
    """What is left of the first tunnel, for all that follow."""

    def forget(self) -> None:
        pass


class _Quiet(Tunnel):
    """Nothing of it leaves the process: `_carry` takes what is to be sent."""

    def _transmit(self) -> None:
        pass

    def _keep_for_good(self) -> None:
        """None of it stays."""


def _take_over(state: int, left: int, client: Device) -> list[bytes]:
    """As a worker does, but for the device, the sockets' port and the names of files; what came in."""
    packets: list[bytes] = []
    with ExitStack() as opened:
        lines = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        local = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for each in (*lines, far, *local):
            opened.enter_context(each)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        udp = [socket.socket(family, kind).detach() for family in (socket.AF_INET, socket.AF_INET6)]
        line = KeeperLine(lines[0], {f"udp{number}": fd for number, fd in enumerate(udp)})
        memory = StateFile(_NOWHERE, LOOPBACK, state)
        saved = _Left(Path(f"/proc/self/fd/{left}"))
        for _ in line.inherited:
            lines[1].send(DONE)  # it lets go of them in the end
        near.setblocking(False)
        tun = Tun(near.detach(), LOOPBACK, IFF_TUN | IFF_NO_PI, (), PURE, large_reads=False)
        loop = opened.enter_context(closing(EventLoop()))
        tunnel = _Quiet(tun, loop, Settings(), line, memory.memory, Outliving(memory, saved, line))
        UapiServer(tunnel, local[0])
        ControlServer(tunnel, local[1])

        def serve() -> None:
            device, now = tunnel.device, loop.now
            device.up(now)
            client.send([_packet(CLIENT)] * 2, now)
            packets.extend(_carry(device, client, now))
            device.send([_packet(SERVER)], now)
            _carry(device, client, now)
            for group in coalesce(packets):
                if len(group) > 1:
                    far.sendmsg(joined(group))
            tun.read_batch()
            loop.stop()

        loop.call_at(0.0, serve)
        tunnel.run()
    return packets


def _packet(source: int) -> bytes:
    """A UDP packet with nothing in it, whose checksum is right."""
    addresses = _ADDRESSES[source] + _ADDRESSES[1 - source]
    datagram = bytes.fromhex("0007 0007 0018 0000") + bytes(16)
    checksum = complement(word_sum(addresses + bytes.fromhex("0011 0018") + datagram)).to_bytes(2, "little")
    header = bytes.fromhex("4500 002c 0000 4000 4011 0000") + addresses
    return header + datagram[:6] + checksum + datagram[8:]


def _carry(server: Device, client: Device, now: float) -> list[bytes]:
    """Datagrams between two devices until none is left; the packets that came out at the server."""
    packets: list[bytes] = []
    ways = [(server, client, SERVER), (client, server, CLIENT)]
    moved = True
    while moved:
        moved = False
        for source, target, number in ways:
            for transmission in source.take_transmissions():
                moved = True
                out = target.receive(transmission.datagrams, _ENDPOINTS[number], now)
                packets += out if target is server else []
                while target.handshake_backlog:
                    target.process_handshake(now)
            source.handle_timers(now)
            source.next_deadline(now)
            source.take_events()
    return packets
