"""The TUN device: IP packets to and from the kernel, joined for it where it takes more at a time.

With IFF_VNET_HDR one write may carry up to 64 KiB that stand for many packets; `offload` makes these.
Sources: linux/Documentation/networking/tuntap.rst, linux/if_tun.h, netdevice(7).
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Collection, Sequence
from contextlib import suppress
from fcntl import ioctl
from struct import Struct
from typing import Final, Self

from ..core.data_plane import Batch
from ..errors import HandfastError, StartError
from .checksum import Buffer
from .data_plane import PURE, PacketPlane
from .features import disabled_features
from .link import set_queue_length
from .offload import PLAIN_VNET_HEADER, VNET_HEADER

TUN_PATH: Final = "/dev/net/tun"
DEFAULT_MTU: Final = 1420

TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
SIOCGIFMTU: Final = 0x8921
SIOCSIFMTU: Final = 0x8922

IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

TUN_F_CSUM: Final = 0x01
TUN_F_TSO: Final = 0x02 | 0x04 | 0x08
"""For IPv4, for IPv6, with congestion notification."""
TUN_F_USO: Final = 0x20 | 0x40

QUEUE_LENGTH: Final = 1000
"""Packets that wait in the kernel for us: with 500, the default, a pause of 15 ms loses some of 34,000/s."""
READ_PACKETS: Final = 128
"""One batch ends after this many packets, so that the other direction gets its turn."""
READ_BYTES: Final = VNET_HEADER.size + 65535
READ_AT_ONCE: Final = 180_000
"""The same for bytes: 128 packets of 1400."""

_REQUEST = Struct("=16sH22x")
_NUMBER_REQUEST = Struct("=16si20x")
_NAME = re.compile(r"[!-$&-.0-9;-~]{1,15}")


class LinkDeletedError(HandfastError):
    """The interface is gone; its descriptor is of no use any more."""


class Tun:
    """One TUN device, non-blocking.

    The kernel may hand over unsegmented packets. Measured for packets of 1400 bytes: to cut them out and sum
    them up in Python takes 3.2 us each, to let the kernel do it and read one by one 2.0 us. So only a data
    plane that is compiled asks for them; `large_reads` decides otherwise.
    """

    def __init__(
        self,
        fd: int,
        name: str,
        flags: int,
        disabled: Collection[str],
        plane: PacketPlane,
        *,
        large_reads: bool,
    ) -> None:
        self.name = name
        self.dropped_packets = 0
        """Packets that the kernel refused: no room, the link is down, or they were malformed."""
        self._fd = fd
        self._plane = plane
        self._has_headers = has_headers = bool(flags & IFF_VNET_HDR)
        offloads = _supported_offloads(fd, disabled) if has_headers else 0
        self.lacks = _lacking(has_headers, offloads, disabled)
        """The features that nobody disabled and the kernel does not have."""
        self._coalesces_tcp = has_headers and "tso" not in disabled
        self._coalesces_udp = bool(offloads & TUN_F_USO)
        self._large_reads = large_reads and offloads != 0
        if has_headers and not large_reads:
            ioctl(fd, TUNSETOFFLOAD, 0)

    @classmethod
    def create(
        cls,
        name: str,
        mtu: int = DEFAULT_MTU,
        disabled: Collection[str] | None = None,
        *,
        plane: PacketPlane = PURE,
        large_reads: bool | None = None,
    ) -> Self:
        """Create the interface `name`, or attach to one that persists. Raises StartError."""
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise StartError(
                f"{name!r} cannot name an interface: use 1 to 15 characters without blanks, '/', ':' or '%'"
            )
        disabled = disabled_features() if disabled is None else disabled
        large_reads = plane.takes_large_reads if large_reads is None else large_reads
        flags = IFF_TUN | IFF_NO_PI | (0 if "vnet_hdr" in disabled else IFF_VNET_HDR)
        fd = _open_clone_device()
        try:
            flags = _attach(fd, name, flags)
            tun = cls(fd, name, flags, disabled, plane, large_reads=large_reads)
            set_queue_length(name, QUEUE_LENGTH)
            tun.mtu = mtu
        except OSError as error:
            os.close(fd)
            raise _refusal(name, mtu, error) from error
        return tun

    @classmethod
    def from_descriptor(
        cls, fd: int, disabled: Collection[str] | None = None, *, plane: PacketPlane = PURE
    ) -> Self:
        """Take over a descriptor that another process attached; the MTU stays as it is. Raises StartError."""
        try:
            raw_name, flags = _REQUEST.unpack(ioctl(fd, TUNGETIFF, bytes(_REQUEST.size)))
        except OSError as error:
            raise StartError(
                f"descriptor {fd} is not an attached TUN device ({error.strerror}): "
                "pass one on which TUNSETIFF succeeded"
            ) from error
        if not (flags & IFF_TUN and flags & IFF_NO_PI):
            raise StartError(f"descriptor {fd} has the wrong mode: attach it with IFF_TUN | IFF_NO_PI")
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        disabled = disabled_features() if disabled is None else disabled
        name = raw_name.rstrip(b"\0").decode()
        return cls(fd, name, flags, disabled, plane, large_reads=plane.takes_large_reads)

    @property
    def header(self) -> bytes:
        """What comes before each packet that is whole."""
        return PLAIN_VNET_HEADER if self._has_headers else b""

    @property
    def features(self) -> str:
        """What makes batches possible here, as a sentence for the log."""
        if not self._has_headers:
            return "TUN: one packet per call (no virtio-net headers)"
        joins = [
            name for name, is_on in (("TCP", self._coalesces_tcp), ("UDP", self._coalesces_udp)) if is_on
        ]
        reads = "unsegmented packets" if self._large_reads else "one packet per call"
        writes = f"joined {' and '.join(joins)} segments" if joins else "one packet per call"
        return f"TUN: reads {reads}, writes {writes}"

    @property
    def mtu(self) -> int:
        mtu: int = _NUMBER_REQUEST.unpack(self._configure(SIOCGIFMTU))[1]
        return mtu

    @mtu.setter
    def mtu(self, mtu: int) -> None:
        self._configure(SIOCSIFMTU, mtu)

    def _configure(self, request: int, number: int = 0) -> bytes:
        """Get or set a number of the interface, which may have been renamed meanwhile."""
        try:
            raw_name = _REQUEST.unpack(ioctl(self._fd, TUNGETIFF, bytes(_REQUEST.size)))[0]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
                return ioctl(control, request, _NUMBER_REQUEST.pack(raw_name, number))
        except OSError as error:
            if error.errno in {errno.EBADFD, errno.ENODEV}:
                raise self._deleted() from error
            raise

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)

    def read_batch(self, most: int = READ_PACKETS) -> Batch:
        """IP packets of wire size, from at most so many reads. Raises LinkDeletedError."""
        frames: list[bytes] = []
        read, fd, left = os.read, self._fd, READ_AT_ONCE
        try:
            while len(frames) < most and left > 0:
                frames.append(frame := read(fd, READ_BYTES))
                left -= len(frame)
        except BlockingIOError:
            pass
        except OSError as error:
            raise self._deleted() if error.errno == errno.EBADFD else error from error
        return self.packets(frames)

    def packets(self, frames: list[bytes]) -> Batch:
        """The IP packets that reads gave."""
        if not self._has_headers or not frames:
            return frames
        if len(frames) == 1 and frames[0].startswith(PLAIN_VNET_HEADER):
            return [frames[0][VNET_HEADER.size :]]
        packets, malformed = self._plane.split(frames)
        self.dropped_packets += malformed
        return packets

    def write_batch(self, packets: Batch) -> None:
        """Give IP packets to the kernel; what it refuses is dropped and counted. Raises LinkDeletedError."""
        if not self._has_headers:
            for packet in packets:
                self._write((packet,))
            return
        if len(packets) == 1:
            self._write((PLAIN_VNET_HEADER, packets[0]))
            return
        for buffers, group in self._plane.frames(packets, tcp=self._coalesces_tcp, udp=self._coalesces_udp):
            if not self._write(buffers) and len(group) > 1:
                self.dropped_packets -= 1
                for packet in group:
                    self._write((PLAIN_VNET_HEADER, packet))

    def _write(self, buffers: Sequence[Buffer]) -> bool:
        """False if the kernel refused."""
        try:
            os.writev(self._fd, buffers)
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise self._deleted() from error
            # EAGAIN, ENOBUFS: no room; EIO: the link is down; EINVAL: malformed. IP packets may get lost.
            self.dropped_packets += 1
            return False
        return True

    def _deleted(self) -> LinkDeletedError:
        return LinkDeletedError(f"the interface {self.name} was deleted")


def _open_clone_device() -> int:
    try:
        return os.open(TUN_PATH, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        remedy = {
            errno.ENOENT: "mount it into the container, or create it with `mknod /dev/net/tun c 10 200`",
            errno.ENODEV: "load the kernel module with `modprobe tun`",
            errno.ENXIO: "load the kernel module with `modprobe tun`",
        }.get(error.errno or 0, "allow this user, or this container, to read and write it")
        raise StartError(f"cannot open {TUN_PATH}: {error.strerror}; {remedy}") from error


def _attach(fd: int, name: str, flags: int) -> int:
    """Returns the flags that were granted: very old kernels know no virtio-net headers."""
    try:
        ioctl(fd, TUNSETIFF, _REQUEST.pack(name.encode(), flags))
    except OSError as error:
        if error.errno != errno.EINVAL or not flags & IFF_VNET_HDR:
            raise
        flags &= ~IFF_VNET_HDR
        ioctl(fd, TUNSETIFF, _REQUEST.pack(name.encode(), flags))
    return flags


def _supported_offloads(fd: int, disabled: Collection[str]) -> int:
    """Switch on as much segmentation as the kernel has: a request with anything unknown is refused whole."""
    tcp = 0 if "tso" in disabled else TUN_F_CSUM | TUN_F_TSO
    udp = 0 if "uso" in disabled else TUN_F_CSUM | TUN_F_USO
    for offloads in (tcp | udp, tcp, 0):
        with suppress(OSError):
            ioctl(fd, TUNSETOFFLOAD, offloads)
            return offloads
    return 0


def _lacking(has_headers: bool, offloads: int, disabled: Collection[str]) -> list[str]:
    if not has_headers:
        return [] if "vnet_hdr" in disabled else ["vnet_hdr"]
    wanted = {"tso": TUN_F_TSO, "uso": TUN_F_USO}
    return [name for name, flags in wanted.items() if name not in disabled and not offloads & flags]


def _refusal(name: str, mtu: int, error: OSError) -> StartError:
    why, remedy = {
        errno.EPERM: ("not permitted", "run as root, or grant the capability NET_ADMIN"),
        errno.EBUSY: ("another process has it", f"stop that one, or delete it with `ip link del {name}`"),
        errno.EINVAL: (
            f"there is an interface of that name and another kind, or it cannot have an MTU of {mtu}",
            f"choose another name, or see `ip -details link show {name}`",
        ),
    }.get(error.errno or 0, (error.strerror, "see `dmesg`"))
    return StartError(f"cannot create the TUN interface {name}: {why}; {remedy}")
