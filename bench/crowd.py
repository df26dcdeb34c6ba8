"""Many peers that are active at once: each sends and is answered under keys of its own.

No machine runs 1,000 WireGuard clients, so one program is all of them. It has a session for each, seals one
ping after the other for one peer after the other, and opens the answers of the kernel behind the server. It
is the same for every server, with a fixed number of pings under way, and takes its share of the machine; so
beside round trips per second stands the processor time for each, which is the server's alone. An answer
counts only when it opens under its peer's keys, its counter is new, and it is what this peer sent.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import cycle
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from tests.lab.namespaces import LabError
from tests.lab.peer import PORT, KeyPair
from tests.unit.packets import word_sum

from handfast_tunnel.core.messages import TYPE_TRANSPORT, message_type
from handfast_tunnel.core.replay import ReplayWindow

from .commands import interface_section, numbered, peer_section
from .hosts import OVERLAY, TwoHosts, interface, processor_seconds
from .initiators import Initiator, Session, open_sessions
from .samples import Metric

COUNTS: Final = (1, 100, 1000)
"""How many are active, of as many as there are at most."""
SUBNET: Final = 9
AT_ONCE: Final = 4
"""Handshakes: few enough for a server on a busy machine."""
UNDER_WAY: Final = 64
"""What the generator's socket holds of answers that come at once."""
SIZE: Final = 1400
PATIENCE: Final = 0.2
"""After so long without an answer, what was under way is lost."""
ALLOWED_LOSS: Final = 0.01
_HEADER: Final = struct.Struct("<IIQ")
_ICMP: Final = 1
_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_TYPE: Final = 20
_PAYLOAD: Final = 28
"""Where they are in a packet."""

METRICS: Final = tuple(
    metric
    for count in COUNTS
    for metric in (
        Metric(f"{count:,} active: round trips", "a second"),
        Metric(f"{count:,} active: processor time", "us a round trip", 1, False),
    )
)


class ActivePeer:
    """One peer's session and its ping."""

    def __init__(self, index: int, session: Session) -> None:
        self.index = index
        self._receiver = session.receiver
        self._sealer, self._opener = ChaCha20Poly1305(session.send), ChaCha20Poly1305(session.receive)
        self._window = ReplayWindow()
        # Counter 0 was the confirmation's.
        self._counter = 0
        self._ping = ping(numbered(SUBNET, self.index), OVERLAY["server"], self.index)
        self._payload = self._ping[_PAYLOAD:]
        self.answers = 0

    def next(self) -> bytes:
        """One more ping, sealed."""
        self._counter += 1
        nonce = bytes(4) + self._counter.to_bytes(8, "little")
        header = _HEADER.pack(TYPE_TRANSPORT, self._receiver, self._counter)
        return header + self._sealer.encrypt(nonce, self._ping, None)

    def accept(self, datagram: bytes) -> bool:
        """Whether it was an answer, not a keepalive. LabError for what should not be."""
        _, _, counter = _HEADER.unpack_from(datagram)
        try:
            packet = self._opener.decrypt(bytes(4) + datagram[8:16], datagram[16:], None)
        except InvalidTag:
            raise LabError(f"peer {self.index} got what is not sealed under its keys") from None
        if not self._window.accept(counter):
            raise LabError(f"peer {self.index} got counter {counter} twice")
        if not packet:
            return False
        if packet[_TYPE] != _ECHO_REPLY or packet[_PAYLOAD:SIZE] != self._payload:
            raise LabError(f"peer {self.index} got what it did not ask for")
        self.answers += 1
        return True


def ping(source: str, destination: str, number: int) -> bytes:
    """An echo request whose payload is the peer's own."""
    payload = struct.pack("!I", number) * ((SIZE - _PAYLOAD) // 4)
    echo = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, number, 0) + payload
    echo = echo[:2] + (word_sum(echo) ^ 0xFFFF).to_bytes(2, "big") + echo[4:]
    addresses = ip_address(source).packed + ip_address(destination).packed
    header = struct.pack("!BBHHHBBH", 0x45, 0, SIZE, 0, 0x4000, 64, _ICMP, 0) + addresses
    return header[:10] + (word_sum(header) ^ 0xFFFF).to_bytes(2, "big") + header[12:] + echo


def measure(hosts: TwoHosts, name: str, seconds: float) -> list[float]:
    """A figure for each of METRICS, of one server with all peers."""
    server = KeyPair.generate()
    initiators = [Initiator(index, server.public) for index in range(COUNTS[-1])]
    peers = [peer_section(each.public_key, numbered(SUBNET, each.index)) for each in initiators]
    figures = []
    with (
        interface(hosts.server, name, interface_section(server.private, PORT) + "".join(peers)) as process,
        hosts.socket_to_server() as sock,
    ):
        if (opened := open_sessions(sock, initiators, window=AT_ONCE)) < len(initiators):
            raise LabError(f"only {opened} of {len(initiators)} peers have a session")
        active = [ActivePeer(each.index, each.session) for each in initiators]
        for count in COUNTS:
            before = processor_seconds(process)
            answers = exchange(sock, active[:count], seconds)
            figures += [answers / seconds, (processor_seconds(process) - before) / answers * 1e6]
    return figures


class Line(Protocol):
    """A connected socket."""

    def settimeout(self, seconds: float, /) -> None: ...
    def send(self, datagram: bytes, /) -> object: ...
    def recv(self, size: int, /) -> bytes: ...


def exchange(sock: Line, peers: Sequence[ActivePeer], seconds: float) -> int:
    """Round trips in a closed loop. Nobody may be left out, and hardly any may be lost."""
    by_index = {peer.index: peer for peer in peers}
    turns = cycle(peers)
    before = {peer.index: peer.answers for peer in peers}
    sent = answers = 0
    sock.settimeout(PATIENCE)
    end = time.monotonic() + seconds
    in_flight = 0
    while time.monotonic() < end:
        while in_flight < UNDER_WAY:
            sock.send(next(turns).next())
            in_flight += 1
            sent += 1
        try:
            datagram = sock.recv(2048)
        except TimeoutError:
            in_flight = 0
            continue
        # A server that hears nothing from who was active before begins a handshake.
        if message_type(datagram) == TYPE_TRANSPORT:
            peer = by_index.get(int.from_bytes(datagram[4:8], "little"))
            if peer and peer.accept(datagram):
                answers += 1
                in_flight -= 1
    _settle(sock, by_index, in_flight)
    fewest = min(peer.answers - before[peer.index] for peer in peers)
    if answers < sent * (1 - ALLOWED_LOSS) - UNDER_WAY or fewest < sent / len(peers) / 2 - 1:
        raise LabError(
            f"{answers} of {sent} pings of {len(peers)} peers were answered, {fewest} of one peer's"
        )
    return answers


def _settle(sock: Line, peers: dict[int, ActivePeer], in_flight: int) -> None:
    """What is still under way comes, and does not count."""
    while in_flight > 0:
        try:
            datagram = sock.recv(2048)
        except TimeoutError:
            return
        peer = peers.get(int.from_bytes(datagram[4:8], "little"))
        if message_type(datagram) == TYPE_TRANSPORT and peer:
            in_flight -= peer.accept(datagram)
