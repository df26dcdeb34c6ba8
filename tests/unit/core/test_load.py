"""Cookies on the wire, and what a device does under a flood of handshakes: RECOVERY, section 4."""

from __future__ import annotations

import os

import pytest

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.constants import (
    HANDSHAKE_BACKLOG_LIMIT,
    HANDSHAKE_DSCP,
    HANDSHAKE_QUEUE,
    RESPONSES_PER_SLOT,
)
from handfast_tunnel.core.cookies import add_macs, mac1_of, open_cookie
from handfast_tunnel.core.device import Transmission
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import (
    TYPE_COOKIE_REPLY,
    TYPE_INITIATION,
    TYPE_RESPONSE,
    unpack_cookie_reply,
)
from handfast_tunnel.core.noise import cookie_key, mac1_key

from .network import Datagram, Host, Network

QUIET = Settings(announce=False)
STRICT = Settings(timers="strict", announce=False)


@pytest.fixture
def network() -> Network:
    return Network(seed=5)


@pytest.fixture
def loaded(network: Network, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = network.host(QUIET)
    monkeypatch.setattr(host.device._handshakes, "under_load", lambda _now: True)
    return host


@pytest.fixture(params=["recovery", "strict"])
def client(request: pytest.FixtureRequest, network: Network, loaded: Host) -> Host:
    host = network.host(Settings(timers=request.param, announce=False))
    host.meet(loaded)
    loaded.meet(host)
    return host


@pytest.fixture
def prompt_client(network: Network, loaded: Host) -> Host:
    """One that uses the recovery's rules."""
    host = network.host(QUIET)
    host.meet(loaded)
    loaded.meet(host)
    return host


def has_mac2(datagram: Datagram) -> bool:
    return any(datagram.payload[-16:])


def initiation_of_a_stranger(host: Host) -> bytes:
    """With a valid mac1, which needs only the public key; the rest is noise."""
    return add_macs(bytes([TYPE_INITIATION, 0, 0, 0]) + os.urandom(112), mac1_key(host.key.public), None)


# --- as the one that is told to come back with a cookie ------------------------------------------


def test_one_immediate_retry_as_a_new_initiation_with_mac2(
    network: Network, loaded: Host, prompt_client: Host
) -> None:
    prompt_client.send(loaded, b"x")
    network.run(0.1)
    first, second = network.sent(prompt_client, TYPE_INITIATION)
    assert second.sent_at - first.sent_at == pytest.approx(0.02)
    assert (has_mac2(first), has_mac2(second)) == (False, True)
    assert first.payload[4:40] != second.payload[4:40]
    assert loaded.stamp_of(first) < loaded.stamp_of(second)
    assert loaded.inbox == [b"x"]


def test_cookie_reply_leaves_with_dscp_af41_for_the_source_of_the_message(
    network: Network, loaded: Host, prompt_client: Host
) -> None:
    prompt_client.send(loaded, b"x")
    network.run(0.1)
    (reply,) = network.sent(loaded, TYPE_COOKIE_REPLY)
    assert reply.traffic_class == HANDSHAKE_DSCP
    assert reply.destination.address == prompt_client.endpoint.address


def test_every_client_gets_through_with_its_cookie(network: Network, loaded: Host, client: Host) -> None:
    client.send(loaded, b"x")
    network.run(6)
    assert loaded.inbox == [b"x"]


def test_strict_keeps_the_cookie_for_the_papers_own_retry(network: Network, loaded: Host) -> None:
    client = network.host(STRICT)
    client.meet(loaded)
    loaded.meet(client)
    client.send(loaded, b"x")
    network.run(6)
    first, second = network.sent(client, TYPE_INITIATION)
    assert second.sent_at - first.sent_at >= 5
    assert has_mac2(second)


def test_a_retry_is_not_retried(network: Network, loaded: Host, prompt_client: Host) -> None:
    """Somebody on the path can answer every initiation with a cookie reply that opens."""
    checker = loaded.device._interface.checker
    assert checker is not None

    def intercept(datagram: Datagram) -> bool:
        if datagram.type == TYPE_INITIATION:
            reply = checker.reply(datagram.payload, datagram.source, network.now)
            answer = Datagram(
                network.now, loaded, 0, loaded.endpoint, prompt_client.endpoint, reply, HANDSHAKE_DSCP
            )
            network.inject(answer, delay=0.001)
            network.inject(answer, delay=0.002)
            return True
        return False

    network.lose = intercept
    prompt_client.send(loaded, b"x")
    network.run(4)
    assert len(network.sent(prompt_client, TYPE_INITIATION)) == 2


def test_forged_cookie_reply_changes_nothing(network: Network, loaded: Host, prompt_client: Host) -> None:
    """Its key is public, but only who saw the initiation knows the mac1 it must open with."""
    network.lose = lambda d: d.type != TYPE_COOKIE_REPLY
    prompt_client.send(loaded, b"x")
    index = network.wire[0].payload[4:8]
    stranger = bytes([TYPE_INITIATION, 0, 0, 0]) + index + initiation_of_a_stranger(loaded)[8:-32]
    loaded.deliver([add_macs(stranger, mac1_key(loaded.key.public), None)], prompt_client.endpoint)
    network.run(1)
    assert network.sent(loaded, TYPE_COOKIE_REPLY)
    assert prompt_client.peer(loaded).cookie is None
    assert prompt_client.device.statistics.dropped["cookie_reply"] == 1
    assert len(network.sent(prompt_client, TYPE_INITIATION)) == 1


def test_late_cookie_opens_with_the_mac1_of_its_own_initiation(
    network: Network, loaded: Host, prompt_client: Host
) -> None:
    """A newer initiation in flight does not spoil it: each slot keeps its mac1."""
    network.paths[loaded] = network.paths[prompt_client] = type(network.path)(delay=0.3)
    prompt_client.initiate(loaded)
    network.run(0.61)
    assert prompt_client.peer(loaded).cookie is not None


def test_cookie_is_dropped_when_the_path_changes(network: Network, loaded: Host, prompt_client: Host) -> None:
    prompt_client.send(loaded, b"x")
    network.run(0.1)
    assert prompt_client.peer(loaded).cookie is not None
    loaded.roam("10.8.8.8")
    loaded.send(prompt_client, b"from elsewhere")
    network.run(0.1)
    assert prompt_client.inbox == [b"from elsewhere"]
    assert prompt_client.peer(loaded).cookie is None


def test_cookie_is_dropped_when_our_own_address_changes(
    network: Network, loaded: Host, prompt_client: Host
) -> None:
    """It is for one address of ours, and the kernel may choose another now."""
    peer = prompt_client.peer(loaded)
    loaded.meet(prompt_client)
    for change in ("refused", "silence"):
        network.lose = lambda _: False
        network.run(130)
        prompt_client.send(loaded, b"x")
        network.run(0.1)
        loaded.send(prompt_client, b"x")
        network.run(0.1)
        assert peer.cookie is not None
        assert peer.endpoint is not None
        assert peer.endpoint.local
        if change == "refused":
            refused = Transmission(peer.endpoint, [b""], 0, peer)
            prompt_client.device.local_address_refused(refused)
        else:
            network.lose = lambda _: True
            prompt_client.send(loaded, b"x")
            network.run(16)
        assert not peer.endpoint.local
        assert peer.cookie is None


def test_cookie_is_not_used_longer_than_it_is_honoured(
    network: Network, loaded: Host, prompt_client: Host
) -> None:
    prompt_client.send(loaded, b"x")
    network.run(114)
    network.wire.clear()
    prompt_client.initiate(loaded)
    assert has_mac2(network.wire[0])
    network.run(121)
    network.wire.clear()
    prompt_client.initiate(loaded)
    assert not has_mac2(network.wire[0])


def test_cookie_reply_to_a_response_serves_the_next_response(
    network: Network, loaded: Host, client: Host
) -> None:
    """Other initiators under load answer our response with a cookie: the next one carries mac2."""
    checker = loaded.device._interface.checker
    assert checker is not None
    network.lose = lambda datagram: datagram.payload[0] == TYPE_RESPONSE
    loaded.send(client, b"x")
    network.run(0.1)
    (response,) = network.sent(client, TYPE_RESPONSE)
    client.deliver([checker.reply(response.payload, client.endpoint, network.now)], loaded.endpoint)
    network.lose = lambda _: False
    network.run(6)
    responses = network.sent(client, TYPE_RESPONSE)
    assert [has_mac2(d) for d in responses] == [False, True]
    assert client.inbox == [b"x"]


# --- as the one under load -----------------------------------------------------------------------


STRANGER = Endpoint("203.0.113.1", 1)


def flood(host: Host, count: int) -> list[bytes]:
    return [initiation_of_a_stranger(host) for _ in range(count)]


def cookies_to_strangers(network: Network, host: Host, count: int) -> int:
    network.wire.clear()
    host.deliver(flood(host, count), STRANGER)
    return len(network.sent(host, TYPE_COOKIE_REPLY))


def test_load_is_a_backlog_that_takes_longer_than_20_ms(network: Network) -> None:
    host = network.host(QUIET)
    for cost in (0.0004, 0.0001, 0.005):
        network.run(2)
        host.device.set_handshake_cost(cost)
        bearable = round(HANDSHAKE_BACKLOG_LIMIT / cost)
        assert cookies_to_strangers(network, host, bearable) == 0
        network.run(2)
        assert cookies_to_strangers(network, host, bearable + 11) == 10


def test_load_lasts_for_a_second(network: Network) -> None:
    host = network.host(QUIET)
    cookies_to_strangers(network, host, 60)
    network.run(0.9)
    assert cookies_to_strangers(network, host, 1) == 1
    network.run(1.1)
    assert cookies_to_strangers(network, host, 1) == 0


def test_no_cookie_before_mac1_verifies(network: Network, loaded: Host) -> None:
    message = bytearray(initiation_of_a_stranger(loaded))
    message[-20] ^= 1
    loaded.deliver([bytes(message)], STRANGER)
    assert not network.wire


def test_response_that_we_asked_for_needs_no_cookie(network: Network, loaded: Host, client: Host) -> None:
    """After a restart hundreds of them come at once; they are no load that others put on us."""
    loaded.send(client, b"x")
    network.run(0.1)
    assert not network.sent(loaded, TYPE_COOKIE_REPLY)
    assert client.inbox == [b"x"]


def test_responses_are_worked_off_first(network: Network, client: Host) -> None:
    server = network.host(QUIET)
    server.meet(client)
    client.meet(server)
    network.lose = lambda datagram: datagram.payload[0] == TYPE_RESPONSE
    server.send(client, b"x")
    network.run(0.1)
    (response,) = network.sent(client, TYPE_RESPONSE)
    for message in (initiation_of_a_stranger(server), response.payload):
        server.device.receive([message], client.endpoint, network.now)
    server.device.process_handshake(network.now)
    assert server.peer(client).current is not None


def with_cookie(host: Host, source: Endpoint, now: float) -> bytes:
    """A stranger's initiation whose mac2 is right for its source."""
    checker = host.device._interface.checker
    assert checker is not None
    plain = initiation_of_a_stranger(host)
    reply = unpack_cookie_reply(checker.reply(plain, source, now))
    cookie = open_cookie(reply, cookie_key(host.key.public), mac1_of(plain))
    return add_macs(plain[:-32], mac1_key(host.key.public), cookie)


def accepted(network: Network, host: Host, sources: list[Endpoint]) -> int:
    before = host.device.statistics.handshakes["responder", "invalid"]
    for source in sources:
        host.deliver([with_cookie(host, source, network.now)], source)
    return host.device.statistics.handshakes["responder", "invalid"] - before


def test_with_valid_mac2_the_limit_is_per_ip_and_port(network: Network, loaded: Host) -> None:
    """Behind a Service all clients share one address."""
    greedy, modest = Endpoint("203.0.113.1", 1000), Endpoint("203.0.113.1", 1001)
    assert accepted(network, loaded, [greedy] * 20) == 5
    assert accepted(network, loaded, [modest]) == 1
    network.run(1)
    assert accepted(network, loaded, [greedy] * 20) == 5


def test_with_valid_mac2_there_is_a_global_budget(network: Network, loaded: Host) -> None:
    sources = [Endpoint(f"203.0.113.{n % 250}", 1000 + n) for n in range(300)]
    assert accepted(network, loaded, sources) == 200
    assert loaded.device.statistics.dropped["handshake_rate"] == 100


def garbage_response(network: Network, host: Host, other: Host) -> bytes:
    """What anyone can answer who saw our initiation, which leaves here, and that is worth a look."""
    host.meet(other)
    host.initiate(other)
    index = network.sent(host, TYPE_INITIATION)[-1].payload[4:8]
    noise = bytes([TYPE_RESPONSE, 0, 0, 0]) + b"them" + index + bytes(48)
    return add_macs(noise, mac1_key(host.key.public), None)


def test_garbage_for_one_initiation_leaves_the_queue_to_others(network: Network) -> None:
    host = network.host(QUIET)
    garbage = garbage_response(network, host, network.host(QUIET))
    host.device.receive([garbage] * 5000, STRANGER, network.now)
    assert host.device.statistics.dropped["handshake_queue"] == 5000 - RESPONSES_PER_SLOT
    for _ in range(RESPONSES_PER_SLOT):
        host.device.process_handshake(network.now)
    assert not host.device.handshake_backlog
    host.device.receive([garbage], STRANGER, network.now)
    assert host.device.handshake_backlog, "there is room again"


def test_queue_of_responses_is_bounded(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handfast_tunnel.core.handshake.HANDSHAKE_QUEUE", 2 * RESPONSES_PER_SLOT)
    host = network.host(QUIET)
    garbage = [garbage_response(network, host, network.host(QUIET)) for _ in range(3)]
    host.device.receive(garbage * RESPONSES_PER_SLOT, STRANGER, network.now)
    assert host.device.statistics.dropped["handshake_queue"] == RESPONSES_PER_SLOT


def test_queue_of_handshakes_is_bounded(network: Network) -> None:
    host = network.host(QUIET)
    host.device.set_handshake_cost(0.0)
    host.device.receive(flood(host, HANDSHAKE_QUEUE + 7), STRANGER, network.now)
    assert host.device.statistics.dropped["handshake_queue"] == 7
