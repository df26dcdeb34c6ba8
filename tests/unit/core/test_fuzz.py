"""Whatever reaches the port from a stranger neither raises nor changes anything."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.cookies import add_macs
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_COOKIE_REPLY, TYPE_INITIATION, TYPE_RESPONSE, TYPE_TRANSPORT
from handfast_tunnel.core.noise import mac1_key
from handfast_tunnel.core.session import Keypair
from handfast_tunnel.core.timers import Expiry

from .network import Host, Network

STRANGER = Endpoint("203.0.113.66", 666)
STRICT = Settings(timers="strict", announce=False)

AUTHENTICATED = {TYPE_INITIATION: slice(8, 116), TYPE_RESPONSE: slice(12, 60), TYPE_TRANSPORT: slice(8, None)}
"""What of a message only its sender can have made; the rest anyone can, with the receiver's public key."""


def keypair_state(keypair: Keypair | None) -> object:
    if keypair is None:
        return None
    window = keypair.window
    numbers = (keypair.counter, keypair.numbers.ceiling, keypair.numbers.highest_received)
    return (keypair, numbers, window.highest, window._seen, keypair.heard)


def state(host: Host) -> object:
    """All that a peer's message may change, and a stranger's must not."""
    interface = host.device._interface
    peers = [
        (
            peer.endpoint,
            [keypair_state(each) for each in (peer.current, peer.previous, peer.next)],
            list(peer.slots),
            [getattr(peer.timers, expiry.value) for expiry in Expiry],
            (peer.marks.inbound_stamp, peer.marks.outbound_stamp, peer.marks.inbound_exact),
            (peer.last_initiation_sent, peer.last_initiation_consumed, peer.last_received),
            (peer.received_bytes, peer.sent_bytes, peer.cookie, peer.handshake_attempts),
        )
        for peer in host.device.peers.values()
    ]
    return (peers, list(interface.indices), host.device._handshakes.backlog, interface.outbox)


class Scene:
    """A device with a session, an answered handshake and one in flight, and genuine messages for it."""

    def __init__(self) -> None:
        self.network = network = Network(seed=1)
        self.host, peer = network.host(Settings(announce=False)), network.host(STRICT)
        asked = network.host(STRICT)
        for other in (peer, asked):
            self.host.meet(other)
            other.meet(self.host)
        peer.send(self.host, b"session")
        network.run(1)
        network.lose = lambda _: True
        self.host.initiate(asked)
        initiation = network.sent(self.host, TYPE_INITIATION)[-1].payload
        asked.deliver([initiation], self.host.endpoint)
        peer.send(self.host, b"lost")
        peer.initiate(self.host)
        genuine = network.sent(asked, TYPE_RESPONSE) + network.sent(peer, TYPE_TRANSPORT)[-1:]
        genuine += network.sent(peer, TYPE_INITIATION)[-1:]
        checker = asked.device._interface.checker
        assert checker is not None
        self.messages = [datagram.payload for datagram in genuine]
        self.messages.append(checker.reply(initiation, self.host.endpoint, network.now))
        kinds = {message[0] for message in self.messages}
        assert kinds == {TYPE_INITIATION, TYPE_RESPONSE, TYPE_COOKIE_REPLY, TYPE_TRANSPORT}
        network.run(0.001)

    def unimpressed_by(self, *datagrams: bytes) -> None:
        before = state(self.host)
        received, sent = list(self.host.packets), len(self.network.wire)
        self.host.deliver(list(datagrams), STRANGER)
        assert state(self.host) == before
        assert self.host.packets == received
        assert len(self.network.wire) == sent


SCENE = Scene()
scenes = st.sampled_from(range(len(SCENE.messages)))


def resealed(message: bytes) -> bytes:
    """With a mac1 that is right, which a stranger can make too."""
    if message[0] not in (TYPE_INITIATION, TYPE_RESPONSE):
        return message
    return add_macs(message[:-32], mac1_key(SCENE.host.key.public), None)


def test_the_scene_is_alive() -> None:
    """Unaltered, each of its messages would change something."""
    for number in range(len(SCENE.messages)):
        scene = Scene()
        before = state(scene.host), len(scene.network.wire)
        scene.host.deliver([scene.messages[number]], STRANGER)
        assert (state(scene.host), len(scene.network.wire)) != before


@given(st.lists(st.binary(max_size=200), max_size=4))
@settings(max_examples=300)
def test_random_datagrams(datagrams: list[bytes]) -> None:
    SCENE.unimpressed_by(*datagrams)


@given(st.sampled_from([1, 2, 3, 4]), st.binary(max_size=200), st.booleans())
@settings(max_examples=300)
def test_random_datagrams_that_look_like_messages(kind: int, noise: bytes, right_length: bool) -> None:
    length = {1: 148, 2: 92, 3: 64, 4: 64}[kind] if right_length else len(noise) + 4
    datagram = (bytes([kind, 0, 0, 0]) + noise).ljust(length, b"\x5a")[:length]
    SCENE.unimpressed_by(datagram)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
def test_64_kb_of_noise_of_every_type(kind: int) -> None:
    SCENE.unimpressed_by(bytes([kind, 0, 0, 0]) + bytes(range(256)) * 256)


@given(scenes, st.data())
@settings(max_examples=500)
def test_genuine_messages_altered_where_it_matters(number: int, data: st.DataObject) -> None:
    message = bytearray(SCENE.messages[number])
    part = range(len(message))[AUTHENTICATED.get(message[0], slice(4, None))]
    for _ in range(data.draw(st.integers(1, 3))):
        at, change = data.draw(st.sampled_from(part)), data.draw(st.integers(1, 255))
        message[at] = SCENE.messages[number][at] ^ change
    SCENE.unimpressed_by(resealed(bytes(message)))


@given(scenes, st.data())
@settings(max_examples=200)
def test_genuine_messages_cut_or_extended(number: int, data: st.DataObject) -> None:
    message = SCENE.messages[number]
    if data.draw(st.booleans()):
        SCENE.unimpressed_by(message[: data.draw(st.integers(0, len(message) - 1))])
    else:
        SCENE.unimpressed_by(message + data.draw(st.binary(min_size=1, max_size=40)))


@given(scenes, scenes, st.integers(1, 150))
def test_genuine_messages_spliced(one: int, other: int, at: int) -> None:
    spliced = SCENE.messages[one][:at] + SCENE.messages[other][at:]
    if spliced not in SCENE.messages and at >= 8 and one != other:
        SCENE.unimpressed_by(resealed(spliced) if len(spliced) > 32 else spliced)


@given(scenes, st.sampled_from([1, 2, 3]))
def test_messages_with_reserved_bytes(number: int, at: int) -> None:
    message = bytearray(SCENE.messages[number])
    message[at] = 1
    SCENE.unimpressed_by(bytes(message))


@given(scenes, st.binary(min_size=4, max_size=4))
def test_genuine_messages_for_another_index(number: int, index: bytes) -> None:
    message = SCENE.messages[number]
    if message[0] != TYPE_INITIATION:
        at = 8 if message[0] == TYPE_RESPONSE else 4
        SCENE.unimpressed_by(resealed(message[:at] + index + message[at + 4 :]))
