"""Where the time of a packet goes: each step of the data path alone, in one process, without system calls.

Two devices with state memory are joined in memory. A step's figure is its fastest run of many, because
everything else on a machine only makes it slower. `nothing sealed` has a cipher that copies: what is left is
what the tunnel itself costs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType
from typing import Any, Final

from tests.unit.packets import tcp
from tests.unit.planes import NATIVE

from handfast_tunnel.adapters.data_plane import PURE, PacketPlane, Pure
from handfast_tunnel.adapters.offload import PLAIN_VNET_HEADER
from handfast_tunnel.continuity.layout import HEADER_WORDS, PEER_WORDS, WORD, Header
from handfast_tunnel.continuity.state_memory import StateMemory
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange, Prefix
from handfast_tunnel.core.data_plane import Batch
from handfast_tunnel.core.device import Device
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.noise import static_key

SIZES: Final = (100, 1420)
"""Bytes of an inner packet: between them lies what each byte costs."""
BATCH: Final = 45
"""What one read of a TUN device or a socket brings under load."""
KEY: Final = bytes(range(32))
ROUNDS: Final = 400
COLD_ROUNDS: Final = 50

CUT, SEND, GATHER, TAKE, RECEIVE, JOIN = STEPS = (
    "cut what the TUN device gave",
    "route, count and seal",
    "gather for the socket",
    "take apart what the socket gave",
    "open, check and sort",
    "join for the TUN device",
)
CIPHER: Final = "the cipher alone, both ways"
ALONE: Final = "a packet on its own, the long way"
EXPECTED: Final = "the same, where it is expected, until it is passed on"
COLD: Final = "the same after a pause"
CALLS: Final = "calls of Python functions until then"
CACHES: Final = 24 << 20
"""Bytes that are copied to drive all else out of a core's own caches."""


@dataclass(frozen=True, slots=True)
class Cost:
    plane: str
    size: int
    step: str
    value: float
    """Microseconds a packet, or a number of calls."""


class _Copying:
    """A cipher that is none."""

    def __init__(self, key: bytes) -> None:
        self._tag = bytes(16)

    def seal_batch(self, receiver: int, base: int, packets: Batch, mtu: int, /) -> list[bytes]:
        prefix = b"\4\0\0\0" + receiver.to_bytes(4, "little")
        numbers = range(base, base + len(packets))
        return [
            b"".join((prefix, number.to_bytes(8, "little"), packet, self._tag))
            for packet, number in zip(packets, numbers, strict=True)
        ]

    def seal(self, receiver: int, counter: int, packet: bytes, mtu: int, /) -> bytes:
        return self.seal_batch(receiver, counter, [packet], mtu)[0]

    def open(self, datagram: bytes, /) -> tuple[int, bytes] | None:
        counters, plaintexts = self.open_batch([datagram])
        return counters[0], plaintexts[0]

    def open_batch(self, datagrams: Batch, /) -> tuple[list[int], list[bytes]]:
        counters = [int.from_bytes(datagram[8:16], "little") for datagram in datagrams]
        return counters, [datagram[16:-16] for datagram in datagrams]


class _NothingSealed(Pure):
    name = "pure, nothing sealed"
    sealer = opener = _Copying  # type: ignore[assignment]


def planes() -> list[PacketPlane]:
    return [PURE, _NothingSealed(), *([NATIVE] if NATIVE else [])]


def run(say: Callable[[str], None]) -> list[Cost]:
    costs = []
    for plane in planes():
        for size in SIZES:
            found = _measure(plane, size)
            costs += [Cost(plane.name, size, step, value) for step, value in found.items()]
            total = sum(found[step] for step in STEPS)
            say(f"  {plane.name}, {size} B: {total:.2f} us a packet, of it {found[CIPHER]:.2f} the cipher's")
    return costs


# --- two devices ----------------------------------------------------------------------------------


class _Ends:
    """A session between two devices; packets go from `near` to `far`."""

    def __init__(self, plane: PacketPlane) -> None:
        self.plane = plane
        self.now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.near, self.far = (Device(memory=_state_memory(), plane=plane) for _ in range(2))
        self.places = {self.near: Endpoint("192.0.2.1", 1), self.far: Endpoint("192.0.2.2", 2)}
        keys = {device: static_key(os.urandom(32)) for device in self.places}
        for device, other in ((self.near, self.far), (self.far, self.near)):
            everything = (Prefix(bytes(4), 0),)
            peer = PeerChange(keys[other].public, endpoint=self.places[other], allowed_ips=everything)
            device.configure(InterfaceChange(keys[device].secret, peers=(peer,)), self.now)
            device.up(self.now)
        for _ in range(4):
            self._exchange()

    def _exchange(self) -> None:
        for source, target in ((self.near, self.far), (self.far, self.near)):
            source.handle_timers(self.now)
            source.send([_packets(100)[0]], self.now)
            for transmission in source.take_transmissions():
                target.receive(transmission.datagrams, self.places[source], self.now)
                while target.handshake_backlog:
                    target.process_handshake(self.now)

    def send(self, packets: Batch) -> Batch:
        self.near.send(packets, self.now)
        (transmission,) = self.near.take_transmissions()
        return transmission.datagrams

    def receive(self, datagrams: Batch) -> Batch:
        packets = self.far.receive(datagrams, self.places[self.near], self.now)
        self.far.take_transmissions()
        return packets

    def expect(self) -> None:
        """Ends the turn of both."""
        for device in (self.near, self.far):
            device.settle()
            device.take_transmissions()
            device.expect(self.now)

    def pass_on(self, packet: bytes) -> None:
        packets, datagrams = self.near.expected_packets, self.far.expected_datagrams
        assert packets is not None
        assert datagrams is not None
        datagram = packets.seal(packet, self.now)
        assert datagram is not None
        assert datagrams.open(datagram, self.now) == packet


def _state_memory() -> StateMemory:
    def no_room() -> memoryview:
        raise OSError

    header, extent = (memoryview(bytearray(count * WORD)).cast("Q") for count in (HEADER_WORDS, PEER_WORDS))
    header[Header.PEERS] = 1
    return StateMemory(header, [extent], no_room)


def _packets(size: int) -> list[bytes]:
    """Segments of one TCP stream."""
    options = b"\1\1\x08\x0a" + bytes(8)
    payload = os.urandom(size - 20 - 20 - len(options))
    return [tcp(payload, sequence=number * len(payload), options=options) for number in range(BATCH)]


# --- what they take -------------------------------------------------------------------------------


class _Clock:
    """The fastest run of each step."""

    def __init__(self) -> None:
        self.fastest: dict[str, float] = {}

    def run(self, step: str, count: int, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter_ns()
        result = work(*arguments)
        each = (time.perf_counter_ns() - began) / 1000 / count
        self.fastest[step] = min(each, self.fastest.get(step, each))
        return result


def _measure(plane: PacketPlane, size: int) -> dict[str, float]:
    ends, clock = _Ends(plane), _Clock()
    packets = _packets(size)
    frames = [PLAIN_VNET_HEADER + packet for packet in packets]
    sealer, opener = plane.sealer(KEY), plane.opener(KEY)
    for number in range(ROUNDS):
        cut, _ = clock.run(CUT, BATCH, plane.split, frames)
        sealed = clock.run(SEND, BATCH, ends.send, cut)
        sends = clock.run(GATHER, BATCH, lambda batch: list(plane.runs(batch)), sealed)
        reads = [(b"".join(send.buffers), send.size) for send in sends]
        taken = clock.run(TAKE, BATCH, _taken_apart, plane, reads)
        opened = clock.run(RECEIVE, BATCH, ends.receive, taken)
        clock.run(JOIN, BATCH, lambda batch: list(plane.frames(batch, tcp=True, udp=True)), opened)
        alone = clock.run("seal", BATCH, sealer.seal_batch, 1, number, cut, 1420)
        clock.run("open", BATCH, opener.open_batch, alone)
        clock.run(ALONE, 1, _there_and_out, ends, frames[0])
        ends.expect()
        clock.run(EXPECTED, 1, ends.pass_on, cut[0])
    others = bytes(CACHES), bytearray(CACHES)
    for _ in range(COLD_ROUNDS):
        ends.expect()
        others[1][:] = others[0]
        clock.run(COLD, 1, ends.pass_on, cut[0])
    ends.expect()
    seal, unseal = clock.fastest.pop("seal"), clock.fastest.pop("open")
    with _counted() as calls:
        ends.pass_on(cut[0])
    return {**clock.fastest, CIPHER: seal + unseal, CALLS: calls()}


def _taken_apart(plane: PacketPlane, reads: list[tuple[bytes, int]]) -> Batch:
    return plane.join([plane.datagrams(*read) for read in reads])


def _there_and_out(ends: _Ends, frame: bytes) -> None:
    """A packet on its own, as the adapters hand it on."""
    (datagram,) = ends.send([frame[len(PLAIN_VNET_HEADER) :]])
    list(ends.receive(ends.plane.datagrams(datagram, 0)))


@contextmanager
def _counted() -> Iterator[Callable[[], float]]:
    """How many Python functions are called meanwhile."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        yield lambda: count
    finally:
        sys.setprofile(None)


# --- results --------------------------------------------------------------------------------------


def to_json(costs: list[Cost]) -> dict[str, Any]:
    return {"costs": [asdict(cost) | {"value": round(cost.value, 3)} for cost in costs]}


def from_json(data: dict[str, Any]) -> list[Cost]:
    return [Cost(**cost) for cost in data["costs"]]


def table(costs: list[Cost]) -> tuple[list[str], list[list[str]]]:
    """Microseconds a packet of each size, and nanoseconds for each byte between them."""
    values = {(cost.plane, cost.size, cost.step): cost.value for cost in costs}
    names = list(dict.fromkeys(cost.plane for cost in costs))
    small, large = SIZES
    columns = ["microseconds a packet"]
    for name in names:
        columns += [f"{name}: {small} B", f"{large} B", "a byte (ns)"]
    lines = []
    for step in (*STEPS, "all steps", CIPHER, ALONE, EXPECTED, COLD, CALLS):
        line = [step]
        for name in names:
            near, far = (_value(values, name, size, step) for size in SIZES)
            digits = 0 if step == CALLS else 2
            a_byte = "" if step == CALLS else f"{(far - near) / (large - small) * 1000:.2f}"
            line += [f"{near:.{digits}f}", f"{far:.{digits}f}", a_byte]
        lines.append(line)
    return columns, lines


def _value(values: dict[tuple[str, int, str], float], name: str, size: int, step: str) -> float:
    if step == "all steps":
        return sum(values[name, size, each] for each in STEPS)
    return values[name, size, step]
