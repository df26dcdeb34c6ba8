"""The TUN device: IP packets to and from the kernel, in batches where it lends a hand.

With IFF_VNET_HDR a read may bring, and a write may take, up to 64 KiB that stand for many packets;
`offload` splits and joins them. Sources: linux/Documentation/networking/tuntap.rst, linux/if_tun.h.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import struct
from collections.abc import Collection, Sequence
from contextlib import suppress
from fcntl import ioctl
from pathlib import Path
from typing import Final, Self

from ..errors import HandfastError, StartError
from .checksum import Buffer
from .features import disabled_features
from .offload import PLAIN_VNET_HEADER, VNET_HEADER, MalformedPacketError, coalesce, joined, split

TUN_PATH: Final = Path("/dev/net/tun")
DEFAULT_MTU: Final = 1420

TUNSETIFF: Final = 0x400454CA
TUNGETIFF: Final = 0x800454D2
TUNSETOFFLOAD: Final = 0x400454D0
SIOCGIFMTU: Final = 0x8921
SIOCSIFMTU: Final = 0x8922
SIOCSIFTXQLEN: Final = 0x8943

IFF_TUN: Final = 0x0001
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000

TUN_F_CSUM: Final = 0x01
TUN_F_TSO: Final = 0x02 | 0x04
TUN_F_TSO_ECN: Final = 0x08
TUN_F_USO: Final = 0x20 | 0x40

QUEUE_LENGTH: Final = 1000
"""Packets that wait in the kernel for us: at 500, the default, a pause of 15 ms loses some of 34,000/s."""
READ_PACKETS: Final = 128
"""One batch ends after this many packets, so that the other direction gets its turn."""
READ_BYTES: Final = 65536 + VNET_HEADER.size

_REQUEST = struct.Struct("=16sH22x")
_NUMBER_REQUEST = struct.Struct("=16si20x")
_NAME = re.compile(r"[^\s/:%]{1,15}")


class LinkDeletedError(HandfastError):
    """The interface is gone; its descriptor is of no use any more."""


class Tun:
    """One TUN device, non-blocking."""

    def __init__(self, fd: int, name: str, flags: int, disabled: Collection[str]) -> None:
        self._fd = fd
        self.name = name
        self.dropped_packets = 0
        """Packets that the kernel did not take: its queue was full, the link down, or they were malformed."""
        self._offloads = _set_offloads(fd, disabled) if flags & IFF_VNET_HDR else None
        self._coalesce_tcp = self._offloads is not None and "tso" not in disabled
        self._coalesce_udp = bool(self._offloads and self._offloads & TUN_F_USO)
        self._header = bytearray(VNET_HEADER.size)
        self._packet = bytearray(READ_BYTES)
        self._view = memoryview(self._packet)

    @classmethod
    def create(cls, name: str, mtu: int = DEFAULT_MTU, disabled: Collection[str] | None = None) -> Self:
        """Create the interface `name`, or attach to one that persists. Raises StartError."""
        if not _NAME.fullmatch(name) or name in {".", ".."}:
            raise StartError(
                f"{name!r} cannot name an interface: use 1 to 15 characters without blanks, '/', ':' or '%'"
            )
        disabled = disabled_features() if disabled is None else disabled
        fd = _open_clone_device()
        flags = IFF_TUN | IFF_NO_PI | (0 if "vnet_hdr" in disabled else IFF_VNET_HDR)
        try:
            granted = _attach(fd, name, flags)
            tun = cls(fd, granted, flags, disabled)
            with suppress(PermissionError):  # needs NET_ADMIN in the initial user namespace
                tun._configure(SIOCSIFTXQLEN, QUEUE_LENGTH)
            tun.mtu = mtu
        except OSError as error:
            os.close(fd)
            raise _refusal(name, mtu, error) from error
        return tun

    @classmethod
    def from_descriptor(cls, fd: int, disabled: Collection[str] | None = None) -> Self:
        """Take over a TUN descriptor that another process attached; the MTU stays as it is."""
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
        return cls(fd, _text(raw_name), flags, disabled_features() if disabled is None else disabled)

    @property
    def features(self) -> str:
        """What makes batches possible here, as a sentence for the log."""
        if self._offloads is None:
            return "TUN: one packet per system call (no virtio-net headers)"
        tcp = "yes" if self._offloads & TUN_F_TSO else "no"
        udp = "yes" if self._offloads & TUN_F_USO else "no"
        return f"TUN: virtio-net headers; segmentation offload for TCP: {tcp}, for UDP: {udp}"

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

    def read_batch(self) -> list[bytes]:
        """IP packets of wire size, at most a batch; none when nothing waits. Raises LinkDeletedError."""
        packets: list[bytes] = []
        read, fd, header, view = os.readv, self._fd, self._header, self._view
        buffers = [self._packet] if self._offloads is None else [header, self._packet]
        headroom = 0 if self._offloads is None else len(header)
        try:
            while len(packets) < READ_PACKETS:
                length = read(fd, buffers) - headroom
                if header == PLAIN_VNET_HEADER:
                    packets.append(bytes(view[:length]))
                else:
                    packets += self._split(view[:length])
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise self._deleted() from error
            raise
        return packets

    def _split(self, packet: memoryview) -> list[bytes]:
        try:
            return split(self._header, packet)
        except MalformedPacketError:
            self.dropped_packets += 1
            return []

    def write_batch(self, packets: Sequence[bytes]) -> None:
        """Give IP packets to the kernel; what it refuses is dropped and counted. Raises LinkDeletedError."""
        if self._offloads is None:
            for packet in packets:
                self.dropped_packets += not self._write((packet,))
            return
        for group in coalesce(packets, tcp=self._coalesce_tcp, udp=self._coalesce_udp):
            if len(group) == 1 or not self._write(joined(group)):
                for packet in group:
                    self.dropped_packets += not self._write((PLAIN_VNET_HEADER, packet))

    def _write(self, buffers: Sequence[Buffer]) -> bool:
        try:
            os.writev(self._fd, buffers)
        except OSError as error:
            if error.errno == errno.EBADFD:
                raise self._deleted() from error
            # EAGAIN, ENOBUFS: no room. EIO: the link is down. EINVAL: malformed, or an unknown offload.
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


def _attach(fd: int, name: str, flags: int) -> str:
    answer = ioctl(fd, TUNSETIFF, _REQUEST.pack(name.encode(), flags))
    return _text(_REQUEST.unpack(answer)[0])


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


def _set_offloads(fd: int, disabled: Collection[str]) -> int:
    """Ask for as much segmentation as the kernel has; a kernel refuses what it does not know as a whole."""
    tcp = 0 if "tso" in disabled else TUN_F_CSUM | TUN_F_TSO | TUN_F_TSO_ECN
    udp = 0 if "uso" in disabled else TUN_F_CSUM | TUN_F_USO
    for offloads in (tcp | udp, tcp, 0):
        try:
            ioctl(fd, TUNSETOFFLOAD, offloads)
        except OSError:
            continue
        return offloads
    return 0


def _text(raw_name: bytes) -> str:
    return raw_name.rstrip(b"\0").decode()
