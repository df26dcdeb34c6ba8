"""What a spare does before it waits: it takes over in small, again and again, from keys that it throws away.

So the pages that a worker writes to are its own before it is one, and the interpreter knows the way. Nothing
of it leaves the process: no socket is bound, no device opened, no file written.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import ExitStack, closing, suppress
from typing import Final

from ..continuity.layout import HEADER_WORDS, PEER_WORDS, QUEUE_DROPS, WORD, Header
from ..continuity.packed_configuration import PackedConfiguration, pack
from ..continuity.state_file import why_refused
from ..continuity.state_memory import StateMemory
from ..core.configuration import InterfaceChange, PeerChange, Prefix, Settings
from ..core.device import Device
from ..core.endpoint import Endpoint
from ..core.noise import static_key
from .checksum import complement, word_sum
from .data_plane import PURE
from .drops import Drops
from .event_loop import EventLoop
from .link import LinkWatcher
from .offload import coalesce, joined
from .tun import IFF_NO_PI, IFF_TUN, Tun
from .udp import UdpSockets

ROUNDS: Final = 10
"""The interpreter takes a shorter way from the eighth call of a function on."""
LOOPBACK: Final = "lo"
_ENDPOINTS: Final = (Endpoint("192.0.2.1", 1, local=b"\xc0\0\2\2"), Endpoint("192.0.2.2", 1))
_ADDRESSES: Final = (bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2)))
SERVER: Final = 0
CLIENT: Final = 1


def rehearse() -> None:
    """A session begins; then one device after the other takes it over, and serves packets each way."""
    header, extent = _words(HEADER_WORDS), _words(PEER_WORDS)
    header[Header.PEERS] = 1
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    server, client = Device(memory=StateMemory(header, [extent], _no_room)), Device()
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
    for _ in range(ROUNDS):
        why_refused(header, 0, LOOPBACK)
        successor = Device(Settings(), StateMemory(header, [extent], _no_room))
        successor.set_wall_offset(time.time() - now)
        successor.succeed(PackedConfiguration(memoryview(b"".join(pack(server)))), now)
        successor.up(now)
        client.send([_packet(CLIENT)] * 2, now)
        received = _carry(successor, client, now)
        successor.send([_packet(SERVER)], now)
        _carry(successor, client, now)
        with suppress(OSError):  # a host may lack what this uses, and a worker perhaps does not need it
            _rehearse_adapters(received)


def _words(count: int) -> memoryview:
    return memoryview(bytearray(count * WORD)).cast("Q")


def _no_room() -> memoryview:
    raise OSError


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


def _rehearse_adapters(packets: list[bytes]) -> None:
    with ExitStack() as opened:
        near, far = (
            opened.enter_context(each) for each in socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        )
        near.setblocking(False)
        tun = Tun(near.fileno(), LOOPBACK, IFF_TUN | IFF_NO_PI, (), PURE, large_reads=False)
        udp, loop = opened.enter_context(closing(UdpSockets())), opened.enter_context(closing(EventLoop()))
        link = opened.enter_context(closing(LinkWatcher(LOOPBACK)))
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        udp.adopt([socket.socket(family, kind).detach() for family in (socket.AF_INET, socket.AF_INET6)])
        link.current()
        Drops(Device().statistics.dropped, tun, link, _words(QUEUE_DROPS)).take_over(udp)
        for fd in udp.filenos:
            loop.watch(fd, lambda _: None)
            udp.receive_batch(fd)
        for group in coalesce(packets):
            if len(group) > 1:
                far.sendmsg(joined(group))
        tun.read_batch()
        loop.call_at(0.0, loop.stop)
        loop.run(lambda: 0.0)
