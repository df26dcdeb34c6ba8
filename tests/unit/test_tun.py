from __future__ import annotations

import os
import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from pathlib import Path

import pytest

from handfast_tunnel.adapters import data_plane
from handfast_tunnel.adapters import tun as tun_module
from handfast_tunnel.adapters.data_plane import PURE, PacketPlane
from handfast_tunnel.adapters.features import FEATURES, disabled_features
from handfast_tunnel.adapters.offload import PLAIN_VNET_HEADER, VNET_HEADER
from handfast_tunnel.adapters.tun import QUEUE_LENGTH, READ_AT_ONCE, READ_PACKETS, LinkDeletedError, Tun
from handfast_tunnel.errors import StartError

from . import packets
from .isolated import isolated, shell, unprivileged

UDP_SEGMENT = 103
FALLBACKS = ["", "uso", "tso", "tso,uso", "vnet_hdr"]

fallbacks = pytest.mark.parametrize("disabled", FALLBACKS)
both_reads = pytest.mark.parametrize("large_reads", [False, True], ids=["segmented", "large"])


@contextmanager
def device(
    disabled: str = "", *, large_reads: bool | None = None, plane: PacketPlane = PURE
) -> Iterator[Tun]:
    """wg0, up, with the addresses that the packets of the module `packets` are for."""
    tun = Tun.create("wg0", disabled=disabled.split(","), plane=plane, large_reads=large_reads)
    shell("ip addr add 10.9.0.2/24 dev wg0; ip addr add fd00::2/64 dev wg0 nodad; ip link set wg0 up")
    try:
        yield tun
    finally:
        tun.close()


def read(tun: Tun, count: int) -> list[bytes]:
    """At least `count` packets that are no chatter of the kernel's own."""
    received: list[bytes] = []
    while len(received) < count:
        assert select.select([tun], [], [], 5)[0], f"{len(received)} of {count} packets came"
        received += [packet for packet in tun.read_batch() if not is_multicast(packet)]
    return received


def is_multicast(packet: bytes) -> bool:
    return packet[0] >> 4 == 6 and packet[24] == 0xFF


def receiver(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(5)
    return sock


# --- data -----------------------------------------------------------------------------------------


def mirror(tun: Tun, stop: threading.Event, batches: list[int]) -> None:
    """Be a network in which every address answers as this host does: exchange source and destination."""
    while not stop.is_set():
        if select.select([tun], [], [], 0.05)[0]:
            batch = [exchanged(packet) for packet in tun.read_batch() if not is_multicast(packet)]
            batches.append(len(batch))
            tun.write_batch(batch)


def exchanged(packet: bytes) -> bytes:
    """Every checksum stays right."""
    if packet[0] >> 4 == 4:
        return packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
    return packet[:8] + packet[24:40] + packet[8:24] + packet[40:]


@both_reads
@fallbacks
@isolated
def test_tcp_crosses_the_device_both_ways(disabled: str, large_reads: bool) -> None:
    stop = threading.Event()
    batches: list[int] = []
    with device(disabled, large_reads=large_reads) as tun:
        pump = threading.Thread(target=mirror, args=(tun, stop, batches))
        pump.start()
        try:
            transfer("10.9.0.2", "10.9.0.1")
            transfer("fd00::2", "fd00::1")
        finally:
            stop.set()
            pump.join()
        assert max(batches) > 1
        assert not tun.dropped_packets


def transfer(here: str, there: str) -> None:
    family = socket.AF_INET6 if ":" in here else socket.AF_INET
    data = os.urandom(1 << 20)
    received = bytearray()
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((here, 5201), family=family))
        client = stack.enter_context(socket.create_connection((there, 5201), timeout=20))
        server = stack.enter_context(listener.accept()[0])
        server.settimeout(20)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        while len(received) < len(data):
            received += server.recv(1 << 20)
        sender.join()
    assert received == data


@both_reads
@fallbacks
@isolated
def test_packets_that_are_read_have_wire_size_and_checksums(disabled: str, large_reads: bool) -> None:
    with device(disabled, large_reads=large_reads) as tun:
        for address, source in (("10.9.0.1", "10.9.0.2"), ("fd00::1", "fd00::2")):
            with receiver(source, 40000) as sender:
                sender.sendto(b"single", (address, 9))
                sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 100)
                sender.sendto(b"x" * 250, (address, 9))
            received = read(tun, 4)
            assert all(packets.is_valid(packet) for packet in received)
            start = 48 if ":" in address else 28
            assert [packet[start:] for packet in received] == [b"single", b"x" * 100, b"x" * 100, b"x" * 50]


@fallbacks
@isolated
def test_datagrams_that_are_written_arrive(disabled: str) -> None:
    with device(disabled) as tun, receiver("10.9.0.2", 5201) as sock:
        payloads = [bytes([number]) * (1000 if number % 5 else 300) for number in range(100)]
        tun.write_batch([packets.udp(payload) for payload in payloads])
        assert [sock.recv(2000) for _ in payloads] == payloads
        assert not tun.dropped_packets


@isolated
def test_damaged_datagrams_do_not_arrive() -> None:
    with device() as tun, receiver("10.9.0.2", 5201) as sock:
        stream = [packets.udp(bytes([number]) * 100) for number in range(3)]
        stream[1] = stream[1][:50] + b"damage" + stream[1][56:]
        tun.write_batch(stream)
        assert [sock.recv(2000)[0] for _ in range(2)] == [0, 2]


@both_reads
@isolated
def test_a_batch_is_bounded(large_reads: bool) -> None:
    with device(large_reads=large_reads) as tun, receiver("10.9.0.2", 40000) as sender:
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        for _ in range(6):
            sender.sendto(bytes(60_000), ("10.9.0.1", 9))
        first = tun.read_batch()
        bound = READ_AT_ONCE // 1000 if large_reads else READ_PACKETS
        assert bound - 8 <= len(first) < bound + 64
        read(tun, 360 - len(first))


@isolated
def test_nothing_to_read_is_an_empty_batch() -> None:
    with device() as tun:
        while tun.read_batch():
            pass
        assert tun.read_batch() == []


@isolated
def test_a_joined_write_that_is_refused_is_repeated_packet_by_packet() -> None:
    with device() as tun, receiver("10.9.0.2", 5201) as sock, pytest.MonkeyPatch.context() as patch:
        unknown_type = VNET_HEADER.pack(1, 77, 0, 100, 20, 6)
        patch.setattr(data_plane, "joined", lambda group: [unknown_type, *group])
        tun.write_batch([packets.udp(bytes([number])) for number in range(3)])
        assert [sock.recv(10)[0] for _ in range(3)] == [0, 1, 2]
        assert not tun.dropped_packets


@fallbacks
@isolated
def test_what_the_kernel_refuses_is_dropped_and_counted(disabled: str) -> None:
    with device(disabled) as tun:
        tun.write_batch([b"\x00 is no version of IP"])
        assert tun.dropped_packets == 1
        shell("ip link set wg0 down")
        tun.write_batch([packets.udp(b"down")] * 3)
        assert tun.dropped_packets == 4


@isolated
def test_a_malformed_description_of_a_packet_is_dropped_and_counted() -> None:
    with device() as tun, pytest.MonkeyPatch.context() as patch:
        segments_of_no_size = VNET_HEADER.pack(1, 1, 0, 0, 20, 16)
        reads = iter([segments_of_no_size + packets.tcp(b"x"), PLAIN_VNET_HEADER + packets.tcp(b"y")])
        patch.setattr(os, "read", lambda *_: next(reads, None) or nothing_there())
        assert tun.read_batch() == [packets.tcp(b"y")]
        assert tun.dropped_packets == 1


def nothing_there() -> bytes:
    raise BlockingIOError


# --- the interface --------------------------------------------------------------------------------


@isolated
def test_creation() -> None:
    with device() as tun:
        assert tun.name == "wg0"
        assert tun.mtu == 1420
        tun.mtu = 1300
        assert tun.mtu == 1300
        shown = shell("ip link show wg0")
        assert "mtu 1300" in shown
        assert f"qlen {QUEUE_LENGTH}" in shown
        assert not os.get_blocking(tun.fileno())
        assert not os.get_inheritable(tun.fileno())
    assert "wg0" not in shell("ip link")


@isolated
def test_the_interface_may_be_renamed() -> None:
    with device() as tun:
        shell("ip link set wg0 down; ip link set wg0 name other")
        tun.mtu = 1280
        assert tun.mtu == 1280


@isolated
def test_a_persistent_interface_is_attached_to() -> None:
    shell("ip tuntap add dev wg0 mode tun")
    with device() as tun, receiver("10.9.0.2", 5201) as sock:
        tun.write_batch([packets.udp(b"1"), packets.udp(b"2")])
        assert sock.recv(10) == b"1"
    assert "wg0" in shell("ip link")


@isolated
def test_deletion_is_told() -> None:
    with device() as tun:
        shell("ip link del wg0")
        for use in (tun.read_batch, lambda: tun.write_batch([packets.udp(b"x")]), lambda: tun.mtu):
            with pytest.raises(LinkDeletedError, match="wg0 was deleted"):
                use()
        with pytest.raises(LinkDeletedError):
            tun.write_batch([packets.udp(b"x")] * 2)


@isolated
def test_a_descriptor_is_taken_over_as_it_is() -> None:
    with device() as first, receiver("10.9.0.2", 5201) as sock:
        first.mtu = 1300
        tun = Tun.from_descriptor(os.dup(first.fileno()), disabled=())
        assert (tun.name, tun.mtu, tun.features) == ("wg0", 1300, first.features)
        tun.write_batch([packets.udp(b"1"), packets.udp(b"2")])
        assert [sock.recv(10), sock.recv(10)] == [b"1", b"2"]
        tun.close()
        assert first.mtu == 1300


@isolated
def test_a_descriptor_without_virtio_headers_works_too() -> None:
    with device("vnet_hdr") as first, receiver("10.9.0.2", 5201) as sock:
        tun = Tun.from_descriptor(os.dup(first.fileno()), disabled=())
        tun.write_batch([packets.udp(b"1"), packets.udp(b"2")])
        assert [sock.recv(10), sock.recv(10)] == [b"1", b"2"]
        tun.close()


@pytest.mark.parametrize(
    ("disabled", "expected"),
    [
        ("", "reads one packet per call, writes joined TCP and UDP segments"),
        ("uso", "reads one packet per call, writes joined TCP segments"),
        ("tso", "reads one packet per call, writes joined UDP segments"),
        ("tso,uso", "reads one packet per call, writes one packet per call"),
        ("vnet_hdr", "one packet per call (no virtio-net headers)"),
    ],
)
@isolated
def test_features_are_said(disabled: str, expected: str) -> None:
    with device(disabled) as tun:
        assert tun.features == f"TUN: {expected}"
        assert not tun.lacks, "what a person disabled is not missing"


@isolated
def test_kernels_without_udp_segmentation_still_have_that_of_tcp() -> None:
    """Linux before 6.2 refuses a request that contains TUN_F_USO4."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            tun_module,
            "ioctl",
            lambda fd, request, argument=0: (
                refuse()
                if request == tun_module.TUNSETOFFLOAD and argument & tun_module.TUN_F_USO
                else ioctl(fd, request, argument)
            ),
        )
        with device(large_reads=True) as tun:
            assert tun.features == "TUN: reads unsegmented packets, writes joined TCP segments"
            assert tun.lacks == ["uso"]


@isolated
def test_kernels_without_headers_still_move_packets() -> None:
    def old(fd: int, request: int, argument: bytes | int = 0) -> object:
        if request == tun_module.TUNSETIFF and isinstance(argument, bytes):
            flags = int.from_bytes(argument[16:18], "little")
            if flags & tun_module.IFF_VNET_HDR:
                refuse()
        return ioctl(fd, request, argument)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tun_module, "ioctl", old)
        with device() as tun:
            assert tun.features == "TUN: one packet per call (no virtio-net headers)"
            assert tun.lacks == ["vnet_hdr"]


def refuse() -> None:
    raise OSError(22, "Invalid argument")


# --- what a person has to mend --------------------------------------------------------------------


@isolated
def test_a_second_instance_is_told_of_the_first() -> None:
    with device(), pytest.raises(StartError, match=r"wg0: another process has it; .*ip link del wg0"):
        Tun.create("wg0", disabled=())


@pytest.mark.parametrize("name", ["", "a" * 16, "a b", "a/b", "a:b", "wg%d", ".", ".."])
def test_bad_names(name: str) -> None:
    with pytest.raises(StartError, match="cannot name an interface"):
        Tun.create(name, disabled=())


@isolated
def test_a_name_of_another_kind_of_interface() -> None:
    with pytest.raises(StartError, match="lo: there is an interface of that name and another kind"):
        Tun.create("lo", disabled=())


@isolated
def test_an_impossible_mtu() -> None:
    with pytest.raises(StartError, match="cannot have an MTU of 70000"):
        Tun.create("wg0", mtu=70000, disabled=())
    assert "wg0" not in shell("ip link")


@unprivileged
def test_no_permission() -> None:
    with pytest.raises(StartError, match=r"wg0: not permitted; .* NET_ADMIN"):
        Tun.create("wg0", disabled=())


def test_no_device_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tun_module, "TUN_PATH", str(tmp_path / "tun"))
    with pytest.raises(StartError, match=r"cannot open .*/tun: No such file or directory; mount it"):
        Tun.create("wg0", disabled=())


@pytest.mark.parametrize("path", ["/dev/null", "/dev/net/tun"])
def test_a_descriptor_of_something_else(path: str) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        with pytest.raises(StartError, match="is not an attached TUN device"):
            Tun.from_descriptor(fd, disabled=())
    finally:
        os.close(fd)


@isolated
def test_a_descriptor_of_the_wrong_mode() -> None:
    fd = os.open("/dev/net/tun", os.O_RDWR)
    tap = 0x0002
    ioctl(fd, tun_module.TUNSETIFF, struct.pack("16sH22x", b"wg0", tap))
    with pytest.raises(StartError, match="wrong mode"):
        Tun.from_descriptor(fd, disabled=())
    os.close(fd)


# --- HANDFAST_DISABLE -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"), [("", set()), ("tso", {"tso"}), (" uso , udp_gso,", {"uso", "udp_gso"})]
)
def test_disabled_features(text: str, expected: set[str]) -> None:
    assert disabled_features({"HANDFAST_DISABLE": text}) == expected


def test_nothing_is_disabled_unless_asked() -> None:
    assert disabled_features({}) == frozenset()
    assert disabled_features({"HANDFAST_DISABLE": ",".join(FEATURES)}) == FEATURES.keys()


def test_an_unknown_feature_is_refused() -> None:
    with pytest.raises(
        StartError, match="HANDFAST_DISABLE names an unknown feature, magic: use some of vnet"
    ):
        disabled_features({"HANDFAST_DISABLE": "tso,magic"})


@isolated
def test_the_environment_disables() -> None:
    os.environ["HANDFAST_DISABLE"] = "vnet_hdr"
    tun = Tun.create("wg0")
    assert "no virtio-net headers" in tun.features
    tun.close()
