"""What both data planes must do alike, whatever the bytes are.

The fuzzer is guided by what the bytes make the one in Python run; the compiled one takes the same decisions
in the same order, so what reaches a place there reaches it here. `tunnel/native/fuzz` is guided by its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from handfast_tunnel.adapters.data_plane import Run
from handfast_tunnel.adapters.offload import PLAIN_VNET_HEADER, VNET_HEADER
from handfast_tunnel.core.messages import TRANSPORT_HEADER_LENGTH, TRANSPORT_MIN_LENGTH
from tests.unit.packets import is_valid, tcp, udp
from tests.unit.planes import PLANES, same, sorted_by_receiver, written
from tests.unit.test_offload import tcp_stream, udp_stream, unsegmented

KEY: Final = bytes(range(32))
SMALLEST_HEADER: Final = 20


def pieces(data: bytes) -> Iterator[bytes]:
    """`data` as a list of byte strings: each is a length of two bytes, and so many bytes."""
    while len(data) >= 2:
        length = int.from_bytes(data[:2], "big")
        yield data[2 : 2 + length]
        data = data[2 + length :]


def together(*items: bytes) -> bytes:
    """The reverse of `pieces`."""
    return b"".join(len(item).to_bytes(2, "big") + item for item in items)


def is_whole(packet: bytes) -> bool:
    """Whether it is as long as its header says: only such packets are joined."""
    if len(packet) < SMALLEST_HEADER:
        return False
    if packet[0] >> 4 == 4:
        return int.from_bytes(packet[2:4], "big") == len(packet)
    return packet[0] >> 4 == 6 and 40 + int.from_bytes(packet[4:6], "big") == len(packet)


def reads(data: bytes) -> None:
    """Reads of the TUN are cut or refused alike."""
    frames = [each for each in pieces(data) if len(each) > VNET_HEADER.size]
    cut, malformed = same(plane.split(frames) for plane in PLANES)
    assert len(cut) + malformed >= len(frames)


def writes(data: bytes) -> None:
    """What is joined for the TUN is the same bytes, and the same packets when it is cut again."""
    packets = [each for each in pieces(data) if is_whole(each)]
    frames, *others = (written(plane, packets, tcp=True, udp=True) for plane in PLANES)
    for other in others:
        # Python sums up all segments at once, and overlooks every 65,535th pair of wrong checksums.
        overlooked = len(frames) < len(other) and sum(not is_valid(packet) for packet in packets) > 1
        assert frames == other or overlooked
    assert sorted(packet for _, group in frames for packet in group) == sorted(packets)
    _, malformed = same(plane.split([frame for frame, _ in frames]) for plane in PLANES)
    assert not malformed


def sorting(data: bytes) -> None:
    """Batches fall into the same runs: by receiver, by destination, by source."""
    batch = list(pieces(data))
    same(sorted_by_receiver(plane, batch) for plane in PLANES)
    same(plane.by_destination(batch) for plane in PLANES)
    same(plane.by_source(batch) for plane in PLANES)


def opening(data: bytes) -> None:
    """Garbage is refused, and what was sealed beside it opens, cut as one read of the socket would be."""
    batch = list(pieces(data))
    for plane in PLANES:
        sealed = list(plane.sealer(KEY).seal_batch(1, 5, batch, 1420))
        mixed = [datagram for pair in zip(sealed, batch, strict=True) for datagram in pair]
        mixed = [datagram for datagram in mixed if len(datagram) >= TRANSPORT_MIN_LENGTH]
        counters, plaintexts = same(each.opener(KEY).open_batch(mixed) for each in PLANES)
        assert counters == list(range(5, 5 + len(batch)))
        assert all(map(bytes.startswith, plaintexts, batch))
        size = len(sealed[0]) if sealed else 0
        same(each.datagrams(b"".join(sealed), size) for each in PLANES)
        same(_sends(sealed, each.runs(sealed)) for each in PLANES)


def _sends(datagrams: list[bytes], runs: Iterable[Run]) -> list[bytes]:
    sent = [b"".join(part.buffers) for run in runs for part in run.single()]
    assert sent == datagrams
    return sent


_UNSEGMENTED: Final = [b"".join(unsegmented(tcp(b"x" * 300), 1, 100)), PLAIN_VNET_HEADER + udp(b"ping")]
_STREAMS: Final = [*tcp_stream(b"abcdef" * 50, 100), *udp_stream(b"abcdef" * 50, 100)]
_MESSAGE: Final = b"\4\0\0\0\1\0\0\0" + bytes(TRANSPORT_HEADER_LENGTH + 16)

PLANE_TARGETS: Final[dict[str, tuple[Callable[[bytes], None], tuple[bytes, ...]]]] = {
    "reads": (reads, (together(*_UNSEGMENTED), together(*_UNSEGMENTED[::-1], bytes(40)))),
    "writes": (writes, (together(*_STREAMS), together(udp(b"a", ipv6=True), udp(b"a", ipv6=True)))),
    "sorting": (sorting, (together(_MESSAGE, _MESSAGE, *_STREAMS[:3]), together(b"", b"\x45", b"\x60" * 40))),
    "opening": (opening, (together(_MESSAGE, b"", b"ping", b"x" * 99), together(*_STREAMS))),
}
"""Each with seeds."""
