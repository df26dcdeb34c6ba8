"""What is written for a Tunnel and its Peers, in which order, and how often."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from handfast_operator import certificates, client_config, documents, keys, membership, status
from handfast_operator.clients import Clients
from handfast_operator.membership import PeerObject
from handfast_operator.reconciler import FULL_CHECK_SECONDS, Reconciler
from handfast_operator.settings import Settings
from handfast_operator.store import Conflict
from handfast_operator.tunnel_state import TunnelState
from handfast_tunnel.control import Configuration

from .fake_store import FakeStore
from .objects import peer_body, tunnel_object

NOW = 1_750_000_000.0
_AUTHORITY = certificates.make_authority(NOW)


@dataclass
class Authority:
    credentials: certificates.Credentials = _AUTHORITY


@dataclass
class Bench:
    """One Tunnel with Peers, and operators that look after it one after the other."""

    store: FakeStore = field(default_factory=FakeStore)
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    reconciler: Reconciler | None = None
    now: float = NOW
    heard: list[tuple[str, str]] = field(default_factory=list)
    """Of which Peer events told, and their reasons."""

    def add(self, *names: str, **spec: Any) -> None:
        for name in names:
            self.peers[name] = peer_body(name, **spec)

    def new_operator(self) -> None:
        self.reconciler = None

    def look(self, confirmed: bool = True) -> float:
        """One look; then all pods have what is written, unless they are not `confirmed`."""
        return asyncio.run(self._look(confirmed))

    async def _look(self, confirmed: bool) -> float:
        status = self.store.statuses.get(("Tunnel", "office"), {})
        tunnel = tunnel_object(status, **{"gateway": {"exposure": "ClusterIP"}, **self.spec})
        if self.reconciler is None:
            state = TunnelState(tunnel, endpoint="10.96.0.9:51820")
            store = cast(Any, self.store)
            clients = Clients(store, state, self._hear)
            self.reconciler = Reconciler(store, Settings(), Authority(), state, clients)
        self.reconciler.state.tunnel = tunnel
        due = await self.reconciler.reconcile([self.parsed(name) for name in self.peers], self.now)
        state = self.reconciler.state
        if state.key is not None:
            self.store.statuses["Tunnel", "office"] = {
                "publicKey": state.key.public,
                "configGeneration": state.config.generation if state.config else 0,
            }
        if confirmed and state.config is not None:
            state.confirmed = state.config.generation
        await self.reconciler.clients.write_statuses(self.now)
        return due

    async def _hear(self, subject: Any, type: str, reason: str, message: str) -> None:
        assert type == "Warning"
        assert message
        self.heard.append((subject["name"], reason))

    def parsed(self, name: str) -> PeerObject:
        return PeerObject.parse({**self.peers[name], "status": self.store.statuses.get(("Peer", name), {})})

    @property
    def config(self) -> Configuration:
        secret = self.store.secret("office-handfast-config")
        assert secret is not None
        return Configuration.parse(base64.b64decode(secret["data"]["config.jsonl.gz"]))

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        conditions = self.store.statuses["Peer", name]["conditions"]
        (found,) = [each for each in conditions if each["type"] == kind]
        return found["status"], found["reason"]

    def finding(self, kind: str) -> str:
        assert self.reconciler is not None
        return self.reconciler.state.findings[kind].reason


@pytest.fixture
def bench() -> Bench:
    bench = Bench()
    bench.add("alice", "bob")
    return bench


def test_all_that_a_tunnel_needs(bench: Bench) -> None:
    bench.look()
    assert {name for kind, name in bench.store.objects if kind == "Secret"} == {
        "office-handfast-key",
        "office-handfast-tls",
        "office-handfast-config",
        "alice-handfast",
        "bob-handfast",
    }
    assert {peer.name for peer in bench.config.peers.values()} == {"alice", "bob"}
    assert bench.condition("alice", "Ready") == ("True", "Ready")
    assert bench.store.statuses["Peer", "alice"]["configGeneration"] == 1


def test_a_client_is_given_what_the_pods_are(bench: Bench) -> None:
    bench.look()
    secret = bench.store.secret("alice-handfast")
    assert secret is not None
    values = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    line = next(peer for peer in bench.config.peers.values() if peer.name == "alice")
    assert keys.pair(values["privateKey"]).public == values["publicKey"] == line.public_key
    assert values["presharedKey"] == line.preshared_key
    assert values["privateKey"] in values["wg0.conf"]
    assert ", ".join(line.allowed_ips) in values["wg0.conf"]
    assert [each["kind"] for each in secret["metadata"]["ownerReferences"]] == ["Peer"]


def test_secrets_come_before_what_says_so(bench: Bench) -> None:
    bench.look()
    order = [each for each in bench.store.history if not each.startswith("get")]
    assert order.index("create Secret office-handfast-config") < order.index("status Peer alice")
    assert order.index("apply Secret alice-handfast") < order.index("status Peer alice")


def test_a_second_look_writes_nothing(bench: Bench) -> None:
    bench.look()
    bench.store.forget_calls()
    bench.look()
    assert bench.store.writes() == []


def test_statuses_that_were_written_and_not_yet_seen_are_not_written_again(bench: Bench) -> None:
    bench.look()
    bench.store.forget_calls()
    assert bench.reconciler is not None
    asyncio.run(bench.reconciler.clients.write_statuses(bench.now + 5))
    assert bench.store.writes() == []


def test_a_new_operator_writes_nothing_of_peers_and_reads_none_of_their_secrets(bench: Bench) -> None:
    bench.look()
    bench.store.forget_calls()
    bench.new_operator()
    bench.look()
    about_peers = [each for each in bench.store.history if "alice" in each or "bob" in each]
    assert about_peers == []
    assert bench.config.generation == 1


def test_nothing_is_said_before_a_pod_has_confirmed(bench: Bench) -> None:
    bench.look(confirmed=False)
    assert bench.condition("alice", "Programmed") == ("False", "Pending")
    bench.look()
    assert bench.condition("alice", "Programmed") == ("True", "Programmed")


def test_one_more_peer_is_one_generation_and_four_calls(bench: Bench) -> None:
    bench.look()
    bench.store.forget_calls()
    bench.add("carol")
    bench.look()
    assert bench.config.generation == 2
    assert bench.store.writes() == [
        "merge Secret office-handfast-config",
        "apply Secret carol-handfast",
        "status Peer carol",
    ]
    assert bench.store.statuses["Peer", "carol"]["configGeneration"] == 2


def test_a_removed_peer_is_not_served(bench: Bench) -> None:
    bench.look()
    del bench.peers["bob"]
    bench.look()
    assert [peer.name for peer in bench.config.peers.values()] == ["alice"]


def test_a_peer_expires_when_it_says(bench: Bench) -> None:
    bench.add("guest", expiresAt="2025-06-15T15:10:00Z")
    due = bench.look()
    assert due == 1750000200.0
    assert "guest" in {peer.name for peer in bench.config.peers.values()}
    bench.now = due
    bench.look()
    assert "guest" not in {peer.name for peer in bench.config.peers.values()}
    assert bench.condition("guest", "Programmed") == ("False", "Expired")


def test_a_deleted_peer_secret_is_told_and_the_peer_served_as_before(bench: Bench) -> None:
    bench.look()
    before = bench.config
    del bench.store.objects["Secret", "alice-handfast"]
    bench.now += FULL_CHECK_SECONDS
    due = bench.look()
    assert bench.condition("alice", "ConfigReady") == ("False", "KeyMissing")
    assert bench.condition("alice", "Programmed") == ("True", "Programmed")
    assert bench.config == before
    assert due <= bench.now + 10
    assert bench.heard == [("alice", "KeyMissing")]
    assert bench.store.secret("alice-handfast") is None


def test_an_edited_client_file_is_mended(bench: Bench) -> None:
    bench.look()
    secret = bench.store.secret("alice-handfast")
    assert secret is not None
    bench.store.edit("Secret", "alice-handfast", data={"wg0.conf": "bm9uc2Vuc2U="})
    bench.now += FULL_CHECK_SECONDS
    bench.look()
    mended = bench.store.secret("alice-handfast")
    assert mended is not None
    assert mended["data"] == secret["data"]


def test_refusals_are_told_once_each_and_again_when_they_change(bench: Bench) -> None:
    bench.look()
    assert bench.heard == []
    bench.add("carol", addresses=["10.8.0.1"])
    bench.look()
    bench.look()
    bench.new_operator()
    bench.look()
    assert bench.heard == [("carol", "AddressConflict")]
    bench.add("carol", publicKey=bench.store.statuses["Peer", "alice"]["publicKey"])
    bench.look()
    assert bench.heard[1:] == [("carol", "DuplicateKey")]


def test_a_peer_that_was_refused_gets_its_key_when_it_is_accepted(bench: Bench) -> None:
    """Also from another operator than the one that refused it."""
    bench.add("carol", addresses=["10.8.0.1"])
    bench.look()
    bench.new_operator()
    bench.add("carol", addresses=["10.8.0.9"])
    bench.look()
    assert bench.condition("carol", "ConfigReady") == ("True", "Written")
    assert bench.store.secret("carol-handfast") is not None


@pytest.mark.parametrize("damage", ["deleted", "edited"])
def test_a_damaged_configuration_goes_on_above_the_last_generation(bench: Bench, damage: str) -> None:
    """A pod refuses what is not above what it has."""
    bench.look()
    bench.add("carol")
    bench.look()
    before = bench.config
    if damage == "deleted":
        del bench.store.objects["Secret", "office-handfast-config"]
    else:
        bench.store.edit("Secret", "office-handfast-config", data={"config.jsonl.gz": "bm9uc2Vuc2U="})
    bench.now += FULL_CHECK_SECONDS
    bench.look()
    assert bench.config == before.at(3)


def test_somebody_else_writes_the_configuration_meanwhile(bench: Bench) -> None:
    bench.look()
    bench.store.edit("Secret", "office-handfast-config", metadata={"annotations": {"note": "mine"}})
    bench.add("carol")
    with pytest.raises(Conflict):
        bench.look()
    bench.look()
    assert bench.config.generation == 2


def test_a_lost_private_key_changes_nothing(bench: Bench) -> None:
    bench.look()
    before = bench.config
    del bench.store.objects["Secret", "office-handfast-key"]
    bench.new_operator()
    bench.add("carol")
    due = bench.look()
    assert bench.finding("KeyAvailable") == "KeyMissing"
    assert bench.config.tunnel == before.tunnel
    assert "carol" in {peer.name for peer in bench.config.peers.values()}
    assert bench.store.secret("office-handfast-key") is None
    assert due <= bench.now + 10


def test_a_replaced_private_key_is_not_used(bench: Bench) -> None:
    bench.look()
    before = bench.config
    other = base64.b64encode(keys.generate().private.encode()).decode()
    bench.store.edit("Secret", "office-handfast-key", data={"privateKey": other})
    bench.new_operator()
    bench.look()
    assert bench.finding("KeyAvailable") == "KeyChanged"
    assert bench.config == before


def test_a_retained_key_serves_a_new_tunnel_of_the_name(bench: Bench) -> None:
    bench.look()
    before = bench.config.tunnel.private_key
    key = bench.store.objects["Secret", "office-handfast-key"]
    assert "ownerReferences" not in key["metadata"]
    fresh = Bench()
    fresh.store.objects["Secret", "office-handfast-key"] = key
    fresh.look()
    assert fresh.config.tunnel.private_key == before


def test_a_key_of_ones_own_is_waited_for(bench: Bench) -> None:
    bench.spec = {"privateKeySecretRef": {"name": "mine", "key": "k"}}
    assert bench.look() <= bench.now + 10
    assert bench.finding("KeyAvailable") == "KeyMissing"
    assert bench.store.secret("office-handfast-config") is None
    pair = keys.generate()
    data = {"k": base64.b64encode(pair.private.encode()).decode()}
    bench.store.objects["Secret", "mine"] = {"metadata": {"name": "mine"}, "data": data}
    bench.look()
    assert bench.config.tunnel.private_key == pair.private


@pytest.mark.parametrize("restarted", [False, True])
def test_another_value_behind_the_same_reference_is_not_served(bench: Bench, restarted: bool) -> None:
    """Clients would lose the gateway without a word; whoever wants that names another Secret."""
    first, second = keys.generate(), keys.generate()
    put_key(bench, "mine", first.private)
    bench.spec = {"privateKeySecretRef": {"name": "mine", "key": "k"}}
    bench.look()
    before = bench.config
    put_key(bench, "mine", second.private)
    if restarted:
        bench.new_operator()
    bench.look()
    assert bench.finding("KeyAvailable") == "KeyChanged"
    assert bench.config == before
    put_key(bench, "mine", first.private)
    bench.look()
    assert bench.finding("KeyAvailable") == "Available"


@pytest.mark.parametrize("restarted", [False, True])
def test_another_reference_is_another_key(bench: Bench, restarted: bool) -> None:
    bench.look()
    before = bench.config.tunnel.private_key
    bench.spec = {"privateKeySecretRef": {"name": "mine", "key": "k"}}
    bench.look()
    assert bench.finding("KeyAvailable") == "KeyMissing"
    assert bench.config.tunnel.private_key == before
    if restarted:
        bench.new_operator()
    pair = keys.generate()
    put_key(bench, "mine", pair.private)
    bench.look()
    assert bench.finding("KeyAvailable") == "Available"
    assert bench.config.tunnel.private_key == pair.private
    secret = bench.store.secret("alice-handfast")
    assert secret is not None
    assert pair.public in base64.b64decode(secret["data"]["wg0.conf"]).decode()


def put_key(bench: Bench, name: str, private: str) -> None:
    data = {"k": base64.b64encode(private.encode()).decode()}
    bench.store.objects["Secret", name] = {"metadata": {"name": name}, "data": data}


def test_somebody_elses_objects_are_left_alone(bench: Bench) -> None:
    theirs = {"metadata": {"name": "office", "resourceVersion": "1"}, "spec": {"theirs": True}}
    bench.store.objects["Service", "office"] = theirs
    bench.store.objects["Secret", "alice-handfast"] = {"metadata": {"name": "alice-handfast"}, "data": {}}
    bench.look()
    assert bench.store.objects["Service", "office"] == theirs
    assert bench.finding("Degraded") == "NameTaken"
    assert bench.condition("alice", "ConfigReady") == ("False", "NameTaken")
    assert bench.store.objects["Secret", "alice-handfast"]["data"] == {}


def test_what_is_not_wanted_any_more_goes(bench: Bench) -> None:
    bench.look()
    assert ("PodDisruptionBudget", "office") in bench.store.objects
    bench.spec = {"gateway": {"exposure": "ClusterIP", "replicas": 1}}
    bench.look()
    assert ("PodDisruptionBudget", "office") not in bench.store.objects


def test_certificates_are_renewed_after_ten_days(bench: Bench) -> None:
    due = bench.look()
    first = bench.store.secret("office-handfast-tls")
    bench.now += 11 * 24 * 3600
    bench.look()
    second = bench.store.secret("office-handfast-tls")
    assert due <= NOW + FULL_CHECK_SECONDS
    assert first is not None
    assert second is not None
    assert first["data"]["tls.crt"] != second["data"]["tls.crt"]
    assert first["data"]["ca.crt"] == second["data"]["ca.crt"]


def test_an_unknown_endpoint_withholds_the_clients_file(bench: Bench) -> None:
    bench.look()
    assert bench.reconciler is not None
    bench.reconciler.state.endpoint = None
    bench.add("carol")
    bench.look()
    secret = bench.store.secret("carol-handfast")
    assert secret is not None
    assert "wg0.conf" not in secret["data"]
    assert bench.condition("carol", "ConfigReady")[1] == "EndpointUnknown"


def test_an_endpoint_that_is_found_is_told_to_all(bench: Bench) -> None:
    bench.look()
    bench.look()
    assert bench.reconciler is not None
    state = bench.reconciler.state
    found = state.endpoint
    for endpoint, condition in ((None, "EndpointUnknown"), (found, "Written"), (None, "EndpointUnknown")):
        state.endpoint = endpoint
        bench.look()
        bench.look()
        assert {bench.condition(name, "ConfigReady")[1] for name in ("alice", "bob")} == {condition}


def test_a_status_that_could_not_be_written_is_written_with_the_next_look(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.look()
    bench.look()

    async def one_at_a_time() -> None:
        """Both loops write statuses: one has begun, and fails, while the other looks."""
        assert bench.reconciler is not None
        clients = bench.reconciler.clients
        begun, may_fail = asyncio.Event(), asyncio.Event()

        async def fails(*_: Any) -> Any:
            begun.set()
            await may_fail.wait()
            raise ConnectionError

        monkeypatch.setattr(bench.store, "apply_status", fails)
        bench.reconciler.state.endpoint, bench.reconciler.state.endpoint_reason = None, "it is waited for"
        first = asyncio.create_task(clients.write_statuses(NOW))
        await begun.wait()
        second = asyncio.create_task(clients.write_statuses(NOW))
        await asyncio.sleep(0)
        may_fail.set()
        await asyncio.gather(first, second, return_exceptions=True)
        monkeypatch.undo()

    asyncio.run(one_at_a_time())
    bench.look()
    assert {bench.condition(name, "ConfigReady")[1] for name in ("alice", "bob")} == {"EndpointUnknown"}


def test_a_rotated_key(bench: Bench) -> None:
    bench.look()
    before = bench.store.statuses["Peer", "alice"]["publicKey"]
    bench.add("alice", keyRotation=1)
    bench.look()
    after = bench.store.statuses["Peer", "alice"]["publicKey"]
    assert before != after
    assert before not in bench.config.peers
    assert after in bench.config.peers
    bench.new_operator()
    bench.look()
    assert bench.store.statuses["Peer", "alice"]["publicKey"] == after


def test_too_many_peers_keep_the_last_configuration(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.look()
    before = bench.config
    monkeypatch.setattr("handfast_operator.documents.MOST_BYTES", 100)
    bench.add("carol")
    bench.look()
    assert bench.finding("Degraded") == "TooManyPeers"
    assert bench.config == before
    assert bench.condition("carol", "Programmed") == ("False", "Pending")


def test_a_change_makes_anew_what_is_that_peers(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others are looked at, but cost little."""
    bench.add(*(f"p{number}" for number in range(50)))
    bench.look()
    bench.look()
    made: list[str] = []
    render, line, say, admit = client_config.render, documents.peer, status.peer, membership.admit

    def rendered(title: str, *arguments: Any) -> str:
        made.append(title.partition(",")[0])
        return render(title, *arguments)

    def lined(spec: Any, name: str, *arguments: Any) -> Any:
        made.append(name)
        return line(spec, name, *arguments)

    def said(member: Any, *arguments: Any) -> Any:
        made.append(f"{member.peer.name} in words")
        return say(member, *arguments)

    def compared(*arguments: Any) -> Any:
        made.append("all of them")
        return admit(*arguments)

    monkeypatch.setattr(client_config, "render", rendered)
    monkeypatch.setattr(documents, "peer", lined)
    monkeypatch.setattr(status, "peer", said)
    monkeypatch.setattr(membership, "admit", compared)
    bench.peers["p7"]["spec"]["persistentKeepalive"] = 25
    bench.peers["p7"]["metadata"]["generation"] = 2
    bench.look()
    assert sorted(made) == ["p7", "p7", "p7 in words"]
    assert {peer.name for peer in bench.config.peers.values() if peer.persistent_keepalive} == {"p7"}


def test_what_is_so_again_is_said_again(bench: Bench) -> None:
    bench.look()
    bench.look()
    key = bench.store.statuses["Peer", "alice"]["publicKey"]
    assert bench.reconciler is not None
    for connected in (True, False, True):
        bench.reconciler.state.connected = {key: connected}
        bench.look()
        assert bench.store.statuses["Peer", "alice"]["connected"] is connected


def test_a_peer_is_disabled_and_enabled_again(bench: Bench) -> None:
    bench.look()
    before = bench.store.statuses["Peer", "alice"]["addresses"]
    for generation, disabled in enumerate((True, False, True), 2):
        bench.peers["alice"]["spec"]["disabled"] = disabled
        bench.peers["alice"]["metadata"]["generation"] = generation
        bench.look()
        assert ("alice" in {peer.name for peer in bench.config.peers.values()}) is not disabled
        wanted = ("False", "Disabled") if disabled else ("True", "Programmed")
        assert bench.condition("alice", "Programmed") == wanted
    assert bench.store.statuses["Peer", "alice"]["addresses"] == before


def test_calls_for_a_thousand_peers() -> None:
    """Three for each new one (is its Secret there, the Secret, the status), and then none."""
    bench = Bench()
    bench.add(*(f"p{number}" for number in range(1000)))
    bench.spec = {"pools": [{"cidr": "10.8.0.0/16"}, {"cidr": "fd00:8::/64"}]}
    bench.look()
    assert bench.store.calls["status Peer"] == 1000
    assert bench.store.calls["get Secret"] <= 1000 + 5
    assert sum(bench.store.calls.values()) <= 3 * 1000 + 20
    bench.store.forget_calls()
    bench.new_operator()
    bench.look()
    assert sum(bench.store.calls.values()) <= 20
