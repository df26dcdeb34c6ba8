"""Two devices talk over a network that does its worst; what must hold, holds after every step."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.constants import HANDSHAKE_SLOTS
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.noise import InvalidMessage

from .memories import LastingMemory
from .network import Datagram, Host, Network, Path

ATTACKER = Endpoint("203.0.113.66", 666)
HEALED_WITHIN = 30.0
"""KEEPALIVE_TIMEOUT + 2 REKEY_TIMEOUT with jitter, or the longest pause of a cadence; then some seconds."""

sides = st.sampled_from([0, 1])
positions = st.floats(0, 1, exclude_max=True)


class HostileNetwork(RuleBasedStateMachine):
    """A server, and a client that may roam."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Network()
        self.sent: dict[bytes, Host] = {}
        """To whom each payload was sent."""
        self.checked = 0
        self.nonces: set[tuple[Host, int, bytes, int]] = set()
        self.stamps: dict[tuple[Host, int], bytes] = {}

    @initialize(
        kinds=st.tuples(*[st.sampled_from(["recovery", "strict"])] * 2),
        announce=st.booleans(),
        endpoint=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def build(self, kinds: tuple[str, str], announce: bool, endpoint: bool, seed: int) -> None:
        self.network.random.seed(seed)
        server, client = (
            self.network.host(Settings(timers=kind, announce=announce), LastingMemory())  # type: ignore[arg-type]
            for kind in kinds
        )
        self.server, self.client = self.hosts = (server, client)
        self.addresses = {server: {server.endpoint.address}, client: {client.endpoint.address}}
        server.meet(client, endpoint=endpoint)
        client.meet(server)

    def other(self, host: Host) -> Host:
        return self.client if host is self.server else self.server

    # --- what happens -----------------------------------------------------------------------------

    @rule(side=sides, count=st.sampled_from([1, 1, 1, 3, 70]))
    def send(self, side: int, count: int) -> None:
        host = self.hosts[side]
        payloads = [b"%d" % number for number in range(len(self.sent), len(self.sent) + count)]
        self.sent |= dict.fromkeys(payloads, self.other(host))
        host.send(self.other(host), *payloads)

    @rule(seconds=st.sampled_from([0.001, 0.01, 0.05, 0.3, 1.0, 5.0, 16.0, 61.0, 125.0, 185.0]))
    def wait(self, seconds: float) -> None:
        self.network.run(seconds)

    @rule(
        delay=st.sampled_from([0.001, 0.05, 0.4]),
        jitter=st.sampled_from([0.0, 0.1, 1.0]),
        loss=st.sampled_from([0.0, 0.2, 0.6, 1.0]),
        duplication=st.sampled_from([0.0, 0.5]),
    )
    def weather(self, delay: float, jitter: float, loss: float, duplication: float) -> None:
        self.network.path = Path(delay, jitter, loss, duplication)

    @rule(side=sides, kind=st.sampled_from([None, 1, 2, 4]))
    def lose_from_now_on(self, side: int, kind: int | None) -> None:
        host = self.hosts[side]
        self.network.lose = lambda d: d.sender is host and kind in (None, d.type)

    @rule()
    def lose_nothing_from_now_on(self) -> None:
        self.network.lose = lambda _: False

    @rule(position=positions, delay=st.sampled_from([0.0, 0.05]))
    def repeat(self, position: float, delay: float) -> None:
        if self.network.wire:
            self.network.inject(self._pick(self.network.wire, position), delay=delay)

    @rule(position=positions)
    def replay_from_elsewhere(self, position: float) -> None:
        """What has arrived is worth nothing any more. A lost message would be, from wherever it comes."""
        if self.network.arrived:
            datagram = self._pick(self.network.arrived, position)
            if self._is_worthless(datagram):
                self.network.inject(datagram, source=ATTACKER)

    @rule(position=positions, byte=positions, bit=st.integers(0, 7))
    def alter(self, position: float, byte: float, bit: int) -> None:
        if self.network.wire:
            datagram = self._pick(self.network.wire, position)
            payload = bytearray(datagram.payload)
            payload[int(byte * len(payload))] ^= 1 << bit
            self.network.inject(datagram, payload=bytes(payload))

    @rule(host=st.integers(1, 3), port=st.integers(1, 3))
    def roam(self, host: int, port: int) -> None:
        self.client.roam(f"10.1.0.{host}", port)
        self.addresses[self.client].add(self.client.endpoint.address)

    @rule(side=sides, memory=st.booleans())
    def crash(self, side: int, memory: bool) -> None:
        host = self.hosts[side]
        host.crash(host.memory if memory else LastingMemory())

    @rule(side=sides)
    def initiate(self, side: int) -> None:
        self.hosts[side].initiate()

    @rule(side=sides)
    def freeze(self, side: int) -> None:
        self.hosts[side].device.freeze(self.network.now)

    @rule(side=sides)
    def thaw(self, side: int) -> None:
        self.hosts[side].device.thaw()

    @rule(side=sides)
    def bounce(self, side: int) -> None:
        self.hosts[side].device.down(self.network.now)
        self.hosts[side].device.up(self.network.now)

    def _pick(self, datagrams: list[Datagram], position: float) -> Datagram:
        """Recent ones rather than old ones."""
        return datagrams[-1 - int(position**3 * len(datagrams))]

    def _is_worthless(self, datagram: Datagram) -> bool:
        if datagram.type != TYPE_INITIATION:
            return True
        receiver = self.other(datagram.sender)
        marks = receiver.peer(datagram.sender).marks
        try:
            return not marks.inbound_exact or receiver.stamp_of(datagram) <= marks.inbound_stamp
        except InvalidMessage:
            return True

    # --- what must hold ---------------------------------------------------------------------------

    @invariant()
    def no_packet_arrives_twice_altered_or_at_the_wrong_place(self) -> None:
        for host in self.network.hosts.values():
            assert len(host.inbox) == len(set(host.inbox))
            assert all(self.sent[payload] is host for payload in host.inbox)

    @invariant()
    def no_counter_is_used_twice_under_a_key_and_stamps_rise(self) -> None:
        for datagram in self.network.wire[self.checked :]:
            if datagram.type == TYPE_TRANSPORT:
                nonce = (datagram.sender, datagram.incarnation, datagram.payload[4:8], datagram.counter)
                assert nonce not in self.nonces
                self.nonces.add(nonce)
            elif datagram.type == TYPE_INITIATION:
                life = (datagram.sender, datagram.incarnation)
                stamp = self.other(datagram.sender).stamp_of(datagram)
                assert stamp > self.stamps.get(life, b"")
                self.stamps[life] = stamp
        self.checked = len(self.network.wire)

    @invariant()
    def endpoints_are_where_the_peer_has_been(self) -> None:
        for host in self.network.hosts.values():
            endpoint = host.peer(self.other(host)).endpoint
            assert endpoint is None or endpoint.address in self.addresses[self.other(host)]

    @invariant()
    def every_index_belongs_to_a_slot_or_a_session(self) -> None:
        for host in self.network.hosts.values():
            peer = host.peer(self.other(host))
            sessions = {keypair.local_index for keypair in peer.keypairs}
            assert host.device._interface.indices.keys() == sessions | peer.slots.keys()
            assert len(peer.keypairs) == len(sessions)
            assert len(peer.slots) <= HANDSHAKE_SLOTS
            assert all(keypair._facts is not None for keypair in peer.keypairs)

    def teardown(self) -> None:
        if not hasattr(self, "hosts"):
            return
        self.network.path = Path()
        self.network.lose = lambda _: False
        for host in self.hosts:
            host.device.thaw()
        self._talk_until_both_hear_each_other()
        self._then_silence()

    def _talk_until_both_hear_each_other(self) -> None:
        began = self.network.now
        first = len(self.sent)

        def heard(host: Host) -> bool:
            return any(int(payload) >= first for payload in host.inbox[-3:])

        while not all(map(heard, self.hosts)):
            assert self.network.now - began <= HEALED_WITHIN
            for side in (0, 1):
                self.send(side, 1)
            self.network.run(1)
            self.no_packet_arrives_twice_altered_or_at_the_wrong_place()
            self.no_counter_is_used_twice_under_a_key_and_stamps_rise()

    def _then_silence(self) -> None:
        self.network.run(200)
        self.network.wire.clear()
        self.network.run(100)
        assert not self.network.wire


HostileNetwork.TestCase.settings = settings(
    max_examples=max(150, settings().max_examples), stateful_step_count=40
)
TestHostileNetwork = HostileNetwork.TestCase
