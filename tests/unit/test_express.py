"""The short way between a TUN device and a socket: what is expected passes, nothing else is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from handfast_tunnel.adapters.express import Express
from handfast_tunnel.adapters.offload import PLAIN_VNET_HEADER
from handfast_tunnel.adapters.tun import Tun
from handfast_tunnel.adapters.udp import Received, UdpSockets
from handfast_tunnel.core.endpoint import Endpoint

from .core.packets import ip_packet
from .core.test_expected import ping_twice
from .core.test_transport import sealed

ADDRESS = ("10.0.0.2", 51820)
CONTROL = [(0, 8, b"here")]


class FakeTun:
    """A pair of sockets: what is written to one end is read from the other."""

    header = PLAIN_VNET_HEADER

    def __init__(self) -> None:
        self.kernel, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.kernel, self._ours):
            end.setblocking(False)
        self.fileno = self._ours.fileno

    def packets(self, frames: list[bytes]) -> list[bytes]:
        return [part for frame in frames for part in frame[len(self.header) :].split(b"|")]

    def refuse(self) -> None:
        self.kernel.close()

    def close(self) -> None:
        self.kernel.close()
        self._ours.close()


class FakeUdp:
    def __init__(self) -> None:
        self.sent: list[tuple[bytes, tuple[str, int]]] = []
        self.waiting: list[tuple[bytes, Any, int, Any]] = []
        self.is_full = False

    def way_to(self, endpoint: Endpoint, traffic_class: int) -> Any:
        assert traffic_class == 0
        return self._sendmsg, (), endpoint[:2]

    def way_from(self, endpoint: Endpoint) -> Any:
        return self._recvmsg, CONTROL, ADDRESS, self._understand

    def _sendmsg(self, buffers: tuple[bytes], control: object, flags: int, address: Any) -> int:
        if self.is_full:
            raise BlockingIOError
        self.sent.append((buffers[0], address))
        return len(buffers[0])

    def _recvmsg(self, size: int, control_size: int) -> tuple[bytes, Any, int, Any]:
        if not self.waiting:
            raise BlockingIOError
        return self.waiting.pop(0)

    def _understand(self, data: bytes, control: object, address: tuple[str, int]) -> Received:
        return [data], Endpoint(*address), 0


class Short:
    """The server's short way: its device expects, its TUN device and its socket are doubles."""

    def __init__(self) -> None:
        self.ends = ping_twice()
        self.tun, self.udp = FakeTun(), FakeUdp()
        self.device = self.ends.server.device
        self.device.settle()
        self.turns_with_data = 0
        self.express = Express(self.device, cast("Tun", self.tun), self._data_came)
        self.expect()

    def expect(self) -> None:
        self.express.expect(cast("UdpSockets", self.udp), self.ends.network.now)

    def _data_came(self) -> None:
        self.turns_with_data += 1

    def packet(self, payload: bytes = b"out") -> bytes:
        return ip_packet(self.ends.server.inner, self.ends.client.inner, payload)

    def datagram(self, payload: bytes = b"in") -> bytes:
        (datagram,) = sealed(self.ends.client, self.ends.server, self.inner(payload))
        return datagram

    def inner(self, payload: bytes = b"in") -> bytes:
        return ip_packet(self.ends.client.inner, self.ends.server.inner, payload)

    def to_tun(self, packet: bytes, header: bytes = PLAIN_VNET_HEADER) -> None:
        self.tun.kernel.send(header + packet)

    def to_socket(self, datagram: bytes, control: Any = CONTROL, address: tuple[str, int] = ADDRESS) -> None:
        self.udp.waiting.append((datagram, control, 0, address))


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[Short]:
    short = Short()
    monkeypatch.setattr(time, "clock_gettime", lambda _: short.ends.network.now)
    yield short
    short.tun.close()


def opened_by_client(short: Short) -> list[bytes]:
    ends = short.ends
    ends.client.inbox.clear()
    for datagram, address in short.udp.sent:
        assert address == ends.client.endpoint[:2]
        ends.client.deliver([datagram], ends.server.endpoint)
    return ends.client.inbox


def test_an_expected_packet_is_sent(short: Short) -> None:
    short.to_tun(short.packet(b"one"))
    assert short.express.outward()
    short.to_tun(short.packet(b"two"))
    assert short.express.outward()
    assert short.express.outward(), "nothing waits: nothing is left to do"
    assert short.express.settle() is None
    assert opened_by_client(short) == [b"one", b"two"]


def test_what_the_kernel_left_unfinished_is_finished(short: Short) -> None:
    short.to_tun(short.packet(b"one"), header=b"\1" + bytes(9))
    assert short.express.outward()
    assert opened_by_client(short) == [b"one"]


@pytest.mark.parametrize("header", [PLAIN_VNET_HEADER, b"\1" + bytes(9)], ids=["whole", "joined"])
def test_another_packet_goes_the_long_way(short: Short, header: bytes) -> None:
    other = ip_packet("192.168.0.1", "192.168.0.9", b"")
    short.to_tun(other if header == PLAIN_VNET_HEADER else other + b"|" + other, header)
    assert not short.express.outward()
    left = short.express.settle()
    assert left is not None
    assert set(left.packets) == {other}
    assert not short.udp.sent
    assert short.express.settle() is None, "once"


def test_what_the_socket_refuses_is_left_sealed(short: Short) -> None:
    short.udp.is_full = True
    short.to_tun(short.packet(b"one"))
    assert not short.express.outward()
    left = short.express.settle()
    assert left is not None
    [transmission] = left.transmissions
    short.udp.sent.append((transmission.datagrams[0], transmission.endpoint[:2]))
    assert opened_by_client(short) == [b"one"]


def test_an_expected_datagram_is_delivered(short: Short) -> None:
    short.to_socket(short.datagram())
    assert short.express.inward()
    assert short.tun.kernel.recv(100) == PLAIN_VNET_HEADER + short.inner()
    assert short.express.settle() is None


def test_what_the_kernel_answers_at_once_is_sent_at_once(short: Short) -> None:
    short.to_tun(short.packet(b"answer"))
    short.to_socket(short.datagram())
    assert short.express.inward()
    assert opened_by_client(short) == [b"answer"]


def test_an_answer_that_is_not_expected_goes_the_long_way(short: Short) -> None:
    other = ip_packet("192.168.0.1", "192.168.0.9", b"")
    short.to_tun(other)
    short.to_socket(short.datagram())
    assert not short.express.inward()
    left = short.express.settle()
    assert left is not None
    assert list(left.packets) == [other]
    assert short.tun.kernel.recv(100) == PLAIN_VNET_HEADER + short.inner()


@pytest.mark.parametrize(
    ("control", "address"), [(CONTROL, ("10.0.0.9", 1)), ([(0, 1, b"CE"), *CONTROL], ADDRESS)]
)
def test_a_datagram_from_elsewhere_goes_the_long_way(
    short: Short, control: Any, address: tuple[str, int]
) -> None:
    datagram = short.datagram()
    short.to_socket(datagram, control, address)
    assert not short.express.inward()
    left = short.express.settle()
    assert left is not None
    assert left.received == [([datagram], Endpoint(*address), 0)]


def test_what_the_tun_device_refuses_is_left_opened(short: Short) -> None:
    short.tun.refuse()
    short.to_socket(short.datagram())
    assert not short.express.inward()
    left = short.express.settle()
    assert left is not None
    assert left.opened == [short.inner()]


def test_a_turn_knows_of_the_data_that_went_the_short_way(short: Short) -> None:
    """Handshakes get less of it (RECOVERY, section 4)."""
    short.express.settle()
    assert short.turns_with_data == 0
    short.expect()
    short.to_socket(short.datagram())
    assert short.express.inward()
    short.to_socket(b"a handshake")
    assert not short.express.inward()
    assert short.express.settle() is not None
    assert short.turns_with_data == 1
    short.express.settle()
    assert short.turns_with_data == 1


def test_nothing_is_taken_up_once_settled(short: Short) -> None:
    short.express.settle()
    short.to_tun(short.packet())
    short.to_socket(short.datagram())
    assert not short.express.outward()
    assert not short.express.inward()
    assert short.express.settle() is None
    assert len(short.udp.waiting) == 1


def test_a_reader_that_was_too_late_leaves_it_to_the_long_way(short: Short) -> None:
    assert not short.express.inward()
    short.tun.close()
    assert not short.express.outward()
    assert short.express.settle() is None
