"""Two pods of a tunnel behind one address, and unmodified clients that must not notice much.

The router's address is the Service: a DNAT that leads to the active pod, flipped in one step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from handfast_tunnel.control import Configuration, RecoverySpec, Role
from tests.interop.outliving import settle
from tests.lab.certificates import Authority
from tests.lab.filters import Message
from tests.lab.implementations import Implementation
from tests.lab.namespaces import wait_until
from tests.lab.network import Network
from tests.lab.peer import KeyPair, Peer
from tests.lab.pods import INSIDE, Operator, Pod, Service, join, peer_spec, tunnel_spec
from tests.lab.probes import Log, Probes
from tests.lab.wire import Capture, Datagram

TERM = 7


@dataclass
class Fleet:
    """An active and a standby pod, and a client that sends through the service."""

    network: Network
    operator: Operator
    service: Service
    old: Pod
    new: Pod
    client: Peer
    keys: KeyPair
    """The tunnel's."""
    log: Log
    on_client_cable: Capture
    on_old_cable: Capture
    on_new_cable: Capture

    def drain(self, term: int, seconds: float = 5.0) -> None:
        self.operator.call(
            self.old,
            lambda s: s.drain(term=term, generation=1, successor_uid=self.new.uid, seconds=seconds),
        )

    def role(self, pod: Pod) -> Role:
        return self.operator.status(pod).role

    def handshakes(self, since: float) -> list[Datagram]:
        return [d for d in self.on_client_cable.matching(since=since) if d.type is not Message.TRANSPORT]

    def method(self, pod: Pod) -> str | None:
        peers = self.operator.status(pod).peers
        assert peers is not None
        return peers[0].method

    def sent_by(self, pod: Pod, since: float) -> list[Datagram]:
        capture = self.on_old_cable if pod is self.old else self.on_new_cable
        return capture.matching(source=pod.host.ipv4, since=since)

    def fail_over(self) -> float:
        """The old pod is gone without a word, and the new one serves; when that began."""
        self.old.running.kill()
        lost = time.monotonic()
        self.operator.call(self.new, lambda s: s.activate(term=TERM + 1, generation=1))
        self.service.point(self.new)
        return lost

    def begin_anew(self) -> None:
        """The client has no session any more, so that its next packet is an initiation."""
        self.client.set("peer", self.keys.public, "remove")
        join(self.client, self.keys, self.client.host.router_ipv4)

    def wait_for_answers(self, since: float, timeout: float = 10) -> float:
        """Until probes come through again; the longest time without an answer from `since` on."""
        wait_until(lambda: self.log.settled(since), timeout, "answers")
        return self.log.longest_silence(since)


def fleet_of(
    network: Network,
    implementation: Implementation,
    probes: Probes,
    *,
    masquerade: bool = False,
    shared_networks: tuple[str, ...] = (),
    **recovery: str,
) -> Fleet:
    keys = KeyPair.generate()
    authority = Authority()
    old_host, new_host, client_host = network.add("old", "new", "client")
    client = Peer(client_host, implementation)
    recovering = RecoverySpec(**recovery)  # type: ignore[arg-type]
    spec = tunnel_spec(keys, recovery=recovering, shared_networks=shared_networks)
    configuration = Configuration.of(1, spec, [peer_spec(client)])
    captures = [network.capture(host) for host in (client_host, old_host, new_host)]
    old, new = (Pod(host, configuration, authority=authority) for host in (old_host, new_host))
    operator, service = Operator(network, authority), Service(network, masquerade=masquerade)
    for pod in (old, new):
        pod.start()
        probes.answer(pod.node)
    for pod in (old, new):
        operator.wait_for_api(pod)
    operator.call(old, lambda s: s.activate(term=TERM, generation=1))
    service.point(old)
    client.start()
    join(client, keys, client_host.router_ipv4)
    log = probes.ask(client.node, INSIDE)
    wait_until(lambda: log.settled(0), 20, "the client's first answers")
    settle(captures[0], client_host, lambda: old.handfast("handshake"), lambda: None)
    return Fleet(network, operator, service, old, new, client, keys, log, *captures)


@pytest.fixture
def fleet(network: Network, wireguard_go: Implementation, probes: Probes) -> Fleet:
    return fleet_of(network, wireguard_go, probes)


def test_a_handover_costs_a_round_trip(network: Network, other: Implementation, probes: Probes) -> None:
    fleet = fleet_of(network, other, probes)
    began = time.monotonic()
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    assert fleet.wait_for_answers(began) < 3
    assert fleet.role(fleet.old) is Role.COMMITTED
    status = fleet.operator.status(fleet.new)
    assert (status.role, status.term) == (Role.ACTIVE, TERM + 1)
    assert fleet.method(fleet.new) == "answered", "by rung 3"
    assert fleet.handshakes(began)[0].source == fleet.client.host.router_ipv4, "ours, not the client's"


def test_a_handover_behind_a_node_that_hides_its_clients(
    network: Network, wireguard_go: Implementation, probes: Probes
) -> None:
    """The successor hears the client from a port that it was never at."""
    fleet = fleet_of(network, wireguard_go, probes, masquerade=True, shared_networks=("10.77.0.0/16",))
    before = fleet.on_old_cable.matching(Message.TRANSPORT, destination=fleet.old.host.ipv4)[-1]
    assert before.source == fleet.old.host.router_ipv4
    began = time.monotonic()
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    assert fleet.wait_for_answers(began) < 3
    after = fleet.on_new_cable.matching(Message.TRANSPORT, destination=fleet.new.host.ipv4)[-1]
    assert after.source == fleet.new.host.router_ipv4
    assert after.source_port != before.source_port
    assert fleet.method(fleet.new) == "answered"


def test_where_announcing_is_right_the_successor_speaks_first(
    network: Network, wireguard_go: Implementation, probes: Probes
) -> None:
    fleet = fleet_of(network, wireguard_go, probes, announce="always")
    began = time.monotonic()
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    assert fleet.wait_for_answers(began) < 3
    assert fleet.method(fleet.new) == "announced", "by rung 4"


def test_there_and_back_again(fleet: Fleet) -> None:
    """The first pod is replaced by a next one on the same node, which then hands over again."""
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    fleet.wait_for_answers(time.monotonic())
    fleet.old.replace()
    fleet.operator.wait_for_api(fleet.old)
    began = time.monotonic()
    fleet.operator.hand_over(fleet.new, fleet.old, fleet.service, term=TERM + 2)
    assert fleet.wait_for_answers(began) < 3
    assert fleet.method(fleet.old) == "answered"


def test_a_handover_that_nobody_finishes_thaws_in_the_same_session(fleet: Fleet) -> None:
    fleet.drain(TERM + 1, seconds=2)
    frozen = time.monotonic()
    assert fleet.role(fleet.old) is Role.DRAINING
    silence = fleet.wait_for_answers(frozen)
    assert 1 < silence < 8
    assert not fleet.handshakes(frozen)
    status = fleet.operator.status(fleet.old)
    assert (status.role, status.term, status.heard) == (Role.ACTIVE, TERM, TERM + 1)


def test_a_thaw_takes_it_back(fleet: Fleet) -> None:
    fleet.drain(TERM + 1)
    frozen = time.monotonic()
    fleet.operator.call(fleet.old, lambda s: s.thaw(term=TERM + 1))
    assert fleet.wait_for_answers(frozen) < 2
    assert not fleet.handshakes(frozen)


def test_data_for_a_client_is_no_reason_to_call_it_from_an_unknown_address(fleet: Fleet) -> None:
    """It would follow, and be lost with the pod's address: it is answered by its next packet."""
    fleet.operator.carry_sessions(fleet.old, fleet.new)
    fleet.old.running.kill()
    lost = time.monotonic()
    fleet.operator.call(fleet.new, lambda s: s.activate(term=TERM + 1, generation=1))
    fleet.new.node.attempt("ping", "-c3", "-i0.2", "-W1", fleet.client.ipv4)
    assert not fleet.sent_by(fleet.new, lost)
    fleet.service.point(fleet.new)
    assert fleet.wait_for_answers(lost) < 12
    assert fleet.method(fleet.new) == "answered"
    endpoint = fleet.client.node.run("wg", "show", "wg0", "endpoints").split()[-1]
    assert endpoint.partition(":")[0] == fleet.client.host.router_ipv4


def test_without_a_commit_there_are_two_until_one_hears_of_the_other(fleet: Fleet) -> None:
    """The operator died after the flip."""
    export = fleet.operator.call(
        fleet.old, lambda s: s.drain(term=TERM + 1, generation=1, successor_uid=fleet.new.uid, seconds=1)
    )
    fleet.operator.call(fleet.new, lambda s: s.activate(term=TERM + 1, generation=1, export=export))
    fleet.service.point(fleet.new)
    fleet.wait_for_answers(time.monotonic())
    wait_until(lambda: fleet.role(fleet.old) is Role.ACTIVE, 5, "the old pod to thaw")
    assert fleet.operator.status(fleet.old).term < fleet.operator.status(fleet.new).term
    status = fleet.operator.call(fleet.old, lambda s: s.put_config(fleet.old.configuration, term=TERM + 1))
    assert status.role is Role.STANDBY
    fleet.service.point(fleet.old)
    lost = time.monotonic()
    time.sleep(1.5)
    assert not fleet.sent_by(fleet.old, lost), "it answers nobody any more"


def test_a_frozen_and_a_committed_pod_send_nothing(fleet: Fleet) -> None:
    fleet.drain(TERM + 1)
    frozen = time.monotonic()
    time.sleep(1)
    fleet.operator.call(fleet.old, lambda s: s.commit(term=TERM + 1))
    time.sleep(6)
    assert not fleet.sent_by(fleet.old, frozen)
    assert fleet.client.uapi("get=1\n\n"), "the client was there all the time"
    assert len(fleet.on_old_cable.matching(since=frozen)) > 50


def test_a_standby_is_silent_whoever_asks(fleet: Fleet) -> None:
    fleet.old.running.kill()
    began = time.monotonic()
    fleet.service.point(fleet.new)
    fleet.new.handfast("handshake", "--no-wait")
    assert "belongs to a pod" in fleet.new.node.attempt(*fleet.new.program("drain", "--off")).stderr
    assert fleet.new.uapi("set=1\ndrain=false\n\n") == "errno=-1\n\n"
    fleet.on_new_cable.wait(Message.TRANSPORT, since=began, count=50)
    fleet.begin_anew()
    fleet.on_new_cable.wait(Message.INITIATION, since=began)
    time.sleep(1)
    assert not fleet.sent_by(fleet.new, began)


@pytest.mark.parametrize("event", ["worker killed", "container killed", "SIGTERM"])
def test_a_container_goes_on_as_what_it_was(fleet: Fleet, event: str) -> None:
    began = time.monotonic()
    if event == "worker killed":
        fleet.old.kill_worker()
    elif event == "container killed":
        fleet.old.running.kill()
        fleet.old.start()
    else:
        assert fleet.old.running.terminate() == 0
        fleet.old.start()
    fleet.wait_for_answers(began)
    assert not fleet.handshakes(began), "the same session"
    status = fleet.operator.wait_for_api(fleet.old)
    assert (status.role, status.term) == (Role.ACTIVE, TERM)
    assert status.incarnation == 2


@pytest.mark.parametrize("lost", ["", "role.json", "wg0.state"])
def test_a_committed_container_stays_committed(fleet: Fleet, lost: str) -> None:
    """The mark lies in two places."""
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    fleet.old.running.kill()
    if lost:
        fleet.old.node.run("rm", f"/run/handfast/state/{lost}")
    began = time.monotonic()
    fleet.old.start()
    assert fleet.operator.wait_for_api(fleet.old).role is Role.COMMITTED
    fleet.new.running.kill()
    fleet.service.point(fleet.old)
    fleet.begin_anew()
    fleet.on_old_cable.wait(Message.INITIATION, since=began)
    time.sleep(0.5)
    assert not fleet.sent_by(fleet.old, began)


def test_a_successor_that_crashes_at_once_still_answers(fleet: Fleet) -> None:
    """What it was handed outlives its process."""
    export = fleet.operator.call(
        fleet.old, lambda s: s.drain(term=TERM + 1, generation=1, successor_uid=fleet.new.uid)
    )
    fleet.operator.call(fleet.new, lambda s: s.activate(term=TERM + 1, generation=1, export=export))
    fleet.new.kill_worker()
    began = time.monotonic()
    fleet.service.point(fleet.new)
    fleet.wait_for_answers(began)
    assert fleet.handshakes(began)[0].source == fleet.client.host.router_ipv4


def test_a_pod_that_is_gone_is_replaced_by_one_that_greets(
    network: Network, wireguard_go: Implementation, probes: Probes
) -> None:
    """Without an export, but with the marks that the operator keeps: an hour ahead of any clock."""
    fleet = fleet_of(network, wireguard_go, probes, announce="always")
    state = fleet.operator.state_of(fleet.old, TERM)
    fleet.old.running.kill()
    fleet.new.replace(state=state)
    fleet.operator.wait_for_api(fleet.new)
    began = time.monotonic()
    fleet.service.point(fleet.new)
    fleet.operator.call(
        fleet.new,
        lambda s: s.activate(
            term=TERM + 1, generation=1, outbound_timestamp_ceiling=state.outbound_timestamp_ceiling
        ),
    )
    fleet.wait_for_answers(began)
    assert fleet.method(fleet.new) == "announced"


# --- where nothing is handed over -------------------------------------------------------------------

BEFORE_ITS_OWN = 8
"""Seconds: a client that sends asks for a handshake by itself after 15."""


def test_a_pod_that_learned_of_a_lost_ones_sessions_answers(fleet: Fleet) -> None:
    fleet.operator.carry_sessions(fleet.old, fleet.new)
    lost = fleet.fail_over()
    assert fleet.wait_for_answers(lost, BEFORE_ITS_OWN) < BEFORE_ITS_OWN
    assert fleet.method(fleet.new) == "answered", "by rung 3"
    assert fleet.handshakes(lost)[0].source == fleet.client.host.router_ipv4, "ours, not the client's"


def test_of_a_session_that_is_new_it_learns_by_difference(fleet: Fleet) -> None:
    """And what it learned outlives its process."""
    until = fleet.operator.carry_sessions(fleet.old, fleet.new)
    began = time.monotonic()
    assert "1 peer" in fleet.old.handfast("handshake")
    fleet.on_client_cable.wait(Message.RESPONSE, since=began)
    wait_until(lambda: fleet.log.settled(time.monotonic() - 0.5), 10, "answers in the new session")
    fleet.operator.carry_sessions(fleet.old, fleet.new, until)
    fleet.new.kill_worker()
    fleet.operator.wait_for_api(fleet.new)
    lost = fleet.fail_over()
    assert fleet.wait_for_answers(lost, BEFORE_ITS_OWN) < BEFORE_ITS_OWN
    assert fleet.handshakes(lost)[0].source == fleet.client.host.router_ipv4, "ours, not the client's"


# --- hooks ------------------------------------------------------------------------------------------


def test_an_offer_is_taken_and_its_hook_returns(fleet: Fleet) -> None:
    hook = fleet.old.node.start(*fleet.old.program("drain", "--offer"), log="hook")
    wait_until(lambda: fleet.operator.status(fleet.old).offering, 5, "the offer")
    assert fleet.log.settled(time.monotonic() - 1), "nothing is frozen"
    fleet.operator.hand_over(fleet.old, fleet.new, fleet.service, term=TERM + 1)
    assert hook.wait() == 0
    assert "another pod took over" in hook.output()


def test_an_offer_is_declined_and_its_hook_returns(fleet: Fleet) -> None:
    began = time.monotonic()
    hook = fleet.old.node.start(*fleet.old.program("drain", "--offer"), log="hook")
    wait_until(lambda: fleet.operator.status(fleet.old).offering, 5, "the offer")
    fleet.operator.call(fleet.old, lambda s: s.thaw(term=TERM))
    assert hook.wait() == 0
    assert "there is no successor" in hook.output()
    assert fleet.wait_for_answers(began) < 2, "nothing was frozen"
    assert not fleet.handshakes(began)


def test_an_offer_that_nobody_sees_does_not_wait_for_long(fleet: Fleet) -> None:
    began = time.monotonic()
    told = fleet.old.handfast("drain", "--offer")
    assert "the operator does not call" in told
    assert time.monotonic() - began < 5
    assert fleet.wait_for_answers(began) < 2
    assert fleet.role(fleet.old) is Role.ACTIVE


def test_an_offer_ends_with_its_time(fleet: Fleet) -> None:
    hook = fleet.old.node.start(*fleet.old.program("drain", "--offer", "--seconds=1"), log="hook")
    while hook.poll() is None:
        fleet.operator.status(fleet.old)
    assert hook.wait() == 0
    assert "nobody took over within 1 s" in hook.output()


def test_hooks_succeed_where_nobody_answers(network: Network) -> None:
    (host,) = network.add("empty")
    for hook in (("drain", "--offer"), ("handshake", "--no-wait")):
        done = host.node.attempt(Pod.PROGRAM, *hook)
        assert done.returncode == 0
        assert "no tunnel answers" in done.stderr


def test_the_start_hook_leaves_sessions_alone_that_go_on(
    network: Network, wireguard_go: Implementation, probes: Probes
) -> None:
    fleet = fleet_of(network, wireguard_go, probes, announce="always")
    began = time.monotonic()
    fleet.old.running.kill()
    fleet.old.start()
    assert "0 peers" in fleet.old.handfast("handshake", "--no-wait")
    assert fleet.wait_for_answers(began) < 10
    assert fleet.method(fleet.old) == "resumed"
    assert not fleet.handshakes(began)


def test_where_a_pod_may_not_announce_only_people_have_it_greet(fleet: Fleet) -> None:
    began = time.monotonic()
    assert "0 peers" in fleet.old.handfast("handshake", "--no-wait")
    time.sleep(0.5)
    assert not fleet.handshakes(began)
    assert "1 peer" in fleet.old.handfast("handshake")
    fleet.on_client_cable.wait(Message.INITIATION, source=fleet.client.host.router_ipv4, since=began)
