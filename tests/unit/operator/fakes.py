"""An API server and pods in memory, and an operator that can end after any of its calls.

The pods' roles are decided by the table that real pods obey (`handfast_tunnel.control.roles`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, cast

from handfast_operator import names
from handfast_operator.conductor import Conductor
from handfast_operator.tunnel_state import PodObject, TunnelState
from handfast_tunnel.control import (
    Configuration,
    ControlError,
    Export,
    News,
    PeerStatus,
    Role,
    SealedAccount,
    Status,
)
from handfast_tunnel.control.roles import Call, Event, Standing, step
from handfast_tunnel.control.status import ForwardingStatus, Listed, RecoveryProgress

from .objects import OWNER, tunnel_object


class KilledError(BaseException):
    """The operator ended."""


@dataclass
class Operators:
    """Counts calls, of whatever kind, and ends the operator that makes the last one allowed."""

    left: int | None = None

    def call(self) -> None:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise KilledError


@dataclass
class FakePod:
    """One pod, as its control API shows it."""

    name: str
    world: FakeWorld
    standing: Standing = field(default_factory=Standing)
    generation: int = 1
    terminating: bool = False
    reachable: bool = True
    dies_when_selected: bool = False
    labelled: bool = True
    created: str = "1"
    template: str = "a"
    node: str = "n1"
    took: list[str] = field(default_factory=list)
    """Exports, in order."""
    stamped_above: list[str | None] = field(default_factory=list)
    """With each of those: up to where others may have stamped."""
    sessions: list[str] = field(default_factory=list)
    """What it would tell of next."""
    learned: list[str] = field(default_factory=list)
    """Of whose sessions it knows besides."""
    peers: tuple[PeerStatus, ...] = ()

    def object(self) -> PodObject:
        return PodObject(
            name=self.name,
            uid=f"uid-of-{self.name}",
            created=self.created,
            node=self.node,
            address=self.name,
            host_address="10.0.0.1",
            ready=True,
            terminating=self.terminating,
            template=self.template,
            labelled=self.labelled,
            cost="",
            over=False,
        )

    def answer(self) -> Status:
        self.apply(Call(Event.TIME, now=self.world.now))
        return Status(
            role=self.standing.role,
            term=self.standing.term,
            heard=self.standing.heard,
            generation=self.generation,
            incarnation=1,
            offering=False,
            draining=None,
            pod_uid=f"uid-of-{self.name}",
            uid=OWNER.uid,
            public_key="",
            interface="wg0",
            listen_port=51820,
            mtu=1420,
            forwarding=ForwardingStatus(),
            recovery=RecoveryProgress(),
            connected=0,
            max_received_age=None,
            control_age=None,
            outbound_stamp=None,
            known_sessions=len(self.learned),
            peers=self.peers,
        )

    def apply(self, call: Call) -> None:
        self.standing = step(self.standing, replace(call, now=self.world.now))


@dataclass
class FakeClient:
    """What `ControlClient` is to a real pod."""

    pod: FakePod

    def _reach(self) -> None:
        self.pod.world.operators.call()
        if not self.pod.reachable:
            raise ControlError("no answer")

    async def status(self, *, peers: Listed = "all") -> Status:
        self._reach()
        return self.pod.answer()

    async def put_config(self, configuration: Configuration, *, term: int | None = None) -> Status:
        self._reach()
        if term is not None:
            self.pod.apply(Call(Event.HEAR, term))
        self.pod.generation = configuration.generation
        return self.pod.answer()

    async def drain(self, *, term: int, generation: int, successor_uid: str, seconds: float) -> Export:
        self._reach()
        self.pod.apply(
            Call(Event.DRAIN, term, digest=successor_uid, successor=successor_uid, seconds=seconds)
        )
        return cast(Export, f"export of {self.pod.name} for {successor_uid}")

    async def activate(
        self, *, term: int, generation: int, export: Export | None, outbound_timestamp_ceiling: str | None
    ) -> Status:
        self._reach()
        self.pod.apply(Call(Event.ACTIVATE, term, digest=str(export), has_export=export is not None))
        self.pod.took.append(str(export))
        self.pod.stamped_above.append(outbound_timestamp_ceiling)
        return self.pod.answer()

    async def sessions(self, since: float) -> News:
        """New ones have no names but the moment that they are told at; 0 asks for all."""
        self._reach()
        pod = self.pod
        told = pod.sessions[int(since) :] if since else [*pod.learned, *pod.sessions]
        sealed = SealedAccount(json.dumps(told).encode(), b"") if told else None
        return News(len(pod.sessions) + 0.5, pod.generation, sealed)

    async def tell_sessions(self, accounts: Iterable[SealedAccount]) -> Status:
        self._reach()
        assert self.pod.standing.role is Role.STANDBY
        for account in accounts:
            self.pod.learned += [each for each in json.loads(account.body) if each not in self.pod.learned]
        return self.pod.answer()

    async def commit(self, *, term: int) -> Status:
        self._reach()
        self.pod.apply(Call(Event.COMMIT, term))
        return self.pod.answer()

    async def thaw(self, *, term: int) -> Status:
        self._reach()
        self.pod.apply(Call(Event.THAW, term))
        return self.pod.answer()


@dataclass
class FakeWorld:
    """All that outlives an operator."""

    pods: list[FakePod] = field(default_factory=list)
    selected: str | None = None
    operators: Operators = field(default_factory=Operators)
    now: float = 0.0
    lease: int = 1
    lost_nodes: set[str] = field(default_factory=set)
    events: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, **more: Any) -> FakePod:
        pod = FakePod(name, self, **more)
        self.pods.append(pod)
        return pod

    def lose_node_of(self, pod: FakePod) -> None:
        pod.reachable, pod.node = False, "lost"
        self.lost_nodes.add("lost")

    def operator(self) -> tuple[Conductor, TunnelState]:
        """A new leader, which knows what the API server tells."""
        self.lease += 1
        self.operators = Operators()
        state = TunnelState(tunnel_object(self.status))
        state.selected = self.selected
        state.active = dict(self.status["active"]) if "active" in self.status else None
        state.ceiling = self.status.get("outboundTimestampCeiling", "")

        async def write_down() -> None:
            self.operators.call()
            self.note(state)

        return (
            Conductor(cast(Any, self), cast(Any, self), state, lambda: self.lease, self.announce, write_down),
            state,
        )

    async def tick(self, conductor: Conductor, state: TunnelState) -> None:
        await conductor.tick([pod.object() for pod in self.pods], woken=True)
        self.note(state)

    def note(self, state: TunnelState) -> None:
        """What the operator writes down."""
        if state.active is not None:
            self.status["active"] = state.active
        self.status["outboundTimestampCeiling"] = state.ceiling

    def active(self) -> list[str]:
        return [pod.name for pod in self.pods if pod.standing.role is Role.ACTIVE]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for pod in self.pods:
            pod.answer()

    # As a store

    async def merge(
        self, api: str, kind: str, namespace: str, name: str, patch: dict[str, Any], manager: str = ""
    ) -> dict[str, Any]:
        self.operators.call()
        if kind == "Service":
            self.selected = patch["spec"]["selector"][names.POD_LABEL]
            self.pods = [
                pod for pod in self.pods if not (pod.dies_when_selected and pod.name == self.selected)
            ]
        return patch

    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> dict[str, Any] | None:
        self.operators.call()
        assert kind == "Node"
        ready = "Unknown" if name in self.lost_nodes else "True"
        return {"status": {"conditions": [{"type": "Ready", "status": ready}]}}

    async def apply(self, body: dict[str, Any], manager: str = "") -> dict[str, Any]:
        self.operators.call()
        return body

    async def announce(self, type: str, reason: str, message: str) -> None:
        self.events.append(reason)

    # As sidecars

    async def at(self, address: str, namespace: str, tunnel: str) -> FakeClient:
        pod = next((pod for pod in self.pods if pod.name == address), None)
        if pod is None:
            raise ControlError("nobody is there")
        return FakeClient(pod)


def of_two_pods(names: Iterable[str] = ("old", "new")) -> FakeWorld:
    world = FakeWorld()
    for name in names:
        world.add(name)
    return world
