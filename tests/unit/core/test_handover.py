"""A tunnel's peers pass from one device to another without their keys: RECOVERY, sections 3 and 7.

Two servers hold the same key; the network's one address leads to the active one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast_tunnel.continuity.layout import HEADER_WORDS, PEER_WORDS, WORD, Header
from handfast_tunnel.continuity.state_memory import StateMemory
from handfast_tunnel.core.configuration import InterfaceChange, Prefix, Settings
from handfast_tunnel.core.constants import REJECT_AFTER_TIME
from handfast_tunnel.core.endpoint import Endpoint
from handfast_tunnel.core.handover import SESSIONS, ForeignSession, Handed
from handfast_tunnel.core.messages import TYPE_INITIATION, TYPE_TRANSPORT
from handfast_tunnel.core.tai64n import WHITENING, pack_stamp, unpack_stamp

from .memories import LastingMemory
from .network import Host, Network

NEVER = Settings(announce=False)
ALWAYS = Settings(announce=True)


@dataclass
class Fleet:
    """An old server, its successor-to-be, and a client of both."""

    network: Network
    old: Host
    new: Host
    client: Host

    def flip(self) -> None:
        """The address leads to the new server from here on."""
        self.network.hosts[self.old.endpoint.address] = self.new

    def handed(self) -> dict[bytes, Handed]:
        pieces = self.old.device.hand_out(self.network.now)
        return {peer.public_key: known for piece in pieces for peer, known in piece}

    def take(self, handed: dict[bytes, Handed]) -> None:
        work(self.new.device.take(handed, self.network.now, self.network.now))

    def hand_over(self) -> None:
        self.old.device.freeze(self.network.now)
        self.take(self.handed())
        self.new.device.take_charge(self.network.now)
        self.new.turn()
        self.flip()
        self.old.device.commit_handover(1, self.network.now)
        work(self.old.device.forget_sessions(self.network.now, for_good=True))

    def says(self, payload: bytes) -> None:
        self.client.send(self.old, payload)


def blank(count: int) -> memoryview[int]:
    """So many 64-bit words."""
    return memoryview(bytearray(count * WORD)).cast("Q")


def work(job: Iterator[object]) -> None:
    for _ in job:
        pass


def standby(network: Network, old: Host, settings: Settings) -> Host:
    """A frozen device with another's key and peers, at an address of its own until the flip."""
    new = network.host(settings)
    new.key = old.key
    new.device.freeze(network.now)
    new.configure(InterfaceChange(private_key=old.key.secret))
    new.endpoint, new.inner = old.endpoint, old.inner
    return new


def fleet_of(settings: Settings) -> Fleet:
    network = Network(seed=5)
    old, client = network.host(settings), network.host(Settings(timers="strict", announce=False))
    client.meet(old)
    old.meet(client, endpoint=False)
    client.send(old, b"hello")
    network.run(1)
    assert old.inbox == [b"hello"]
    new = standby(network, old, settings)
    new.meet(client, endpoint=False)
    network.wire.clear()
    return Fleet(network, old, new, client)


@pytest.fixture
def fleet() -> Fleet:
    return fleet_of(NEVER)


def test_the_client_is_back_with_the_second_packet_after_the_flip(fleet: Fleet) -> None:
    fleet.hand_over()
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    assert fleet.new.inbox == [b"arrives"]
    assert fleet.new.peer(fleet.client).method == "answered"
    assert not fleet.network.sent(fleet.client, TYPE_INITIATION)


def test_where_announcing_is_right_the_client_need_not_speak(fleet: Fleet) -> None:
    fleet = fleet_of(ALWAYS)
    fleet.hand_over()
    fleet.network.run(0.1)
    assert fleet.new.peer(fleet.client).method == "announced"


@pytest.mark.parametrize(("settings", "calls"), [(NEVER, False), (ALWAYS, True)])
def test_data_for_a_client_is_no_reason_to_call_it_from_an_unknown_address(
    settings: Settings, calls: bool
) -> None:
    """A handed client is at hearsay's address until it is heard here."""
    fleet = fleet_of(settings)
    fleet.hand_over()
    fleet.new.send(fleet.client, b"data")
    fleet.network.run(0.1)
    assert bool(fleet.network.sent(fleet.new, TYPE_INITIATION)) is calls
    fleet.says(b"hello")
    fleet.network.run(0.1)
    assert fleet.client.inbox == [b"data"], "it has waited"
    method = "announced" if calls else "answered"
    assert fleet.new.peer(fleet.client).method == method


def test_a_configured_client_may_be_called(fleet: Fleet) -> None:
    """A person says that it is to be found there, as another site."""
    fleet.new.meet(fleet.client)
    fleet.hand_over()
    fleet.new.send(fleet.client, b"data")
    fleet.network.run(0.1)
    assert fleet.client.inbox == [b"data"]


def test_a_standby_says_nothing(fleet: Fleet) -> None:
    fleet.take(fleet.handed())
    fleet.flip()
    for _ in range(200):
        fleet.says(b"?")
        fleet.network.run(1)
    assert not fleet.network.sent(fleet.new)
    assert not fleet.new.inbox


def test_a_committed_server_says_nothing(fleet: Fleet) -> None:
    fleet.hand_over()
    fleet.network.hosts[fleet.old.endpoint.address] = fleet.old
    fleet.old.device.thaw()
    for _ in range(200):
        fleet.says(b"?")
        fleet.network.run(1)
    assert not fleet.network.sent(fleet.old)
    assert not fleet.old.peer(fleet.client).keypairs


def test_without_a_commit_the_old_one_goes_on_in_the_same_session(fleet: Fleet) -> None:
    fleet.old.device.freeze(fleet.network.now)
    fleet.handed()
    fleet.network.run(5)
    fleet.old.device.thaw()
    fleet.says(b"still here")
    fleet.network.run(0.1)
    assert fleet.old.inbox[-1] == b"still here"
    assert not fleet.network.sent(fleet.client, TYPE_INITIATION)


def test_who_was_displaced_and_comes_back_answers_by_what_it_remembers(fleet: Fleet) -> None:
    """It hears of another, drops its keys, and is activated again before the client ever spoke there."""
    fleet.old.device.freeze(fleet.network.now)
    work(fleet.old.device.forget_sessions(fleet.network.now, for_good=False))
    assert not fleet.old.peer(fleet.client).keypairs
    fleet.old.device.take_charge(fleet.network.now)
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    assert fleet.old.inbox[-1] == b"arrives"


def test_two_handovers_in_a_row(fleet: Fleet) -> None:
    """The second successor knows the session that the first never had."""
    third = standby(fleet.network, fleet.old, NEVER)
    third.meet(fleet.client, endpoint=False)
    fleet.hand_over()
    fleet.new.device.freeze(fleet.network.now)
    handed = Fleet(fleet.network, fleet.new, third, fleet.client).handed()
    work(third.device.take(handed, fleet.network.now, fleet.network.now))
    third.device.take_charge(fleet.network.now)
    fleet.network.hosts[fleet.old.endpoint.address] = third
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    assert third.inbox == [b"arrives"]


# --- what is handed ---------------------------------------------------------------------------------


def test_no_keys_are_handed(fleet: Fleet) -> None:
    keypair = fleet.old.peer(fleet.client).current
    assert keypair is not None
    facts = keypair._live_facts()
    told = repr(fleet.handed())
    for secret in (facts.send_key, facts.receive_key, fleet.old.key.secret):
        assert repr(secret)[2:-1] not in told


def test_our_side_of_the_path_is_not_handed(fleet: Fleet) -> None:
    assert fleet.old.peer(fleet.client).endpoint.local  # type: ignore[union-attr]
    (known,) = fleet.handed().values()
    assert known.endpoint == fleet.client.endpoint


def test_sessions_that_nobody_can_send_on_are_not_handed(fleet: Fleet) -> None:
    fleet.network.run(REJECT_AFTER_TIME + 1)
    (known,) = fleet.handed().values()
    assert known.sessions == ()


def test_old_packets_of_handed_sessions_are_not_answered(fleet: Fleet) -> None:
    captured = fleet.network.sent(fleet.client, TYPE_TRANSPORT)
    fleet.says(b"captured")
    fleet.network.run(0.1)
    captured = fleet.network.sent(fleet.client, TYPE_TRANSPORT)
    fleet.hand_over()
    fleet.network.wire.clear()
    fleet.new.deliver([captured[-1].payload], Endpoint("203.0.113.9", 9))
    fleet.network.run(1)
    assert not fleet.network.sent(fleet.new)


def test_the_successor_refuses_what_the_old_one_refused(fleet: Fleet) -> None:
    """An initiation that the old server consumed moves nothing at the new one."""
    fleet.client.initiate(fleet.old)
    fleet.network.run(0.1)
    consumed = fleet.network.sent(fleet.client, TYPE_INITIATION)[-1]
    fleet.hand_over()
    fleet.network.wire.clear()
    fleet.new.deliver([consumed.payload], Endpoint("203.0.113.9", 9))
    fleet.network.run(1)
    assert not fleet.network.sent(fleet.new)
    assert fleet.new.peer(fleet.client).endpoint == fleet.client.endpoint


def test_what_the_frozen_server_missed_does_not_move_the_peer(fleet: Fleet) -> None:
    """An initiation sent to the frozen server is newer than its mark; whoever captured it may be anywhere."""
    fleet.old.device.freeze(fleet.network.now)
    handed = fleet.handed()
    fleet.client.initiate(fleet.old)
    fleet.network.run(0.1)
    missed = fleet.network.sent(fleet.client, TYPE_INITIATION)[-1]
    fleet.take(handed)
    fleet.new.device.take_charge(fleet.network.now)
    fleet.new.deliver([missed.payload], Endpoint("203.0.113.9", 9))
    fleet.network.run(1)
    assert fleet.new.peer(fleet.client).endpoint.address == fleet.client.endpoint.address  # type: ignore[union-attr]


def test_the_client_accepts_the_successors_stamps_though_its_clock_is_behind(fleet: Fleet) -> None:
    fleet.old.initiate(fleet.client)
    fleet.network.run(1)
    fleet.new.clock_skew = -3600
    fleet.hand_over()
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    assert fleet.new.inbox == [b"arrives"]


def test_without_an_export_stamps_begin_above_the_reserved_mark(fleet: Fleet) -> None:
    """The old server's clock was an hour ahead, and died with its marks."""
    fleet.old.clock_skew = 3600
    fleet.old.initiate(fleet.client)
    fleet.network.run(1)
    reserved = fleet.old.device.highest_stamp + 60 * 10**9
    fleet.old.device.freeze(fleet.network.now)
    fleet.new.device.raise_stamp_floor(reserved)
    fleet.take({fleet.client.key.public: Handed(fleet.client.endpoint)})
    fleet.new.device.take_charge(fleet.network.now)
    fleet.flip()
    fleet.new.initiate(fleet.client)
    fleet.network.run(0.1)
    assert fleet.new.peer(fleet.client).current is not None
    assert fleet.new.device.highest_stamp == reserved + WHITENING


handed_peers = st.builds(
    Handed,
    endpoint=st.none() | st.builds(Endpoint, st.sampled_from(["192.0.2.1", "192.0.2.2"]), st.integers(1, 9)),
    inbound_stamp=st.integers(0, 2**40).map(pack_stamp) | st.just(b""),
    outbound_stamp=st.integers(0, 2**40),
    last_received=st.floats(0, 9000),
    sessions=st.lists(
        st.builds(ForeignSession, st.integers(0, 2**32 - 1), st.floats(9700, 10001), st.integers(-1, 2**63)),
        max_size=4,
    ).map(tuple),
)


@given(st.lists(handed_peers, max_size=4))
def test_marks_merge_by_max_in_any_order(handed: list[Handed]) -> None:
    def marks_after(order: list[Handed]) -> tuple[bytes, int, float]:
        network = Network()
        old, client = network.host(NEVER, LastingMemory()), network.host(NEVER)
        old.meet(client, endpoint=False)
        for each in order:
            work(old.device.take({client.key.public: each}, network.now, network.now))
        marks = old.peer(client).marks
        return marks.inbound_stamp, marks.outbound_stamp, marks.last_received

    expected = (
        max((h.inbound_stamp for h in handed), default=b""),
        max((h.outbound_stamp for h in handed), default=0),
        max((h.last_received for h in handed), default=0.0),
    )
    assert marks_after(handed) == marks_after(handed[::-1]) == expected


def test_what_was_handed_outlives_the_process(fleet: Fleet) -> None:
    """The successor dies before the client spoke: its own next process still knows the session."""
    header, words = blank(HEADER_WORDS), blank(4 * PEER_WORDS)
    header[Header.PEERS] = 4
    fleet.new.memory = StateMemory(header, [words], lambda: blank(4 * PEER_WORDS))
    fleet.new.boot()
    fleet.hand_over()
    fleet.new.memory = StateMemory(header, [words], lambda: blank(4 * PEER_WORDS))
    fleet.new.boot()
    fleet.says(b"lost")
    fleet.network.run(0.045)
    fleet.says(b"arrives")
    fleet.network.run(0.02)
    assert fleet.new.inbox == [b"arrives"]


def test_more_sessions_than_a_peer_can_have_are_not_taken(fleet: Fleet) -> None:
    now = fleet.network.now
    sessions = tuple(ForeignSession(n, now - n, 0) for n in range(10))
    (known,) = fleet.handed().values()
    fleet.take({fleet.client.key.public: known._replace(sessions=sessions)})
    assert set(fleet.new.device._interface.lost) == set(range(SESSIONS))


def test_who_is_not_configured_is_passed_over(fleet: Fleet) -> None:
    fleet.take({bytes(32): Handed(Endpoint("192.0.2.1", 1))})
    assert bytes(32) not in fleet.new.device.peers


def test_the_outage_of_who_was_sending_is_measured_across_pods(fleet: Fleet) -> None:
    fleet.says(b"the last that the old server heard")
    fleet.network.run(0.5)
    fleet.hand_over()
    fleet.network.run(1)
    fleet.says(b"lost")
    fleet.network.run(0.1)
    statistics = fleet.new.device.statistics
    assert statistics.outage == {}
    assert statistics.outage_across["answered"].sum == pytest.approx(0.49 + 1 + 0.03)


def test_who_was_silent_has_no_outage(fleet: Fleet) -> None:
    fleet.network.run(3)
    fleet.hand_over()
    fleet.says(b"lost")
    fleet.network.run(0.1)
    assert fleet.new.device.statistics.outage_across == {}


# --- addresses that all peers may share -------------------------------------------------------------


def shared(burst: float) -> Settings:
    return Settings(
        announce=False, burst_per_second=burst, shared_networks=(Prefix(bytes([10, 9, 0, 0]), 16),)
    )


def strays_of(count: int, settings: Settings, source: str) -> int:
    """How many of `count` clients, whose strays come from one address at once, are answered."""
    network = Network(seed=6)
    server = network.host(settings)
    clients = [network.host(NEVER) for _ in range(count)]
    for client in clients:
        client.meet(server)
        server.meet(client, endpoint=False)
        client.send(server, b"hello")
    network.run(2)
    server.device.down(network.now)
    server.device.up(network.now)
    network.wire.clear()
    network.lose = lambda _: True
    for number, client in enumerate(clients):
        client.send(server, b"stray")
        stray = network.sent(client, TYPE_TRANSPORT)[-1].payload
        server.deliver([stray], Endpoint(source, 1000 + number))
    return len(network.sent(server, TYPE_INITIATION))


def test_clients_behind_one_address_of_the_clusters_are_answered_together() -> None:
    assert strays_of(40, shared(500), "10.9.3.4") == 40
    assert strays_of(40, shared(500), "10.8.3.4") == 5, "any other network has its budget"
    assert strays_of(40, Settings(announce=False), "10.9.3.4") == 5


def test_they_share_the_burst() -> None:
    assert strays_of(40, shared(100), "10.9.3.4") == 10


# --- stamps -----------------------------------------------------------------------------------------


@given(st.integers(0, 2**62))
def test_stamps_come_back_as_they_were(stamp: int) -> None:
    assert unpack_stamp(pack_stamp(stamp)) == stamp
