"""Rows of the throughput benchmark: what failed says why, what is missing is an error; peers are checked."""

from __future__ import annotations

import json
import subprocess
from collections import deque
from pathlib import Path

import pytest
from bench import crowd, samples, throughput, throughput_picture
from bench.initiators import Session
from bench.results import TITLES
from bench.samples import Metric, Sample
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from tests.lab.namespaces import LabError
from tests.unit.packets import word_sum

RATE = Metric("TCP", "Mbit/s")
DELAY = Metric("ping", "ms", 2, higher_is_better=False)


def of_two_rounds(**subjects: tuple[float | None, float | None]) -> list[Sample]:
    return [
        Sample(number, subject, RATE.name, value, "" if value else "LabError: no iperf3")
        for subject, values in subjects.items()
        for number, value in enumerate(values)
    ]


def test_ratios_are_of_the_same_round() -> None:
    found = of_two_rounds(old=(100, 400), new=(200, 200))
    assert samples.ratios(found, "new", RATE, "old") == [2.0, 0.5]
    columns, lines = samples.table(found, "who", ["old", "new"], [RATE], "old")
    assert columns == ["who", "old", "new"]
    assert lines == [["TCP (Mbit/s)", "250 (1.00)", "200 (1.25)"]]


def test_what_failed_says_why() -> None:
    found = of_two_rounds(old=(100, None), new=(None, None))
    assert samples.cell(found, "new", RATE, "old") == "not measured: LabError: no iperf3"
    assert samples.cell(found, "old", RATE, None) == "100 (1 of 2 not measured: LabError: no iperf3)"


def test_without_the_reference_there_is_no_ratio() -> None:
    found = of_two_rounds(old=(None, None), new=(100, 200))
    assert samples.cell(found, "new", RATE, "old") == "150 (no ratio)"


def test_what_nobody_measured_fails() -> None:
    with pytest.raises(KeyError, match="no measurement of ping for old"):
        samples.table(of_two_rounds(old=(1, 2)), "who", ["old"], [RATE, DELAY], "old")


@pytest.mark.parametrize(
    "error",
    [
        LabError("waited 5 s for\n| a ping"),
        subprocess.TimeoutExpired("iperf3", 5),
        json.JSONDecodeError("no", "", 0),
    ],
)
def test_a_failure_in_the_lab_is_a_sample(error: Exception) -> None:
    def fail() -> list[float]:
        raise error

    found = samples.measured(3, "old", [RATE, DELAY], fail)
    assert [(each.round, each.metric, each.value) for each in found] == [(3, "TCP", None), (3, "ping", None)]
    assert all(each.why.startswith(type(error).__name__) and "\n" not in each.why for each in found)
    assert not any("|" in each.why for each in found)


def test_a_mistake_of_ours_is_none() -> None:
    with pytest.raises(TypeError):
        samples.measured(0, "old", [RATE], lambda: [len(3)])  # type: ignore[arg-type]


def all_samples() -> list[Sample]:
    return [
        Sample(number, subject, metric.name, 10.0 + number)
        for number in range(2)
        for rows in throughput.GROUPS
        for subject in rows.subjects
        for metric in rows.metrics
    ]


def test_json_and_back() -> None:
    found = [*all_samples(), Sample(2, "old", "ping", None, "LabError: none")]
    assert throughput.from_json(json.loads(json.dumps(throughput.to_json(found)))) == found


def test_every_group_has_a_table_and_panels(tmp_path: Path) -> None:
    found = all_samples()
    between, peers, deaths = throughput.tables(found)
    assert [len(lines) for _, lines in (between, peers, deaths)] == [
        len(rows.metrics) for rows in throughput.GROUPS
    ]
    assert between[0][1:] == [pair.title for pair in throughput.PAIRS]
    throughput_picture.draw(found, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_only_the_compiled_one_may_be_missing() -> None:
    native = TITLES[throughput.NATIVE]
    without = [each for each in all_samples() if each.subject != native]
    assert all(native not in columns for columns, _ in throughput.tables(without))
    old = TITLES["wireguard-go"]
    with pytest.raises(KeyError, match=r"wireguard-go \(Debian\)"):
        throughput.tables([each for each in without if each.subject != old])


# --- many peers -----------------------------------------------------------------------------------


class Server:
    """Answers peer 7 as the kernel behind a server would."""

    def __init__(self) -> None:
        self.peer = crowd.ActivePeer(7, Session(receiver=99, send=b"s" * 32, receive=b"r" * 32))
        self._sealer, self._opener = ChaCha20Poly1305(b"r" * 32), ChaCha20Poly1305(b"s" * 32)

    def opened(self, datagram: bytes) -> bytes:
        return self._opener.decrypt(bytes(4) + datagram[8:16], datagram[16:], None)

    def sealed(self, packet: bytes, counter: int) -> bytes:
        nonce = counter.to_bytes(8, "little")
        sealed = self._sealer.encrypt(bytes(4) + nonce, packet, None)
        return b"\4\0\0\0" + self.peer.index.to_bytes(4, "little") + nonce + sealed

    def echoed(self, datagram: bytes, counter: int) -> bytes:
        packet = self.opened(datagram)
        # The padding is the implementation's.
        return self.sealed(packet[:20] + b"\0" + packet[21:] + bytes(8), counter)


def test_a_ping_is_an_intact_packet() -> None:
    server = Server()
    first, second = server.peer.next(), server.peer.next()
    inner = server.opened(second)
    assert [int.from_bytes(each[8:16], "little") for each in (first, second)] == [1, 2]
    assert len(inner) == int.from_bytes(inner[2:4], "big") == crowd.SIZE
    assert (word_sum(inner[:20]), word_sum(inner[20:])) == (0xFFFF, 0xFFFF)


def test_answers_count_and_keepalives_do_not() -> None:
    server = Server()
    assert not server.peer.accept(server.sealed(b"", 0))
    assert server.peer.accept(server.echoed(server.peer.next(), 1))
    assert server.peer.answers == 1


def test_a_repeated_counter_is_found() -> None:
    server = Server()
    answer = server.echoed(server.peer.next(), 5)
    server.peer.accept(answer)
    with pytest.raises(LabError, match="counter 5 twice"):
        server.peer.accept(answer)


def test_what_is_altered_or_not_asked_for_is_found() -> None:
    server = Server()
    answer = bytearray(server.echoed(server.peer.next(), 1))
    answer[-1] ^= 1
    with pytest.raises(LabError, match="not sealed under its keys"):
        server.peer.accept(bytes(answer))
    other = crowd.ping("10.9.0.8", "10.8.0.1", 8)
    with pytest.raises(LabError, match="did not ask for"):
        server.peer.accept(server.sealed(other[:20] + b"\0" + other[21:], 2))


class Line:
    """A socket to a server that loses each `loses`th ping."""

    def __init__(self, server: Server, loses: int = 0) -> None:
        self._server, self._loses = server, loses
        self._answers: deque[bytes] = deque()
        self._sent = 0

    def settimeout(self, seconds: float) -> None:
        pass

    def send(self, datagram: bytes) -> None:
        self._sent += 1
        if not self._loses or self._sent % self._loses:
            self._answers.append(self._server.echoed(datagram, self._sent))

    def recv(self, size: int) -> bytes:
        if not self._answers:
            raise TimeoutError
        return self._answers.popleft()


def test_a_closed_loop_counts_round_trips() -> None:
    server = Server()
    answers = crowd.exchange(Line(server), [server.peer], 0.05)
    assert 0 < answers <= server.peer.answers


def test_a_server_that_loses_pings_is_found() -> None:
    server = Server()
    with pytest.raises(LabError, match="pings of 1 peers were answered"):
        crowd.exchange(Line(server, loses=3), [server.peer], 0.05)


def test_a_peer_that_is_left_out_is_found() -> None:
    server = Server()
    silent = crowd.ActivePeer(8, Session(receiver=98, send=b"t" * 32, receive=b"u" * 32))

    class Deaf(Line):
        def send(self, datagram: bytes) -> None:
            if datagram[4:8] == (99).to_bytes(4, "little"):
                super().send(datagram)

    with pytest.raises(LabError, match="0 of one peer's"):
        crowd.exchange(Deaf(server), [server.peer, silent], 0.05)
