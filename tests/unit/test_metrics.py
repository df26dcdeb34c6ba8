from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from handfast_tunnel.adapters import metrics, metrics_server
from handfast_tunnel.adapters.metrics_server import MetricsServer, open_listener
from handfast_tunnel.adapters.text import format_key, parse_endpoint, parse_prefix
from handfast_tunnel.core.configuration import InterfaceChange, PeerChange
from handfast_tunnel.core.peer import Recovery
from handfast_tunnel.errors import StartError

from .fake_tunnel import FakeTunnel

KEYS = [bytes([number]) * 32 for number in (1, 2, 3, 4)]


@pytest.fixture
def tunnel(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTunnel]:
    monkeypatch.setattr(metrics_server, "START_DELAY", 0.0)
    with closing(FakeTunnel()) as tunnel:
        allowed_ips = (parse_prefix("10.0.0.1/32"), parse_prefix("fd00::1/128"))
        changes = [PeerChange(key, allowed_ips=allowed_ips if key == KEYS[0] else ()) for key in KEYS]
        tunnel.device.configure(InterfaceChange(peers=tuple(changes)), tunnel.loop.now)
        tunnel.start()
        yield tunnel
        tunnel.stop()


@pytest.fixture
def port(tunnel: FakeTunnel) -> Iterator[int]:
    yield from serve(tunnel, per_peer=False)


def serve(tunnel: FakeTunnel, *, per_peer: bool) -> Generator[int, None, None]:
    listener = open_listener(parse_endpoint("127.0.0.1:0"))
    number = listener.getsockname()[1]
    with closing(MetricsServer(tunnel.as_tunnel, listener, per_peer=per_peer)):
        yield number


def get(port: int, path: str) -> tuple[int, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(port: int) -> Samples:
    status, text = get(port, "/metrics")
    assert status == 200
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def test_counters(tunnel: FakeTunnel, port: int) -> None:
    statistics = tunnel.device.statistics
    statistics.handshakes["initiator", "completed"] = 3
    statistics.dropped["no route"] = 4
    statistics.strays["answered"] = 5
    statistics.received_bytes, statistics.sent_bytes = 6, 7
    samples = scrape(port)
    assert value(samples, "handfast_handshakes_total", role="initiator", result="completed") == 3
    assert value(samples, "handfast_dropped_packets_total", reason="no route") == 4
    assert value(samples, "handfast_stray_packets_total", action="answered") == 5
    assert value(samples, "handfast_bytes_total", direction="received") == 6
    assert value(samples, "handfast_bytes_total", direction="sent") == 7


def test_incarnation_data_plane_and_what_a_takeover_lost(tunnel: FakeTunnel, port: int) -> None:
    samples = scrape(port)
    assert value(samples, "handfast_incarnation") == 3
    assert value(samples, "handfast_data_plane_info", kind="pure") == 1
    assert value(samples, "handfast_takeover_dropped_packets", reason="udp_queue") == 2
    tunnel.incarnation = None
    assert "handfast_incarnation" not in {name for name, _ in scrape(port)}


def test_what_the_process_costs(port: int) -> None:
    samples = scrape(port)
    assert value(samples, "process_resident_memory_bytes") > 1 << 20
    assert value(samples, "process_cpu_seconds_total") > 0


def test_histograms_are_cumulative(tunnel: FakeTunnel, port: int) -> None:
    for seconds in (0.004, 0.06, 0.07, 1000.0):
        tunnel.device.statistics.observe_reconnect("announced", seconds)
    tunnel.device.statistics.observe_outage("answered", 0.2)
    tunnel.device.statistics.observe_outage("answered", 0.3, across=True)
    samples = scrape(port)
    latency = "handfast_reconnect_latency_seconds"
    labels = {"tunnel": "wg0", "method": "announced"}
    counts = [
        value(samples, f"{latency}_bucket", le=le, **labels)
        for le in ("0.005", "0.05", "0.1", "300.0", "+Inf")
    ]
    assert counts == [1, 1, 3, 3, 4]
    assert value(samples, f"{latency}_count", **labels) == 4
    assert value(samples, f"{latency}_sum", **labels) == pytest.approx(1000.134)
    outage = {"tunnel": "wg0", "method": "answered", "clock": "same_node"}
    assert value(samples, "handfast_outage_seconds_bucket", le="0.2", **outage) == 1
    across = outage | {"clock": "cross_node"}
    assert value(samples, "handfast_outage_seconds_sum", **across) == 0.3


def test_peers_by_state(tunnel: FakeTunnel, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000)
    connected, old, recovering, _ = tunnel.device.peers.values()
    connected.last_handshake_wall = 821_000_000_000
    old.last_handshake_wall = 819_000_000_000
    recovering.recovery = Recovery("announced", "pending")
    samples = scrape(port)
    assert value(samples, "handfast_peers", state="connected") == 1
    assert value(samples, "handfast_peers", state="silent") == 2
    assert value(samples, "handfast_peers", state="recovering") == 1
    assert value(samples, "handfast_recovery_pending") == 1


def test_peers_that_are_not_heard_since_an_interruption(tunnel: FakeTunnel, port: int) -> None:
    assert value(scrape(port), "handfast_interrupted_peers") == 0
    gone, *_ = tunnel.device.peers.values()
    gone.interrupted_at = 0.0
    assert value(scrape(port), "handfast_interrupted_peers") == 1


def test_peer_series_are_off_by_default(port: int) -> None:
    assert not any(name.startswith("wireguard_") for name, _ in scrape(port))


def test_peer_series_have_the_names_of_known_dashboards(tunnel: FakeTunnel) -> None:
    peer = tunnel.device.peers[KEYS[0]]
    peer.sent_bytes, peer.received_bytes, peer.last_handshake_wall = 8, 9, 10_999_999_999
    labels = {
        "interface": "wg0",
        "public_key": format_key(KEYS[0]),
        "allowed_ips": "10.0.0.1/32,fd00::1/128",
        "friendly_name": "",
    }
    for port in serve(tunnel, per_peer=True):
        samples = scrape(port)
    assert value(samples, "wireguard_sent_bytes_total", **labels) == 8
    assert value(samples, "wireguard_received_bytes_total", **labels) == 9
    assert value(samples, "wireguard_latest_handshake_seconds", **labels) == 10


def test_peer_series_are_capped(tunnel: FakeTunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PEER_SERIES_LIMIT", 3)
    monkeypatch.setattr(metrics, "PEERS_A_STEP", 2)
    for port in serve(tunnel, per_peer=True):
        names = [name for name, _ in scrape(port)]
    assert names.count("wireguard_sent_bytes_total") == 3


def test_health(port: int) -> None:
    assert get(port, "/healthz") == (200, "ok\n")


def test_health_is_the_event_loops(tunnel: FakeTunnel, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert get(port, "/healthz")[0] == 200
    monkeypatch.setattr(metrics, "ANSWER_TIME", 0.05)
    tunnel.stop()
    for path in ("/healthz", "/metrics"):
        assert get(port, path) == (503, "the event loop does not answer\n")


def test_slow_clients_keep_no_scrape_out(port: int, capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        slow = []
        for _ in range(3 * metrics_server.REQUESTS):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            connection.sendall(b"GET /metrics HTTP/1.1\r\nX-Slow: ")
            slow.append(connection)
        for _ in range(2 * metrics_server.REQUESTS):
            assert get(port, "/healthz") == (200, "ok\n")
        with suppress(ConnectionError):
            assert slow[0].recv(1) == b""
        threads = [thread for thread in threading.enumerate() if "process_request" in thread.name]
        assert len(threads) <= metrics_server.REQUESTS
    assert "Traceback" not in capsys.readouterr().err


def test_nothing_else_is_served(port: int) -> None:
    assert get(port, "/")[0] == 404


def test_a_taken_port_is_refused() -> None:
    with closing(open_listener(parse_endpoint("127.0.0.1:0"))) as listener:
        address = parse_endpoint(f"127.0.0.1:{listener.getsockname()[1]}")
        with pytest.raises(StartError, match=rf"--metrics {address}: Address already in use: choose"):
            open_listener(address)


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(StartError, match="Cannot assign requested address"):
        open_listener(parse_endpoint("192.0.2.1:9586"))


def test_ipv6(tunnel: FakeTunnel) -> None:
    listener = open_listener(parse_endpoint("[::1]:0"))
    port = listener.getsockname()[1]
    with (
        closing(MetricsServer(tunnel.as_tunnel, listener, per_peer=False)),
        closing(http.client.HTTPConnection("::1", port, timeout=10)) as connection,
    ):
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200


def test_closing_early_does_not_wait(tunnel: FakeTunnel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_server, "START_DELAY", 1000.0)
    MetricsServer(tunnel.as_tunnel, open_listener(parse_endpoint("127.0.0.1:0")), per_peer=False).close()
