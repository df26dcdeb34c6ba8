"""Every parser of bytes that come from outside, each with what must hold whatever the bytes are.

A target takes bytes and returns; what it raises is a bug. `make fuzz` looks for such bytes, guided by
coverage; `test_targets.py` tries the seeds and simple variations of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from handfast_tunnel.adapters import text
from handfast_tunnel.adapters.offload import VNET_HEADER, MalformedPacketError, coalesce, joined, split
from handfast_tunnel.adapters.uapi import SetParser
from handfast_tunnel.core.configuration import InterfaceChange, Settings
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.errors import ConfigurationError
from tests.fuzz.both_planes import PLANE_TARGETS, is_whole, pieces, together
from tests.fuzz.reviews import SEEDS, reviews
from tests.unit.core.network import Host, Network
from tests.unit.core.stranger import STRICT, Scene
from tests.unit.packets import TCP, UDP, tcp, udp

SCENE: Final = Scene()


def datagrams(data: bytes) -> None:
    """From a stranger, who can make a valid mac1: nothing is delivered, answered or changed."""
    chosen = [datagram for datagram in pieces(data) if not SCENE.is_genuine(datagram)]
    SCENE.unimpressed_by(*chosen)
    SCENE.unimpressed_by(*(SCENE.resealed(datagram) for datagram in chosen if len(datagram) > 32))


class Authenticated:
    """A peer with a session, who may seal whatever it likes."""

    def __init__(self) -> None:
        network = Network(seed=1)
        self.host, self.peer = network.host(Settings(announce=False)), network.host(STRICT)
        self.host.meet(self.peer)
        self.peer.meet(self.host)
        self.peer.send(self.host, b"session")
        network.run(1)
        keypair = _current(self.peer)
        self._sealer = ChaCha20Poly1305(keypair.sealing_key)
        self._index, self._counter = keypair.index, 1000
        self.allowed = ip_network(self.peer.inner)

    def seal(self, plaintext: bytes) -> bytes:
        self._counter += 1
        header = struct.pack("<IIQ", 4, self._index, self._counter)
        nonce = bytes(4) + self._counter.to_bytes(8, "little")
        return header + self._sealer.encrypt(nonce, plaintext, b"")

    def deliver(self, plaintexts: list[bytes]) -> Sequence[bytes]:
        device, now = self.host.device, self.host.network.now
        packets = device.receive([self.seal(each) for each in plaintexts], self.peer.endpoint, now)
        device.take_transmissions()
        return packets


class _Keys:
    def __init__(self, sealing_key: bytes, index: int) -> None:
        self.sealing_key, self.index = sealing_key, index


def _current(host: Host) -> _Keys:
    (peer,) = host.device.peers.values()
    assert peer.current is not None
    facts = peer.current._live_facts()
    return _Keys(facts.send_key, facts.remote_index)


AUTHENTICATED: Final = Authenticated()


def plaintexts(data: bytes) -> None:
    """From an authenticated peer: what is delivered is an IP packet of its own, as long as it says."""
    for packet in AUTHENTICATED.deliver(list(pieces(data))):
        version = packet[0] >> 4
        assert version in (4, 6)
        assert is_whole(packet)
        source = ip_address(packet[12:16] if version == 4 else packet[8:24])
        assert source in AUTHENTICATED.allowed


def inner_packets(data: bytes) -> None:
    """What peers sent together, joined for the TUN, is the same packets when the kernel takes it apart."""
    packets = [packet for packet in pieces(data) if is_whole(packet)]
    again = [packet for group in coalesce(packets) for packet in _taken_apart(group)]
    assert sorted(map(_essence, again)) == sorted(map(_essence, packets))


def _taken_apart(group: list[bytes]) -> list[bytes]:
    if len(group) == 1:
        return group
    vnet_header, *parts = joined(group)
    return split(bytes(vnet_header), b"".join(parts))


def _essence(packet: bytes) -> bytes:
    """Without checksums, which the kernel makes anew, and wrong ones may pass unseen (`_is_intact`); without
    identification, which means nothing in packets that must not be fragmented (RFC 6864, section 4.1)."""
    is_ipv4 = packet[0] >> 4 == 4
    at = 20 if is_ipv4 else 40
    at += {TCP: 16, UDP: 6}.get(packet[9 if is_ipv4 else 6], len(packet))
    essence = bytearray(packet)
    essence[at : at + 2] = b""
    if is_ipv4:
        essence[10:12] = b""
        essence[4:6] = b"" if packet[6] & 0x40 else packet[4:6]
    return bytes(essence)


def tun_reads(data: bytes) -> None:
    """A read of the TUN is taken apart or refused."""
    if len(data) <= VNET_HEADER.size:
        return
    try:
        found = split(data[: VNET_HEADER.size], data[VNET_HEADER.size :])
    except MalformedPacketError:
        return
    assert found


def configuration(data: bytes) -> None:
    """A `set` is taken or refused, and the same whether it comes at once or in pieces."""
    middle = len(data) // 2
    assert _parse(data) == _parse(data[:middle], data[middle:])


def _parse(*parts: bytes) -> tuple[InterfaceChange | None, bytes]:
    parser = SetParser()
    fed = b""
    for part in parts:
        if parser.finished:
            fed += part
        else:
            parser.feed(part)
    try:
        return parser.result() if parser.finished else None, parser.remainder + fed
    except ConfigurationError:
        return None, parser.remainder + fed


def words(data: bytes) -> None:
    """What people write: taken, or refused with a reason; what is taken says the same when written again."""
    line = data.decode("utf-8", "replace")
    for parse in (text.parse_hex_key, text.parse_base64_key, lambda line: text.parse_number(line, 2**16)):
        _refused_or(parse, line)
    endpoint = _refused_or(text.parse_endpoint, line)
    if isinstance(endpoint, Endpoint) and "%" not in line:
        assert text.parse_endpoint(str(endpoint)) == endpoint
    prefix = _refused_or(text.parse_prefix, line)
    if prefix is not None:
        assert text.parse_prefix(text.format_prefix(prefix)) == prefix


def _refused_or(parse: Callable[[str], object], line: str) -> object | None:
    try:
        return parse(line)
    except ValueError:
        return None


def _tcp_stream() -> list[bytes]:
    return [tcp(b"x" * 100, sequence=1000 + 100 * n, identification=n) for n in range(3)]


_SET = b"private_key=%s\nlisten_port=51820\nreplace_peers=true\npublic_key=%s\nendpoint=[fe80::1]:1\n" % (
    b"11" * 32,
    b"22" * 32,
)
_PEER = b"preshared_key=%s\nallowed_ip=10.0.0.0/8\nallowed_ip=-::/0\nremove=true\nupdate_only=true\n\n" % (
    b"33" * 32
)

TARGETS: Final[dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "datagrams": (datagrams, tuple(together(message, message) for message in SCENE.messages)),
    "plaintexts": (plaintexts, (together(*_tcp_stream()), together(udp(b"ping")), together(b"", b"\x45"))),
    "inner_packets": (
        inner_packets,
        (together(*_tcp_stream()), together(udp(b"a" * 50), udp(b"a" * 50), udp(b"b", ipv6=True))),
    ),
    "tun_reads": (tun_reads, (bytes(10) + udp(b"ping"), b"\1\1" + bytes(8) + tcp(b"x" * 300))),
    "configuration": (configuration, (_SET + _PEER, b"drain=true\n\nset=1\n")),
    "reviews": (reviews, SEEDS),
    "words": (words, (b"[fe80::1%eth0]:51820", b"10.0.0.1:1", b"::/0", b"192.168.0.0/16", b"0" * 64)),
    **PLANE_TARGETS,
}
"""Each with seeds."""
