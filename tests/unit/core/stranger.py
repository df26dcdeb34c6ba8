"""A device with all that can be in flight, and a stranger who must not change any of it."""

from __future__ import annotations

import os

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
        # Its keys are its own: what another process has recorded is a stranger's here.
        self.network = network = Network(seed=1, salt=os.urandom(8))
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

    def resealed(self, message: bytes) -> bytes:
        """With a mac1 that is right, which a stranger can make too."""
        if message[0] not in (TYPE_INITIATION, TYPE_RESPONSE):
            return message
        return add_macs(message[:-32], mac1_key(self.host.key.public), None)

    def is_genuine(self, datagram: bytes) -> bool:
        """Whether its sender made all of it that only its sender can make."""
        part = AUTHENTICATED.get(datagram[0], slice(4, None)) if datagram else slice(0)
        return any(
            (datagram[:1], len(datagram), datagram[part]) == (genuine[:1], len(genuine), genuine[part])
            for genuine in self.messages
        )
