"""Configuration by the control API: whole, by difference, by the mount, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handfast_tunnel.adapters.text import parse_base64_key
from handfast_tunnel.control import (
    Configuration,
    Patch,
    PeerSpec,
    Role,
)
from handfast_tunnel.pod import accepted, api
from handfast_tunnel.pod.surroundings import SurroundingsError

from .calls import Ask, newer, peers_of, refused, with_peers
from .conftest import ACTIVE, CONFIGURATION, SPEC, Pod, key


def test_a_newer_configuration_is_in_force_and_stored_before_the_answer(active: Pod, ask: Ask) -> None:
    status = ask(active, lambda s: s.put_config(with_peers(3, 7), term=3))
    assert status.generation == 6
    assert peers_of(active) == {3, 7}
    assert active.accepted.load_configuration() == with_peers(3, 7)
    assert ask(active, lambda s: s.put_config(with_peers(3, 7), term=3)).generation == 6


def test_an_older_one_is_refused(active: Pod, ask: Ask) -> None:
    assert refused(ask, active, lambda s: s.put_config(CONFIGURATION.at(4))).status == 409
    assert refused(ask, active, lambda s: s.put_config(with_peers(9).at(5))).status == 409
    assert active.gateway.configuration == CONFIGURATION
    assert peers_of(active) == {2, 3, 4}


@pytest.mark.parametrize(
    "change",
    [{"name": "cellar"}, {"namespace": "x"}, {"uid": "x"}, {"interface": "wg1"}, {"private_key": key(77)}],
)
def test_another_tunnels_is_refused(active: Pod, ask: Ask, change: dict[str, str]) -> None:
    answer = refused(ask, active, lambda s: s.put_config(newer(tunnel=replace(SPEC, **change))))  # type: ignore[arg-type]
    assert answer.status == 422
    assert next(iter(change)) in answer.why
    assert active.gateway.configuration == CONFIGURATION


def test_what_the_kernel_refuses_is_taken_back(active: Pod, ask: Ask) -> None:
    active.surroundings.failure = SurroundingsError("the kernel refused 10.9.0.1/24")
    spec = replace(SPEC, addresses=("10.9.0.1/24",))
    answer = refused(ask, active, lambda s: s.put_config(newer(tunnel=spec)))
    assert (answer.status, answer.why) == (422, "the kernel refused 10.9.0.1/24")
    assert active.surroundings.specs == [spec, SPEC]
    assert active.gateway.configuration == CONFIGURATION
    assert active.accepted.load_configuration() is None


def test_what_the_secret_says_comes_by_the_mount_too(
    pods: Callable[[str], Pod], ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "FOLLOW_INTERVAL", 0.02)
    pod = pods("a").start(standing=ACTIVE)

    def mount(configuration: Configuration) -> None:
        (pod.mounted / "new").write_bytes(configuration.dump())
        (pod.mounted / "new").replace(pod.mounted / "config.jsonl.gz")

    def wait_for(generation: int) -> None:
        deadline = time.monotonic() + 10
        while ask(pod, lambda s: s.status()).generation != generation:
            assert time.monotonic() < deadline

    mount(with_peers(3, 9))
    wait_for(6)
    assert peers_of(pod) == {3, 9}
    assert pod.accepted.load_configuration() == with_peers(3, 9)
    mount(with_peers(3).at(4))
    mount(replace(with_peers(3).at(7), tunnel=replace(SPEC, uid="another")))
    mount(with_peers(8).at(8))
    wait_for(8)
    assert peers_of(pod) == {8}
    mount(with_peers(3).at(7))
    time.sleep(0.2)
    assert pod.gateway.configuration == with_peers(8).at(8), "an older one is late, not new"


def test_what_the_operator_has_told_of_is_not_read_from_the_mount(
    pods: Callable[[str], Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "FOLLOW_INTERVAL", 0.02)
    pod = pods("a").start(standing=ACTIVE)
    read: list[str] = []

    def load(path: Path, parse: Any) -> Any:
        read.append(parse.__name__)
        return accepted.load(path, parse)

    monkeypatch.setattr(api, "load", load)
    deadline = time.monotonic() + 10
    for generation, looks in ((5, 1), (6, 3)):
        (pod.mounted / "new").write_bytes(with_peers(3, 9).at(generation).dump())
        (pod.mounted / "new").replace(pod.mounted / "config.jsonl.gz")
        while len(read) < looks:
            assert time.monotonic() < deadline
    assert read == ["outline", "outline", "parse"]


def test_peers_by_difference(active: Pod, ask: Ask) -> None:
    patch = Patch(6, 5, (PeerSpec(key(9), None, ("10.8.0.9/32",)),), (key(2),))
    status = ask(active, lambda s: s.patch_peers(patch))
    assert status.generation == 6
    assert peers_of(active) == {3, 4, 9}
    assert active.accepted.load_configuration() == CONFIGURATION.patched(patch)
    assert ask(active, lambda s: s.patch_peers(patch)).generation == 6, "its answer may have been lost"


def test_a_difference_to_something_else_is_refused(active: Pod, ask: Ask) -> None:
    patch = Patch(8, 7, (PeerSpec(key(9)),))
    answer = refused(ask, active, lambda s: s.patch_peers(patch))
    assert answer.status == 409
    assert "generation 5" in answer.why
    other = Patch(5, 4, (PeerSpec(key(9)),))
    assert refused(ask, active, lambda s: s.patch_peers(other)).status == 409


def test_a_peer_that_roamed_stays_where_it_is(active: Pod, ask: Ask) -> None:
    peer = active.tunnel.device.peers[parse_base64_key(key(2))]
    assert str(peer.endpoint) == "192.0.2.2:7"
    assert peer.endpoint is not None
    peer.endpoint = peer.endpoint._replace(host="198.51.100.9")
    ask(active, lambda s: s.put_config(CONFIGURATION.at(6)))
    assert str(peer.endpoint) == "198.51.100.9:7"
    changed = replace(CONFIGURATION.peers[key(2)], endpoint="192.0.2.77:7")
    ask(active, lambda s: s.patch_peers(Patch(7, 6, (changed,))))
    assert str(peer.endpoint) == "192.0.2.77:7"


def test_a_higher_term_displaces(active: Pod, ask: Ask) -> None:
    status = ask(active, lambda s: s.put_config(CONFIGURATION, term=4))
    assert (status.role, status.term) == (Role.STANDBY, 4)
    assert active.tunnel.device.frozen
    assert refused(ask, active, lambda s: s.put_config(with_peers(3), term=3)).status == 409


def test_a_status_lists_all_peers_or_those_that_were_heard_or_none(active: Pod, ask: Ask) -> None:
    known = PeerSpec(key(3), None, ("10.8.0.3/32",), "192.0.2.3:7")
    ask(active, lambda s: s.put_config(newer(peers={known.public_key: known, key(9): PeerSpec(key(9))})))

    def listed(which: Any) -> set[str] | None:
        peers = ask(active, lambda s: s.status(peers=which)).peers
        return None if peers is None else {peer.public_key for peer in peers}

    assert listed("all") == {key(3), key(9)}
    assert listed("heard") == {key(3)}
    assert listed("none") is None
