from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.adapters import udp
from handfast_tunnel.adapters.checksum import complement, word_sum
from handfast_tunnel.adapters.data_plane import MAX_SEGMENTED_BYTES, MAX_SEGMENTS, PURE, PacketPlane
from handfast_tunnel.adapters.tun import Tun
from handfast_tunnel.adapters.udp import RECEIVE_DATAGRAMS, UDP_SEGMENT, UdpSockets
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.interface import Transmission

from .isolated import isolated, shell, wait_for_addresses

FALLBACKS = ["", "udp_gso", "udp_gro", "udp_gso,udp_gro", "pktinfo"]
CE = 3
HANDSHAKE = 0x88

Failure = Callable[[list[tuple[int, int, bytes]]], int]
"""From the control messages of a call to the errno it fails with, or 0."""

fallbacks = pytest.mark.parametrize("disabled", FALLBACKS)
hosts = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])


@contextmanager
def pair(disabled: str = "", plane: PacketPlane = PURE) -> Iterator[tuple[UdpSockets, UdpSockets]]:
    left, right = (UdpSockets(disabled.split(","), plane) for _ in range(2))
    left.bind(0)
    right.bind(0)
    try:
        yield left, right
    finally:
        left.close()
        right.close()


def received(sockets: UdpSockets, count: int) -> list[tuple[Sequence[bytes], Endpoint, int]]:
    """What comes until there are `count` datagrams."""
    batches: list[tuple[Sequence[bytes], Endpoint, int]] = []
    while sum(len(datagrams) for datagrams, _, _ in batches) < count:
        ready, _, _ = select.select(sockets.filenos, [], [], 5)
        assert ready, f"{batches} came, not {count} datagrams"
        for fd in ready:
            batches += sockets.receive_batch(fd)
    return batches


def all_datagrams(batches: Sequence[tuple[Sequence[bytes], Endpoint, int]]) -> list[bytes]:
    return [datagram for datagrams, _, _ in batches for datagram in datagrams]


# --- data -----------------------------------------------------------------------------------------


@hosts
@fallbacks
@isolated
def test_datagrams_arrive_in_order(disabled: str, host: str) -> None:
    sizes = [1452] * 50 + [1000] + [1452] * 3 + [96] * 200 + [148, 0, 1, 65000, 1452]
    datagrams = [os.urandom(size) for size in sizes]
    with pair(disabled) as (left, right):
        assert left.send([Transmission(Endpoint(host, right.port), datagrams, 0)]) == []
        batches = received(right, len(datagrams))
        assert all_datagrams(batches) == datagrams
        assert {(source.host, source.port) for _, source, _ in batches} == {(host, left.port)}
        assert {source.local for _, source, _ in batches} == {
            b"" if disabled == "pktinfo" else socket.inet_pton(family_of(host), host)
        }
        assert not left.dropped_datagrams


def family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


@isolated
def test_a_run_takes_one_call_each_way() -> None:
    datagrams = [bytes(1452)] * 44 + [bytes(96)]
    with pair() as (left, right):
        sender = fail(left, lambda _: 0)
        left.send([Transmission(Endpoint("127.0.0.1", right.port), datagrams, 0)])
        assert sender.calls == 1
        (fd,) = select.select(right.filenos, [], [], 5)[0]
        assert right._sockets[fd].receive() == (
            datagrams,
            Endpoint("127.0.0.1", left.port, 0, bytes([127, 0, 0, 1]), 1),
            0,
        )


@isolated
def test_a_batch_is_bounded() -> None:
    with pair("udp_gro") as (left, right):
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [bytes(100)] * 200, 0)])
        (fd,) = select.select(right.filenos, [], [], 5)[0]
        assert len(all_datagrams(right.receive_batch(fd))) == RECEIVE_DATAGRAMS
        assert len(all_datagrams(right.receive_batch(fd))) == 200 - RECEIVE_DATAGRAMS
        assert right.receive_batch(fd) == []


@isolated
def test_senders_are_told_apart() -> None:
    with pair() as (left, right), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        third.bind(("127.0.0.1", 0))
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"1", b"2"], 0)])
        third.sendto(b"3", ("127.0.0.1", right.port))
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"4"], 0)])
        ports = [(source.port, datagrams) for datagrams, source, _ in received(right, 4)]
        assert ports == [
            (left.port, [b"1", b"2"]),
            (third.getsockname()[1], [b"3"]),
            (left.port, [b"4"]),
        ]


@hosts
@fallbacks
@isolated
def test_the_traffic_class_goes_both_ways(disabled: str, host: str) -> None:
    with pair(disabled) as (left, right):
        endpoint = Endpoint(host, right.port, 0, socket.inet_pton(family_of(host), host), 1)
        data = [bytes(500)] * 3
        left.send(
            [
                Transmission(endpoint, [b"handshake"], HANDSHAKE),
                Transmission(endpoint, data, CE),
                Transmission(endpoint, data, 0),
            ]
        )
        batches = received(right, 7)
        assert [(datagrams, traffic_class) for datagrams, _, traffic_class in batches] == [
            ([b"handshake"], HANDSHAKE),
            (data, CE),
            (data, 0),
        ]


@st.composite
def runs_of_sizes(draw: st.DrawFn) -> list[bytes]:
    sizes = draw(st.lists(st.tuples(st.sampled_from([0, 1, 32, 1452, 9000]), st.integers(1, 70)), max_size=6))
    return [bytes(size) for size, count in sizes for _ in range(count)]


@given(runs_of_sizes())
def test_runs_are_what_udp_segment_can_carry(datagrams: list[bytes]) -> None:
    runs = list(PURE.runs(datagrams))
    assert [datagram for run in runs for datagram in run.buffers] == datagrams
    for run in runs:
        sizes = list(map(len, run.buffers))
        assert len(sizes) == run.datagrams
        assert {*sizes[:-1]} <= {run.size}
        assert run.datagrams == 1 or 0 < sizes[-1] <= run.size
        assert run.datagrams <= MAX_SEGMENTS
        assert run.datagrams == 1 or sum(sizes) <= MAX_SEGMENTED_BYTES
        assert [single.buffers for single in run.single()] == [(each,) for each in run.buffers]


# --- local addresses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("subnet", "first", "second"), [("24", "10.7.0.1", "10.7.0.2"), ("64", "fd07::1", "fd07::2")]
)
@isolated
def test_answers_leave_from_the_address_that_was_asked(subnet: str, first: str, second: str) -> None:
    flags = "nodad" if ":" in first else ""
    shell(f"ip addr add {first}/{subnet} dev lo {flags}; ip addr add {second}/{subnet} dev lo {flags}")
    wait_for_addresses(first, second)
    with pair() as (client, server):
        for address in (first, second):
            client.send([Transmission(Endpoint(address, server.port), [b"question"], 0)])
            ((_, source, _),) = received(server, 1)
            assert source.local == socket.inet_pton(family_of(address), address)
            server.send([Transmission(source, [b"answer"] * 3, CE)])
            ((_, origin, _),) = received(client, 3)
            assert origin.host == address


@isolated
def test_link_local_addresses_keep_their_zone() -> None:
    shell(
        "ip link add one type veth peer name two; ip link set one addrgenmode none; ip link set one up;"
        "ip link set two addrgenmode none; ip link set two up;"
        "ip addr add fe80::1/64 dev one nodad; ip addr add fe80::2/64 dev one nodad"
    )
    wait_for_addresses("fe80::1", "fe80::2")
    index = socket.if_nametoindex("one")
    with pair() as (client, server):
        client.send([Transmission(Endpoint("fe80::2", server.port, index), [b"question"], 0)])
        ((_, source, _),) = received(server, 1)
        assert source == Endpoint(
            source.host, client.port, index, socket.inet_pton(socket.AF_INET6, "fe80::2"), source.interface
        )
        assert server.send([Transmission(source, [b"answer"], 0)]) == []
        ((_, origin, _),) = received(client, 1)
        assert origin.host == "fe80::2"


@pytest.mark.parametrize(("host", "gone"), [("127.0.0.1", "10.77.0.1"), ("::1", "fd77::1")])
@fallbacks
@isolated
def test_a_vanished_local_address_is_given_up(disabled: str, host: str, gone: str) -> None:
    with pair(disabled) as (left, right):
        endpoint = Endpoint(host, right.port, 0, socket.inet_pton(family_of(host), gone), 1)
        stale = Transmission(endpoint, [bytes(100)] * 3 + [bytes(200)], 0)
        fresh = Transmission(endpoint.without_local(), [b"fresh"], 0)
        assert left.send([fresh, stale, fresh]) == [stale]
        datagrams = all_datagrams(received(right, 6))
        assert datagrams == [b"fresh", *stale.datagrams, b"fresh"]
        assert not left.dropped_datagrams


@isolated
def test_the_route_chooses_the_interface() -> None:
    """A local address whose interface has lost its route still goes where the route leads now."""
    shell("ip link add one type veth peer name two; ip addr add 10.7.0.1/24 dev one; ip link set one up")
    with pair() as (left, right):
        endpoint = Endpoint("127.0.0.1", right.port, 0, bytes([127, 0, 0, 1]), socket.if_nametoindex("one"))
        assert left.send([Transmission(endpoint, [b"data"], 0)]) == []
        assert all_datagrams(received(right, 1)) == [b"data"]


# --- what may go wrong ----------------------------------------------------------------------------


class FailingSocket:
    """A socket whose `sendmsg` fails as told."""

    def __init__(self, sock: socket.socket, failure: Failure) -> None:
        self._sock = sock
        self._failure = failure
        self.calls = 0

    def sendmsg(self, buffers: Any, control: list[tuple[int, int, bytes]], *rest: Any) -> int:
        self.calls += 1
        if code := self._failure(control):
            raise OSError(code, os.strerror(code))
        return self._sock.sendmsg(buffers, control, *rest)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        self._sock.close()


def fail(sockets: UdpSockets, failure: Failure) -> FailingSocket:
    sender = sockets._senders[False]
    failing = FailingSocket(sender._socket, failure)
    sender._socket = failing  # type: ignore[assignment]
    return failing


def when_segmented(code: int) -> Failure:
    return lambda control: code if any(kind == UDP_SEGMENT for _, kind, _ in control) else 0


@pytest.mark.parametrize(
    ("code", "calls"), [(errno.EIO, 4 + 3), (errno.EINVAL, 4 + 4), (errno.EMSGSIZE, 4 + 4)]
)
@isolated
def test_a_refused_run_is_sent_datagram_by_datagram(code: int, calls: int) -> None:
    """EIO means that the device will never do it."""
    datagrams = [b"1", b"2", b"3"]
    with pair() as (left, right):
        failing = fail(left, when_segmented(code))
        for _ in range(2):
            left.send([Transmission(Endpoint("127.0.0.1", right.port), datagrams, 0)])
            assert all_datagrams(received(right, 3)) == datagrams
        assert failing.calls == calls
        assert ("IPv4 sends one datagram a call" in left.features) == (code == errno.EIO)
        assert not left.dropped_datagrams


def when_single(*codes: int) -> Failure:
    """No run may leave whole, and the single datagrams fail with these, in turn."""
    outcomes = iter(codes)
    segmented = when_segmented(errno.EINVAL)
    return lambda control: segmented(control) or next(outcomes, 0)


@isolated
def test_of_a_refused_run_what_can_leave_leaves_and_the_rest_is_counted() -> None:
    """EMSGSIZE or a filter may meet one of them; the next ones are no worse for it."""
    with pair() as (left, right):
        fail(left, when_single(0, errno.EPERM, 0, errno.EMSGSIZE))
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"1", b"2", b"3", b"4", b"5"], 0)])
        assert all_datagrams(received(right, 3)) == [b"1", b"3", b"5"]
        assert left.dropped_datagrams == 2


@isolated
def test_a_local_address_that_is_refused_within_a_run_repeats_nothing() -> None:
    with pair() as (left, right):
        fail(left, when_single(0, errno.EPERM, 0, errno.EINVAL))
        endpoint = Endpoint("127.0.0.1", right.port, 0, bytes([127, 0, 0, 1]), 1)
        transmission = Transmission(endpoint, [b"1", b"2", b"3", b"4", b"5"], 0)
        assert left.send([transmission]) == [transmission]
        left.send([Transmission(endpoint, [b"last"], 0)])
        assert all_datagrams(received(right, 5)) == [b"1", b"3", b"4", b"5", b"last"]
        assert left.dropped_datagrams == 1


@isolated
def test_runs_longer_than_the_path_are_fragmented() -> None:
    shell("ip link set lo mtu 1300")
    datagrams = [os.urandom(1452) for _ in range(10)]
    with pair() as (left, right):
        for host in ("127.0.0.1", "::1"):
            left.send([Transmission(Endpoint(host, right.port), datagrams, 0)])
            assert all_datagrams(received(right, 10)) == datagrams
        assert not left.dropped_datagrams


@isolated
def test_a_full_buffer_is_waited_for() -> None:
    with pair() as (left, right):
        outcomes = iter([errno.EAGAIN])
        fail(left, lambda _: next(outcomes, 0))
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"1", b"2"], 0)])
        assert all_datagrams(received(right, 2)) == [b"1", b"2"]
        assert not left.dropped_datagrams


@isolated
def test_a_buffer_that_stays_full_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    class NeverReady:
        def register(self, *_: object) -> None: ...

        def poll(self, patience: int) -> list[object]:
            waits.append(patience)
            return []

    monkeypatch.setattr(select, "poll", NeverReady)
    with pair() as (left, right):
        fail(left, lambda _: errno.EAGAIN)
        endpoint = Endpoint("127.0.0.1", right.port, 0, bytes([127, 0, 0, 1]))
        for waited in (1, 2):
            assert left.send([Transmission(endpoint, [b"1", b"23", b"456"], 0)] * 2) == []
            assert left.dropped_datagrams == waited * 6
            assert sum(1 for patience in waits if patience) == waited


@isolated
def test_what_has_no_route_or_is_filtered_is_dropped_and_counted() -> None:
    shell(
        "ip route add unreachable 10.8.0.0/16; nft add table ip t;"
        "nft 'add chain ip t out { type filter hook output priority 0; }';"
        "nft add rule ip t out ip daddr 127.0.0.9 drop"
    )
    with pair() as (left, right):
        left.send(
            [
                Transmission(Endpoint("10.8.0.1", 9), [b"1"] * 3, 0),
                Transmission(Endpoint("192.0.2.1", 9), [b"2"], 0),
                Transmission(Endpoint("127.0.0.9", 9), [b"3"], 0),
                Transmission(Endpoint("127.0.0.1", right.port), [b"4"], 0),
            ]
        )
        assert all_datagrams(received(right, 1)) == [b"4"]
        assert left.dropped_datagrams == 5


@isolated
def test_an_answer_that_nobody_listens_does_no_harm() -> None:
    with pair() as (left, right):
        left.send([Transmission(Endpoint("127.0.0.1", 9), [b"lost"], 0)])
        assert left.receive_batch(left.filenos[0]) == []
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"data"], 0)])
        assert all_datagrams(received(right, 1)) == [b"data"]


@isolated
def test_a_forged_icmp_message_does_not_shrink_the_path() -> None:
    tun = Tun.create("wg0", mtu=1500, disabled=())
    shell("ip addr add 10.9.0.2/24 dev wg0; ip link set wg0 up")
    sockets = UdpSockets(())
    sockets.bind(0)
    transmission = Transmission(Endpoint("10.9.0.1", 51820), [bytes(1400)] * 2, 0)
    sockets.send([transmission])
    sent = ipv4_packets(tun, 2)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as forger:
        fragmentation_needed = struct.pack("!BBHHH", 3, 4, 0, 0, 600) + sent[0][:48]
        checksum = complement(word_sum(fragmentation_needed)).to_bytes(2, "little")
        forger.sendto(fragmentation_needed[:2] + checksum + fragmentation_needed[4:], ("10.9.0.2", 0))
    sockets.send([transmission])
    for packet in sent + ipv4_packets(tun, 2):
        assert len(packet) == 1428
        assert not packet[6] & 0x40, "routers may fragment it"


def ipv4_packets(tun: Tun, count: int) -> list[bytes]:
    packets: list[bytes] = []
    while len(packets) < count:
        assert select.select([tun], [], [], 5)[0]
        packets += [packet for packet in tun.read_batch() if packet[0] >> 4 == 4]
    return packets


# --- ports and options ----------------------------------------------------------------------------


@isolated
def test_both_families_share_a_port() -> None:
    sockets = UdpSockets(())
    assert (sockets.port, sockets.filenos) == (0, [])
    sockets.bind(0)
    assert sockets.port
    assert len(sockets.filenos) == 2
    for host in ("127.0.0.1", "::1"):
        with (
            pytest.raises(OSError, match="in use"),
            socket.socket(family_of(host), socket.SOCK_DGRAM) as other,
        ):
            other.bind((host, sockets.port))
    sockets.close()
    assert (sockets.port, sockets.filenos) == (0, [])


@hosts
@isolated
def test_a_port_in_use_changes_nothing(host: str) -> None:
    with pair() as (left, right), socket.socket(family_of(host), socket.SOCK_DGRAM) as other:
        other.bind((host, 0))
        before = (left.port, left.filenos)
        with pytest.raises(OSError, match="in use") as caught:
            left.bind(other.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
        assert (left.port, left.filenos) == before
        left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"data"], 0)])
        assert all_datagrams(received(right, 1)) == [b"data"]
        open_files = sorted(Path("/proc/self/fd").iterdir())
        with pytest.raises(OSError, match="in use"):
            left.bind(other.getsockname()[1])
        assert sorted(Path("/proc/self/fd").iterdir()) == open_files


@isolated
def test_a_port_that_only_ipv4_has_free_is_not_taken() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        other.bind(("::", 0))
        taken = other.getsockname()[1]
        low = taken & ~1
        shell(f"echo {low} {low + 1} > /proc/sys/net/ipv4/ip_local_port_range")
        for _ in range(10):
            sockets = UdpSockets(())
            sockets.bind(0)
            assert sockets.port == taken ^ 1
            sockets.close()


@isolated
def test_another_port_replaces_the_sockets() -> None:
    with pair() as (left, right):
        old = left.port
        left.bind(old)
        assert left.port == old
        left.bind(0)
        left.bind(old)
        right.send([Transmission(Endpoint("127.0.0.1", old), [b"data"], 0)])
        assert all_datagrams(received(left, 1)) == [b"data"]


@isolated
def test_a_kernel_without_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    without(socket.AF_INET6, monkeypatch)
    with pair() as (left, right):
        assert len(left.filenos) == 1
        left.send(
            [
                Transmission(Endpoint("::1", right.port), [b"lost"], 0),
                Transmission(Endpoint("127.0.0.1", right.port), [b"data"], 0),
            ]
        )
        assert all_datagrams(received(right, 1)) == [b"data"]
        assert left.dropped_datagrams == 1


@isolated
def test_a_kernel_without_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    without(socket.AF_INET, monkeypatch)
    with pair() as (left, right):
        left.send([Transmission(Endpoint("::1", right.port), [b"data"], 0)])
        assert all_datagrams(received(right, 1)) == [b"data"]


@isolated
def test_a_kernel_without_either(monkeypatch: pytest.MonkeyPatch) -> None:
    without(socket.AF_INET6, monkeypatch)
    without(socket.AF_INET, monkeypatch)
    with pytest.raises(OSError, match="not supported"):
        UdpSockets(()).bind(0)


def without(family: socket.AddressFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    open_socket = socket.socket

    def refuse(wanted: int, *rest: int) -> socket.socket:
        if wanted == family:
            raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        return open_socket(wanted, *rest)

    monkeypatch.setattr(socket, "socket", refuse)


@isolated
def test_the_firewall_mark_is_set_at_run_time() -> None:
    for family in (4, 6):
        shell(f"ip -{family} rule add fwmark 7 pref 1 unreachable")
    shell("ip route add 192.0.2.0/24 dev lo; ip route add 2001:db8::/32 dev lo")
    transmissions = [Transmission(Endpoint(host, 9), [b"data"], 0) for host in ("192.0.2.1", "2001:db8::1")]
    sockets = UdpSockets(())
    sockets.bind(0, fwmark=7)
    sockets.send(transmissions)
    assert sockets.dropped_datagrams == 2
    for mark, dropped in ((0, 2), (7, 4), (8, 4)):
        sockets.set_mark(mark)
        sockets.send(transmissions)
        assert sockets.dropped_datagrams == dropped
    sockets.bind(sockets.port, fwmark=7)
    sockets.send(transmissions)
    assert sockets.dropped_datagrams == 6


@pytest.mark.parametrize(
    ("disabled", "expected"),
    [
        ("", "sends runs of datagrams, receives runs of datagrams"),
        ("udp_gso", "sends one datagram a call, receives runs of datagrams"),
        ("udp_gro", "sends runs of datagrams, receives one datagram a call"),
    ],
)
@isolated
def test_features_are_said(disabled: str, expected: str) -> None:
    with pair(disabled) as (left, _):
        assert left.features == f"UDP: IPv4 {expected}; IPv6 {expected}"
        assert not left.lacks, "what a person disabled is not missing"


@pytest.mark.parametrize(("option", "name"), [(UDP_SEGMENT, "udp_gso"), (udp.UDP_GRO, "udp_gro")])
@isolated
def test_what_the_kernel_lacks_is_known(option: int, name: str) -> None:
    """UDP_SEGMENT came with Linux 4.18, UDP_GRO with 5.0."""
    real = udp._Socket._try_option

    def old(self: Any, level: int, number: int, value: int) -> bool:
        return number != option and real(self, level, number, value)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(udp._Socket, "_try_option", old)
        with pair() as (left, right):
            assert left.lacks == [name]
            left.send([Transmission(Endpoint("127.0.0.1", right.port), [b"1", b"2"], 0)])
            assert all_datagrams(received(right, 2)) == [b"1", b"2"]


@isolated
def test_buffers_are_as_large_as_they_may_be() -> None:
    allowed = int(shell("cat /proc/sys/net/core/rmem_max"))
    with pair() as (left, _):
        for each in left._sockets.values():
            granted = each._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
            assert granted >= 2 * min(allowed, udp.BUFFER_BYTES)


@isolated
def test_overflows_are_counted_as_long_as_the_socket_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "BUFFER_BYTES", 4096)
    first, successor = UdpSockets(), UdpSockets()
    first.bind(0)
    assert first.overflows == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(1000):
            sender.sendto(bytes(1000), ("127.0.0.1", first.port))
    assert 900 < first.overflows < 1000
    successor.adopt([os.dup(fd) for fd in first.filenos])
    assert successor.overflows == first.overflows
    first.close()
    successor.close()
    assert successor.overflows == 0


@hosts
def test_a_way_back_looks_like_the_last_datagram(host: str) -> None:
    with pair() as (left, right):
        left.send([Transmission(Endpoint(host, right.port), [b"first"], 0)])
        [(_, source, _)] = received(right, 1)
        way_from = right.way_from(source)
        assert way_from is not None
        receive, control, address, understand = way_from
        left.send([Transmission(Endpoint(host, right.port), [b"second"], 0)])
        data, its_control, _, its_address = receive(100, 256)
        assert (its_control, its_address) == (control, address)
        datagrams, endpoint, _ = understand(data, its_control, its_address)
        assert (list(datagrams), endpoint) == ([b"second"], source)
        left.send([Transmission(Endpoint(host, right.port), [b"marked"], CE)])
        received(right, 1)
        assert right.way_from(source) is None, "congestion has to be looked at"


@hosts
def test_a_way_to_an_endpoint_sends_from_where_it_was_reached(host: str) -> None:
    with pair() as (left, right):
        left.send([Transmission(Endpoint(host, right.port), [b"there"], 0)])
        [(_, source, _)] = received(right, 1)
        way_to = right.way_to(source, 0)
        assert way_to is not None
        send, control, address = way_to
        send((b"back",), control, 0, address)
        [(datagrams, back, _)] = received(left, 1)
        assert (list(datagrams), back.host, back.port) == ([b"back"], host, right.port)


def test_there_is_no_way_without_a_socket() -> None:
    sockets = UdpSockets()
    assert sockets.way_to(Endpoint("127.0.0.1", 1), 0) is None
    assert sockets.way_from(Endpoint("127.0.0.1", 1)) is None
