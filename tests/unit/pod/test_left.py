"""What a pod's process leaves for the next one, and that it is never believed where it is not the newest."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from handfast_tunnel.control import Configuration, Patch, PeerSpec
from handfast_tunnel.core.device import Device
from handfast_tunnel.pod import gateway as gateway_module
from handfast_tunnel.pod import translate
from handfast_tunnel.pod.accepted import (
    JOURNAL_FILE,
    Accepted,
    load_newest,
    newest_outline,
)
from handfast_tunnel.pod.left import Left

from .calls import Ask, peers_of
from .conftest import ACTIVE, CONFIGURATION, SPEC, Pod, key, mount


def device_of(configuration: Configuration) -> Device:
    device = Device()
    device.configure(translate.whole(configuration, None), 0.0)
    return device


def save(left: Left, configuration: Configuration, *, current: bool = True) -> None:
    device = device_of(configuration)
    for _ in left.save(device, configuration.tunnel.uid, configuration.generation, lambda: current):
        pass


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(tmp_path / "peers")


def test_it_comes_back_as_it_was(left: Left, tmp_path: Path) -> None:
    save(left, CONFIGURATION)
    found = left.load(SPEC.uid, 5)
    assert found is not None
    assert {b64encode(found.peer(n).public_key).decode() for n in range(found.peers)} == set(
        CONFIGURATION.peers
    )
    assert (tmp_path / "peers").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("uid", "generation"), [(SPEC.uid, 6), (SPEC.uid, 4), ("another", 5)])
def test_of_another_generation_or_tunnel_it_is_nothing(left: Left, uid: str, generation: int) -> None:
    save(left, CONFIGURATION)
    assert left.load(uid, generation) is None


def test_damaged_it_is_nothing(left: Left, tmp_path: Path) -> None:
    assert left.load(SPEC.uid, 5) is None
    save(left, CONFIGURATION)
    whole = (tmp_path / "peers").read_bytes()
    for damaged in (b"", whole[:10], whole[:30], whole[:-1]):
        (tmp_path / "peers").write_bytes(damaged)
        assert left.load(SPEC.uid, 5) is None


def test_what_was_overtaken_is_not_saved(left: Left) -> None:
    save(left, CONFIGURATION)
    save(left, CONFIGURATION.at(6), current=False)
    assert left.load(SPEC.uid, 5) is not None
    assert left.load(SPEC.uid, 6) is None


# --- which configuration is the newest --------------------------------------------------------------


PATCH = Patch(6, 5, (PeerSpec(key(9), None, ("10.8.0.9/32",)),), (key(2),))
OTHER = replace(CONFIGURATION, tunnel=replace(SPEC, uid="another"))


@pytest.mark.parametrize("packed", [True, False])
def test_an_outline_is_all_but_the_peers(packed: bool) -> None:
    outline = Configuration.outline(CONFIGURATION.dump(compressed=packed))
    assert outline == replace(CONFIGURATION, peers={})


@pytest.mark.parametrize(
    ("in_mount", "in_memory", "changed"),
    [
        (CONFIGURATION, None, False),
        (None, CONFIGURATION, False),
        (None, CONFIGURATION, True),
        (CONFIGURATION.at(6), CONFIGURATION, False),
        (CONFIGURATION.at(6), CONFIGURATION, True),
        (CONFIGURATION.at(7), CONFIGURATION, True),
        (CONFIGURATION, CONFIGURATION.at(7), False),
        (OTHER, CONFIGURATION.at(7), False),
    ],
)
def test_the_outline_is_that_of_what_is_loaded(
    accepted: Accepted,
    mounted: Path,
    in_mount: Configuration | None,
    in_memory: Configuration | None,
    changed: bool,
) -> None:
    if in_mount is not None:
        mount(mounted, in_mount)
    if in_memory is not None:
        accepted.draft(in_memory).publish()
    if changed:
        accepted.draft(CONFIGURATION.patched(PATCH), PATCH).publish()
    outline, whole = newest_outline(mounted, accepted), load_newest(mounted, accepted)
    assert outline == replace(whole, peers={})


def test_without_anything_there_is_no_outline(accepted: Accepted, mounted: Path) -> None:
    assert newest_outline(mounted, accepted) is None


# --- a pod ------------------------------------------------------------------------------------------


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_module, "WATCH_INTERVAL", 0.02)


def wait_left(pod: Pod, generation: int) -> None:
    deadline = time.monotonic() + 10
    while pod.left.load(SPEC.uid, generation) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("_hurried")
def test_a_process_leaves_what_it_serves_and_the_next_goes_on_with_it(
    pods: Callable[[str], Pod], ask: Ask
) -> None:
    pod = pods("a").start(standing=ACTIVE)
    wait_left(pod, 5)
    ask(pod, lambda s: s.put_config(CONFIGURATION.at(6)))
    ask(pod, lambda s: s.patch_peers(replace(PATCH, generation=7, base_generation=6)))
    wait_left(pod, 7)
    assert pod.left.load(SPEC.uid, 6) is None
    pod.stop()
    outline = newest_outline(pod.mounted, pod.accepted)
    assert outline is not None
    pod.start(outline, begin=pod.left.load(SPEC.uid, outline.generation))
    status = ask(pod, lambda s: s.status())
    assert status.generation == 7
    assert peers_of(pod) == {3, 4, 9}
    assert [peer.name for peer in status.peers] == ["peer-3", "peer-4", ""], "the document was read"
    assert ask(pod, lambda s: s.patch_peers(Patch(8, 7, (), (key(9),)))).generation == 8
    assert peers_of(pod) == {3, 4}
    assert pod.accepted.load_configuration() == pod.gateway.configuration


@pytest.mark.usefixtures("_hurried")
def test_where_the_document_cannot_be_read_any_more_the_next_process_begins_anew(
    pods: Callable[[str], Pod], ask: Ask
) -> None:
    pod = pods("a").start(standing=ACTIVE)
    ask(pod, lambda s: s.put_config(CONFIGURATION.at(6)))
    ask(pod, lambda s: s.patch_peers(replace(PATCH, generation=7, base_generation=6)))
    ask(pod, lambda s: s.patch_peers(Patch(8, 7, (), (key(9),))))
    wait_left(pod, 8)
    pod.stop()
    outline = newest_outline(pod.mounted, pod.accepted)
    assert outline is not None
    begin = pod.left.load(SPEC.uid, outline.generation)
    journal = (pod.directory / JOURNAL_FILE).read_bytes()
    (pod.directory / JOURNAL_FILE).write_bytes(journal.replace(b"10.8.0.9", b"10.8.0.7"))
    mount(pod.mounted, CONFIGURATION)
    pod.start(outline, begin=begin)
    pod.tunnel.join()
    assert pod.left.load(SPEC.uid, 8) is None
    assert pod.gateway.configuration.peers == {}
